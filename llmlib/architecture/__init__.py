"""The decoder and its siblings, pre-trained weights, and counts of a configuration."""
