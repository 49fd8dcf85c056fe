r"""The linear recurrence $h_t = a_t \odot h_{t-1} + b_t$, three ways.

Token by token it takes T steps that wait for each other. But two steps of the recurrence make one
step of the same kind, $(a, b) \circ (a', b') = (a a', a' b + b')$, and that operation is
associative: pairs can be joined first, then pairs of pairs. Such a *parallel scan* needs
$2 \log_2 T$ steps. It only ever multiplies factors together, never divides by their product, so
with factors in [0, 1] nothing overflows and what underflows was forgotten anyway.

Which is faster depends on how much work a step holds: the parallel scan does about three times as
much arithmetic in far fewer steps. `scan_in_place` decides by that; `linear_scan` has its gradient
written out, which is the same recurrence run backwards.

References:
    Blelloch (1990), Prefix Sums and Their Applications, section 1.4; Martin and Cundy (2018),
    Parallelizing Linear Recurrent Neural Nets Over Sequence Length.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# Numbers in a step from which, on a processor, one step after the other beats the parallel scan.
LARGE_STEP = 2048


def sequential_scan(
    decays: Float[Tensor, "T *#state"], inputs: Float[Tensor, "T *state"]
) -> Float[Tensor, "T *state"]:
    """Run the recurrence as its definition reads: $h_0 = b_0$, $h_t = a_t h_{t-1} + b_t$.

    Args:
        decays: The factors a; the first one is not used. Axes of length 1 stand for all states.

    Example:
        >>> sequential_scan(torch.tensor([0.5, 0.5, 0.5]), torch.tensor([4.0, 0.0, 1.0])).tolist()
        [4.0, 2.0, 2.0]
    """
    states = [inputs[0]]
    for decay, value in zip(decays[1:].unbind(0), inputs[1:].unbind(0), strict=True):
        states.append(decay * states[-1] + value)
    return torch.stack(states)


def parallel_scan_(decays: Float[Tensor, "T *#state"], values: Float[Tensor, "T *state"]) -> None:
    r"""Turn inputs into states in place by joining pairs, in $2 \log_2 T$ steps.

    Each pair's second element becomes the pair joined; those are scanned in the same way, and are
    then finished. Each first element needs one step from the finished element before it.

    Example:
        >>> values = torch.tensor([4.0, 0.0, 1.0])
        >>> parallel_scan_(torch.full((3,), 0.5), values)
        >>> values.tolist()
        [4.0, 2.0, 2.0]

    References:
        Blelloch (1990), section 1.2 (up-sweep and down-sweep).
    """
    n = values.shape[0]
    if n < 2:
        return
    whole = n // 2 * 2
    values[1::2].addcmul_(decays[1::2], values[:whole:2])
    decays[1::2].mul_(decays[:whole:2])
    parallel_scan_(decays[1::2], values[1::2])
    if n > 2:
        values[2::2].addcmul_(decays[2::2], values[1 : n - 1 : 2])


def scan_in_place(
    decays: Float[Tensor, "T *#state"], values: Float[Tensor, "T *state"], *, reverse: bool = False
) -> None:
    """Turn inputs into states in place, by whichever way is faster; the decays are kept.

    Args:
        decays: The factors a.
        values: The inputs b; become the states h.
        reverse: Run from the last to the first as gradients do, $h_t = a_{t+1} h_{t+1} + b_t$.
    """
    if values.is_cuda or values[0].numel() < LARGE_STEP:
        if not reverse:
            parallel_scan_(decays.clone(), values)
            return
        backwards = values.flip(0)
        parallel_scan_(torch.cat((decays[:1], decays[1:].flip(0))), backwards)
        values.copy_(backwards.flip(0))
        return
    steps, factors = values.unbind(0), decays.unbind(0)
    if reverse:
        for t in range(len(steps) - 2, -1, -1):
            steps[t].addcmul_(factors[t + 1], steps[t + 1])
    else:
        for t in range(1, len(steps)):
            steps[t].addcmul_(factors[t], steps[t - 1])


def linear_scan(
    decays: Float[Tensor, "B T *#state"],
    inputs: Float[Tensor, "B T *state"],
    initial: Float[Tensor, "B *state"] | None = None,
) -> Float[Tensor, "B T *state"]:
    r"""Return all states of $h_t = a_t \odot h_{t-1} + b_t$, with a gradient that costs as little.

    With $g_t$ the gradient of the loss with respect to $h_t$ through all later states,
    $g_t = \dot h_t + a_{t+1} g_{t+1}$, where $\dot h_t$ comes from the output: the recurrence
    backwards. Then $\dot b_t = g_t$ and $\dot a_t = g_t \odot h_{t-1}$.

    Example:
        >>> decays, inputs = torch.full((1, 3), 0.5), torch.tensor([[4.0, 0.0, 1.0]])
        >>> linear_scan(decays, inputs, initial=torch.tensor([2.0])).tolist()
        [[5.0, 2.5, 2.25]]

    References:
        Martin and Cundy (2018), section 2.2 and appendix A.
    """
    return _LinearScan.apply(decays, inputs, initial)  # pyright: ignore[reportReturnType]


class _LinearScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decays: Tensor, inputs: Tensor, initial: Tensor | None) -> Tensor:
        states = inputs.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        if initial is not None:
            states[0].addcmul_(decays[:, 0], initial)
        scan_in_place(decays.transpose(0, 1), states)
        states = states.transpose(0, 1)  # [B, T, ...]
        ctx.save_for_backward(decays, states, initial)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        decays, states, initial = ctx.saved_tensors
        grad = grad.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        scan_in_place(decays.transpose(0, 1), grad, reverse=True)
        grad = grad.transpose(0, 1)  # [B, T, ...]
        first = torch.zeros_like(states[:, 0]) if initial is None else initial
        grad_decays = grad * torch.cat((first.unsqueeze(1), states[:, :-1]), dim=1)
        grad_initial = None if initial is None else grad[:, 0] * decays[:, 0]
        return grad_decays.sum_to_size(decays.shape), grad, grad_initial
