from torch import Tensor


def talk_after(documents: Tensor, asks: Tensor, talks: Tensor) -> float:
    """Return how often talk follows where a document of any of K kinds opens with a question."""
    asking = documents * asks  # [K]
    return float((asking * talks).sum() / asking.sum())
