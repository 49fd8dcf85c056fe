"""Supervised fine-tuning, rewards, preference learning, efficient recipes, compression."""
