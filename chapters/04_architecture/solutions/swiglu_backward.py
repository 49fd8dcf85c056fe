import torch
from torch import Tensor


def swiglu_backward(grad_y: Tensor, gate: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of swish(gate) * values at the gate and at the values."""
    s = torch.sigmoid(gate)
    grad_gate = grad_y * values * (s + gate * s * (1 - s))  # swish' by the product rule
    return grad_gate, grad_y * gate * s
