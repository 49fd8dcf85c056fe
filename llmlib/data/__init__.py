"""Corpora, cleaning, tokenizers, mixtures and packing."""
