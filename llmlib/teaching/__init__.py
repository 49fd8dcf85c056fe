"""Exercise checks, grading and progress."""
