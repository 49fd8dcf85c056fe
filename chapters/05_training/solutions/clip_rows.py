def clip_rows(weight, gradient, limit, floor):
    """Brock et al. (2021): a unit's gradient is at most `limit` times the size of its weights."""
    size = weight.norm(dim=1, keepdim=True).clamp_min(floor)
    norm = gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)  # a row of zeros stays
    return gradient * (limit * size / norm).clamp_max(1)
