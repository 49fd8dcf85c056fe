"""Experiments of the chapter on architecture."""
