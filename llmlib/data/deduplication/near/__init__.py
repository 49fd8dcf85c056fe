"""Near-duplicates: shingles, MinHash, locality-sensitive hashing, SimHash, exact joins."""
