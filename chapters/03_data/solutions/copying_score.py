from torch import Tensor


def copying_score(after_itself: Tensor, after_another: Tensor) -> Tensor:
    """Return what a token costs less after its own passage; both losses are [N, 2T - 1]."""
    T = (after_itself.shape[1] + 1) // 2
    return after_another[:, T:].mean() - after_itself[:, T:].mean()
