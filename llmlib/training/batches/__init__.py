"""How many tokens an update learns from: ramps, published settings, and the noise that decides."""
