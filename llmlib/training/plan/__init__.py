"""A training run on paper: which layout fits which machines, what it sends, how long it takes."""
