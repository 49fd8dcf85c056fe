"""The unigram language model: trained by expectation-maximization, cut by its best path."""
