import math


def norm_of_parts(split, partial, copied):
    """Square each number of the whole gradient once."""
    once = [gradient for own in split for gradient in own]
    once += [sum(summands) for summands in zip(*partial, strict=True)]
    once += copied[0]
    return math.sqrt(sum(float(gradient.square().sum()) for gradient in once))
