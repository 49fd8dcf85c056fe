r"""The selective scan: a state space whose step, input and output weights depend on the token.

$$h_t = e^{\Delta_t A} \odot h_{t-1} + (\Delta_t x_t)\, b_t, \qquad y_t = h_t^\top c_t$$

for each channel with its own $\Delta_t$ and N numbers of state; $b_t$ and $c_t$ are shared by the
channels. The factor is the zero-order hold's, the input weight $\Delta_t b_t$ Euler's, as in the
paper's code: the difference is absorbed by $b_t$.

The states of all tokens would be N times as large as the input. `selective_scan` never holds them:
it works through chunks of tokens that fit a processor's cache, keeps the state between chunks, and
computes the others again in the backward pass.

References:
    Gu and Dao (2023), Mamba: Linear-Time Sequence Modeling with Selective State Spaces.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmlib.architecture.exact import wide
from llmlib.architecture.recurrent.scan import scan_in_place

# Numbers of state in the chunk that is worked on, and in one step of it: measured to fit a cache.
CHUNK_SIZE = 2**18
STEP_SIZE = 2**14


def recurrent_selective_scan(
    x: Float[Tensor, "B T D"],
    steps: Float[Tensor, "B T D"],
    rates: Float[Tensor, "D N"],
    writes: Float[Tensor, "B T N"],
    reads: Float[Tensor, "B T N"],
    initial: Float[Tensor, "B D N"] | None = None,
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B D N"]]:
    """Run the selective state space token by token, as its definition reads.

    Args:
        steps: Delta, how far each channel's clock moves on at a token, above 0.
        rates: A, negative: how fast each number of state fades.
        writes: b, the weights with which a token enters the state.
        reads: c, the weights with which the state is read.

    Example:
        >>> one = torch.ones(1, 2, 1)
        >>> y, h = recurrent_selective_scan(one, one, torch.tensor([[-0.6931472]]), one, one)
        >>> y.flatten().tolist(), h.item()
        ([1.0, 1.5], 1.5)

    References:
        Gu and Dao (2023), equation 2 and algorithm 2.
    """
    state = x.new_zeros(x.shape[0], *rates.shape) if initial is None else initial
    outputs = []
    for t in range(x.shape[1]):
        decay = (steps[:, t].unsqueeze(-1) * rates).exp()  # [B, D, N]
        state = decay * state + (steps * x)[:, t].unsqueeze(-1) * writes[:, t].unsqueeze(1)
        outputs.append((state @ reads[:, t].unsqueeze(-1)).squeeze(-1))
    return torch.stack(outputs, dim=1), state


def selective_scan(
    x: Float[Tensor, "B T D"],
    steps: Float[Tensor, "B T D"],
    rates: Float[Tensor, "D N"],
    writes: Float[Tensor, "B T N"],
    reads: Float[Tensor, "B T N"],
    initial: Float[Tensor, "B D N"] | None = None,
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B D N"]]:
    """Do as `recurrent_selective_scan` in chunks, with little memory and a gradient written out.

    The last state is in float32 at least.

    References:
        Gu and Dao (2023), section 3.3.2 and appendix D (recomputation).
    """
    if initial is None:
        initial = x.new_zeros(x.shape[0], *rates.shape)
    # A state is a sum over thousands of tokens: 8 bits of mantissa would round most of them away.
    # Contiguous: with the channels of a token side by side a step runs twice as fast.
    tensors = [wide(t).contiguous() for t in (x, steps, rates, writes, reads, initial)]
    with torch.autocast(x.device.type, enabled=False):
        return _SelectiveScan.apply(*tensors)  # pyright: ignore[reportReturnType]


def _parts(n_rows: int, n_tokens: int, n_states: int) -> tuple[list[slice], list[slice]]:
    """Cut rows and tokens so that one step and one chunk have about the sizes above."""
    rows = max(1, min(n_rows, STEP_SIZE // n_states))
    tokens = max(8, CHUNK_SIZE // (rows * n_states))

    def cut(n: int, size: int) -> list[slice]:
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]

    return cut(n_rows, rows), cut(n_tokens, tokens)


def _room(x: Tensor, rates: Tensor, rows: list[slice], chunks: list[slice], n: int) -> Tensor:
    """Set aside n tensors for the states of the largest chunk, to be written again and again."""
    return x.new_empty(n, chunks[0].stop, rows[0].stop, *rates.shape)


class _Chunk:
    """The factors and states of a chunk, tokens first: [T, B, N, D], channels side by side."""

    def __init__(
        self, x: Tensor, steps: Tensor, rates: Tensor, writes: Tensor, room: Tensor
    ) -> None:
        room = room[:, : x.shape[1], : x.shape[0]]
        self.steps = steps.transpose(0, 1).unsqueeze(2)  # [T, B, 1, D]
        self.x = x.transpose(0, 1).unsqueeze(2)  # [T, B, 1, D]
        self.scaled = self.steps * self.x  # [T, B, 1, D]
        self.writes = writes.transpose(0, 1).unsqueeze(-1)  # [T, B, N, 1]
        # Rates of powers of two, of which there is a faster function than of powers of e.
        self.decays = torch.mul(self.steps, rates, out=room[0]).exp2_()  # [T, B, N, D]
        # The inputs, until `scan` makes states of them.
        self.states = torch.mul(self.scaled, self.writes, out=room[1])  # [T, B, N, D]

    def scan(self, state: Tensor) -> Tensor:
        """Turn the inputs into states and return the last one."""
        self.states[0].addcmul_(self.decays[0], state)
        scan_in_place(self.decays, self.states)
        return self.states[-1]


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        steps: Tensor,
        rates: Tensor,
        writes: Tensor,
        reads: Tensor,
        initial: Tensor,
    ) -> tuple[Tensor, Tensor]:
        rows, chunks = _parts(x.shape[0], x.shape[1], rates.numel())
        transposed = rates.mT.contiguous()  # [N, D]
        outputs = torch.empty_like(x)
        # The state before each chunk, and the last one: all that the backward pass is left.
        kept = x.new_empty(len(chunks) + 1, x.shape[0], *transposed.shape)
        kept[0] = initial.mT
        binary, room = transposed / math.log(2), _room(x, transposed, rows, chunks, 2)
        for row in rows:
            for k, part in enumerate(chunks):
                at = (row, part)
                chunk = _Chunk(x[at], steps[at], binary, writes[at], room)
                kept[k + 1, row] = chunk.scan(kept[k, row])
                read = reads[at].transpose(0, 1).unsqueeze(2)  # [T, B, 1, N]
                outputs[at] = (read @ chunk.states).squeeze(2).transpose(0, 1)
        ctx.save_for_backward(x, steps, rates, writes, reads, kept[:-1])
        return outputs, kept[-1].mT.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_last: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, steps, rates, writes, reads, kept = ctx.saved_tensors
        rows, chunks = _parts(x.shape[0], x.shape[1], rates.numel())
        transposed = rates.mT.contiguous()  # [N, D]
        grads = [torch.empty_like(t) for t in (x, steps, writes, reads)]
        grad_rates = torch.zeros_like(transposed)
        # A copy even where it is contiguous: this is written to, the caller's gradient is not.
        later = grad_last.mT.clone(memory_format=torch.contiguous_format)  # [B, N, D]
        binary, room = transposed / math.log(2), _room(x, transposed, rows, chunks, 3)
        for row in rows:
            for k in range(len(chunks) - 1, -1, -1):
                at = (row, chunks[k])
                chunk = _Chunk(x[at], steps[at], binary, writes[at], room)
                chunk.scan(kept[k, row])
                read = reads[at].transpose(0, 1).unsqueeze(-1)  # [T, B, N, 1]
                owed = grad[at].transpose(0, 1)  # [T, B, D]
                grads[3][at] = (chunk.states @ owed.unsqueeze(-1)).squeeze(-1).transpose(0, 1)
                debt = room[2, : read.shape[0], : read.shape[1]]
                torch.mul(read, owed.unsqueeze(2), out=debt)
                parts = _chunk_gradients(chunk, transposed, debt, kept[k, row], later[row])
                grad_rates += parts[3]
                for whole, part in zip(grads[:3], parts[:3], strict=True):
                    whole[at] = part.transpose(0, 1)
        return grads[0], grads[1], grad_rates.mT, grads[2], grads[3], later.mT


def _chunk_gradients(
    chunk: _Chunk, rates: Tensor, debt: Tensor, before: Tensor, later: Tensor
) -> tuple[Tensor, ...]:
    """Return gradients of inputs, steps and write weights, tokens first, and of A, [N, D]."""
    # `debt`, the loss by each state through its own output, [T, B, N, D], and the chunk's states
    # are overwritten. `later` is what the chunks behind owe this one's last state; it becomes what
    # is owed to the state before this chunk.
    debt[-1] += later
    scan_in_place(chunk.decays, debt, reverse=True)  # now through all later outputs
    torch.mul(chunk.decays[0], debt[0], out=later)
    grad_writes = (debt @ chunk.scaled.mT).squeeze(-1)  # [T, B, N]
    grad_scaled = (chunk.writes.mT @ debt).squeeze(2)  # [T, B, D]
    # The loss by the exponents: each factor times what it was multiplied with.
    debt.mul_(chunk.decays)
    debt[1:].mul_(chunk.states[:-1])
    debt[0].mul_(before)
    grad_steps = torch.mul(debt, rates, out=chunk.states).sum(2)  # [T, B, D]
    grad_steps.addcmul_(grad_scaled, chunk.x.squeeze(2))
    grad_rates = debt.mul_(chunk.steps).sum((0, 1))  # [N, D]
    return grad_scaled * chunk.steps.squeeze(2), grad_steps, grad_writes, grad_rates
