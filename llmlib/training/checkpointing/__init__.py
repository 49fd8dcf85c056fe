"""Steps on disk: weights, optimizer and random state, whole or not at all."""
