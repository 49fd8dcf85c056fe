from torch import Tensor


def scaled_scores(queries: Tensor, keys: Tensor) -> Tensor:
    """Score every query [*batch, T, K] with every key [*batch, S, K]: [*batch, T, S]."""
    return queries @ keys.mT / queries.shape[-1] ** 0.5
