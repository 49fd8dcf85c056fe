"""The speed run: recipes, their models, and the loop that trains them by the clock."""
