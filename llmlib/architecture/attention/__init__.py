"""Attention: the layer, its cheaper variants, and ways to compute it in less memory."""
