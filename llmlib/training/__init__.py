"""Loops, optimizers, precision, parallelism and checkpoints."""
