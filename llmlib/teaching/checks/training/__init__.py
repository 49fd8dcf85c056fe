"""Checks of the exercises of the chapter on training."""
