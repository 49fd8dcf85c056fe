"""Matrices on several processes: by columns and rows, by words, in squares."""
