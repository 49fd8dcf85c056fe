"""One command from raw text to a trained, evaluated language model."""
