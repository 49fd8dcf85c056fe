"""Filters that rules decide: C4's, Gopher's, repetition, key words."""
