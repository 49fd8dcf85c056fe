"""AdamW, Muon, both together, and the schedules of their learning rates."""
