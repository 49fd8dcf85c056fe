from torch import Tensor


def rms_norm_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients at x [..., D] and at the weight [D] of y = weight * x / rho."""
    rho = (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    z = x / rho  # the normalized rows
    g = grad_y * weight  # the gradient at z
    grad_x = (g - z * (g * z).mean(dim=-1, keepdim=True)) / rho  # no part along x remains
    grad_weight = (grad_y * z).flatten(0, -2).sum(dim=0)  # every row uses the same weight
    return grad_x, grad_weight
