"""How a decoder learns the order of its tokens, and how rotations are stretched beyond it."""
