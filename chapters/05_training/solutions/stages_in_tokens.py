from itertools import pairwise


def stages_in_tokens(stages, length):
    """Return points (tokens before, tokens of an update) for stages (update, sequences)."""
    points = [(0, stages[0][1] * length)]
    tokens = 0
    for (start, size), (end, next_size) in pairwise(stages):
        tokens += (end - start) * size * length  # read with the batch before the change
        points.append((tokens, next_size * length))
    return points
