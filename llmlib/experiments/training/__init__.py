"""Long runs of the chapter on training."""
