"""How fast a step could be, how fast it is, and where its time goes."""
