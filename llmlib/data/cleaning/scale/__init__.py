"""Cleaning in several processes, over many files, and what a whole crawl would cost."""
