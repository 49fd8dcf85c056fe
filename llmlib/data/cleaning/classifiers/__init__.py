"""Filters that a model decides: language, quality, toxicity, perplexity, and what they share."""
