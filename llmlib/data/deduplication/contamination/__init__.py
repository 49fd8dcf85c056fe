"""Evaluation text inside training text: found, counted, cut out."""
