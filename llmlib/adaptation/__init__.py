"""Supervised fine-tuning, rewards, preference learning, parameter-efficient recipes, compression."""
