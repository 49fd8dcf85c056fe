"""Experiments of the chapter on data."""
