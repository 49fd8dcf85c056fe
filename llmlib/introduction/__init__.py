"""n-grams and early neural language models."""
