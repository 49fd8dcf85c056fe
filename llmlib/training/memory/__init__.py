"""Where a training step's bytes go, and how to do with fewer."""
