def entropy_of_parts(highest, sums, weighted):
    """Bring each process's sums to the largest logit of all, then add them up."""
    top = highest.amax(dim=0)
    scale = (highest - top).exp()  # 0 for a process that has no word
    normalizer = (scale * sums).sum(dim=0)
    return top + normalizer.log() - (scale * weighted).sum(dim=0) / normalizer
