from collections.abc import Mapping


def best_vocabulary(
    tokens_per_byte: Mapping[int, float],
    layers: float,
    d: int,
    tied: bool = True,
    budget: float | None = None,
) -> int | None:
    """Return the size of the list with the least work a byte among those that fit."""
    matrices = 1 if tied else 2
    work = {
        size: 2 * (layers + d * size) * rate
        for size, rate in tokens_per_byte.items()
        if budget is None or layers + matrices * d * size <= budget
    }
    return min(work, key=work.__getitem__, default=None)
