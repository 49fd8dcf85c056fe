from torch import Tensor


def outer_step(
    shared: Tensor, workers: Tensor, velocity: Tensor, lr: float, momentum: float
) -> tuple[Tensor, Tensor]:
    """Return the shared weights and the velocity after a meeting of the workers, one a row."""
    gradient = shared - workers.mean(0)
    velocity = momentum * velocity + gradient
    return shared - lr * (gradient + momentum * velocity), velocity
