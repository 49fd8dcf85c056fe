"""Number formats of few bits: elements, rounding, blocks with scales, layers that use them."""
