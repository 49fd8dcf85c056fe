def step_with_sends(
    stages: int, micro_batches: int, forward: float, backward: float, send: float
) -> float:
    """Return the seconds of GPipe's step when a tensor travels while both neighbours work."""
    there = (stages - 1) * (forward + send) + micro_batches * forward
    back = (stages - 1) * (backward + send) + micro_batches * backward
    return there + back
