"""Mixture of experts: routing, and the layer that computes it."""
