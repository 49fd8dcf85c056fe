from torch import Tensor


def adam_mini_step(
    weight: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the new weight [rows, columns], mean [rows, columns] and square [rows]."""
    beta1, beta2 = betas
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient.square().mean(dim=1)
    size = (square / (1 - beta2**step)).sqrt() + eps  # one for all numbers of a row
    weight = weight - lr * mean / (1 - beta1**step) / size.unsqueeze(1)
    return weight, mean, square
