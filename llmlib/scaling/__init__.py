"""Scaling laws, budgets and FLOP arithmetic on plain numbers."""
