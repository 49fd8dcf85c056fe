from torch import Tensor


def decayed_share(rates: Tensor, weight_decay: float) -> float:
    """Return the share of a first weight that AdamW's decay leaves after steps of these rates."""
    return float((1 - rates.double() * weight_decay).prod())
