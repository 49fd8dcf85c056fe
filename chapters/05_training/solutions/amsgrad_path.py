import torch
from torch import Tensor


def amsgrad_path(gradients: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    """Return the weights after each step, [steps, ...], from weights of zero."""
    weight = torch.zeros_like(gradients[0])
    mean, square, largest = (torch.zeros_like(weight) for _ in range(3))
    path = []
    for step, gradient in enumerate(gradients, start=1):
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        largest = torch.maximum(largest, square)  # and `square` goes on falling
        size = (largest / (1 - beta2**step)).sqrt() + eps
        weight = weight - lr * mean / (1 - beta1**step) / size
        path.append(weight)
    return torch.stack(path)
