"""Reading more than the trained length with the weights as they are."""
