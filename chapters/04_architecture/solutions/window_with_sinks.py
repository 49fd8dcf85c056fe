from torch import Tensor


def window_with_sinks(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    """Return which keys [S] each query [T] sees: the last `window`, and the first `n_sinks`."""
    offsets = queries[:, None] - keys  # [T, S], how far a key lies behind a query
    return (offsets >= 0) & ((offsets < window) | (keys < n_sinks))
