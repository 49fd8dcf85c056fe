import torch
from torch import Tensor


def gated_feedforward(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Apply a SwiGLU layer to x [..., D]; gate and up are [F, D], down is [D, F]."""
    gates, values = x @ gate.mT, x @ up.mT  # [..., F] both
    return (gates * torch.sigmoid(gates) * values) @ down.mT
