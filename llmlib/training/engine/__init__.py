"""What torch itself brings for training on several processes, made to fit our decoder."""
