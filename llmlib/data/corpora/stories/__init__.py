"""Made-up stories whose entropy is known."""
