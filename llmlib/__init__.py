"""The library of the executable survey: every technique of the book, in full."""

__version__ = "0.1.0"
