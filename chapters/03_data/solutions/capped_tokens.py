from collections.abc import Sequence


def capped_tokens(sizes: Sequence[float], budget: float, max_epochs: float) -> list[float]:
    """Share a budget evenly among sources, none read more than so many times."""
    given = [0.0] * len(sizes)
    left = budget
    for done, i in enumerate(sorted(range(len(sizes)), key=lambda i: sizes[i])):
        given[i] = min(max_epochs * sizes[i], left / (len(sizes) - done))
        left -= given[i]
    return given
