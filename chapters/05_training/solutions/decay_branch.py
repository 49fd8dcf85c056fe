def decay_branch(peak, at, decay):
    """Return the rate of each update of a branch that falls to zero in the shape `sqrt`."""
    return {at + k: peak * (1 - (k / decay) ** 0.5) for k in range(1, decay + 1)}
