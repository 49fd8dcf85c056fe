"""Programs beside this one: ranks, workers, and a sandbox for code from strangers."""
