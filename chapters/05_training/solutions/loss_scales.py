def loss_scales(counts: list[list[int]]) -> list[list[float]]:
    """Return what each micro-batch's mean loss is multiplied by under DDP, which averages."""
    total = sum(sum(own) for own in counts)
    return [[len(counts) * n / total for n in own] for own in counts]
