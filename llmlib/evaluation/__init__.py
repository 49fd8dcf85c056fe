"""Scorers, benchmarks and judges."""
