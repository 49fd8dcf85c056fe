"""One module a long run; its results are committed under `data/results`."""
