"""Layers on several processes: in which order a stage works, and the stages themselves."""
