r"""How much a document helps a target: whether both pull the model the same way.

One step of size $\eta$ on document $i$ lowers the target's loss by $\eta\,\langle \nabla \ell_i,
\nabla \ell_{\text{target}} \rangle$, to first order. The product is symmetric: it is also the slope
of the document's loss along the target's gradient. So no document's gradient is needed. Move the
model a little along that one direction, forth and back, and see how much each loss changes:

$\langle \nabla \ell_i(\theta), v \rangle \approx
\frac{\ell_i(\theta + \varepsilon v) - \ell_i(\theta - \varepsilon v)}{2 \varepsilon}$

That takes two forward passes a document, where its gradient would take three times a forward pass
and as much memory as the model.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def influence(
    losses: Callable[[], Float[Tensor, " documents"]],
    parameters: Sequence[Tensor],
    direction: Sequence[Tensor],
    *,
    step: float = 1e-3,
) -> Float[Tensor, " documents"]:
    """Measure the slope of many losses along one direction of the parameters.

    Args:
        losses: Returns each document's loss under the parameters as they are; called twice.
            Documents of equal length compare fairly: short ones have larger gradients.
        parameters: Moved in place and put back.
        direction: The target's gradient, a tensor a parameter, or the gradient as an optimizer
            would scale it.
        step: Length of the move in each direction, as a share of the parameters' norm. Too small
            drowns in rounding, too large leaves the tangent.

    Returns:
        The product of each document's gradient with the direction: the larger, the more it helps.

    Raises:
        ValueError: If the direction does not fit the parameters, is zero or not finite, or the
            step is not positive.

    Example:
        >>> theta = torch.tensor([1.0, 2.0])
        >>> scores = influence(
        ...     lambda: torch.stack([theta[0] ** 2, theta[0] * theta[1]]),
        ...     [theta], [torch.tensor([3.0, 1.0])],
        ... )
        >>> [round(score, 2) for score in scores.tolist()]  # (2, 0) and (2, 1) times (3, 1)
        [6.0, 7.0]

    References:
        Pruthi et al. (2020), Estimating Training Data Influence by Tracing Gradient Descent,
        section 3 (the product, summed over checkpoints); Xia et al. (2024), LESS, section 2 (with
        Adam's scaling and normalized gradients, which are projected at random instead).
    """
    if [p.shape for p in parameters] != [v.shape for v in direction] or not len(parameters):
        raise ValueError("the direction needs one tensor of the same shape for each parameter")
    length = torch.stack([v.norm() for v in direction]).norm().item()
    size = torch.stack([p.norm() for p in parameters]).norm().item()
    if not (0 < length < float("inf")) or not step > 0:
        raise ValueError(f"step={step} must be positive, and a direction of length {length} too")
    epsilon = step * max(size, 1e-12) / length
    before = [p.clone() for p in parameters]
    try:
        ends = []
        for sign in (1, -1):
            for p, start, v in zip(parameters, before, direction, strict=True):
                p.copy_(start + sign * epsilon * v)
            ends.append(losses())
    finally:
        for p, start in zip(parameters, before, strict=True):
            p.copy_(start)
    return (ends[0] - ends[1]) / (2 * epsilon)
