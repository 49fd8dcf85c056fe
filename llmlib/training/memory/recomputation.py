"""Activation recomputation: forget what the backward pass needs, and make it again for it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from llmlib.architecture.transformer import Transformer

Recomputed = Literal["blocks", "mixer", "feedforward"]
"""Whole blocks, or of each block only what lies between its mixer's or feed-forward layer's input
and output."""


def run_again(function: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    r"""Call a function, and call it again in the backward pass instead of keeping its activations.

    Autograd asks a hook for everything it would keep. Here the hook keeps a number in its place.
    When the backward pass asks for the first of them, the function runs once more on the same
    inputs, from the same state of the random generators and under the same autocast, and now the
    tensors are kept: gradients are the same to the bit. What a function of L layers costs is its
    inputs all the time and its activations once, for one more forward pass.

    The function must do the same again: what it changes outside itself it changes twice.

    Example:
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> run_again(lambda x: x * x * x, x).backward()
        >>> x.grad
        tensor(27.)

    References:
        Chen et al. (2016), Training Deep Nets with Sublinear Memory Cost, algorithm 1.
    """
    if not torch.is_grad_enabled():
        return function(*inputs, **named)
    again = _Again(partial(function, *inputs, **named), _device_of(inputs))
    with saved_tensors_hooks(again.forget, again.recall):
        return function(*inputs, **named)


class _Again:
    """What one call would have kept, by number, and how to get it back."""

    def __init__(self, call: Callable[[], Any], device: torch.device) -> None:
        self.call, self.device = call, device
        self.surroundings = _surroundings(device)
        self.n_forgotten = 0
        self.recalled: dict[int, Tensor] = {}

    def forget(self, kept: Tensor) -> int:
        self.n_forgotten += 1
        return self.n_forgotten - 1

    def recall(self, number: int) -> Tensor:
        if number not in self.recalled:
            self.recalled = self.run()
        # Handed over, so that it goes when the operation that asked for it is done.
        return self.recalled.pop(number)

    def run(self) -> dict[int, Tensor]:
        kept: list[Tensor] = []

        def keep(tensor: Tensor) -> None:  # nothing goes back along this second graph
            kept.append(tensor.detach())

        with self.surroundings(), saved_tensors_hooks(keep, lambda _: torch.empty(0)):
            self.call()
        if len(kept) != self.n_forgotten:
            raise ValueError(
                f"the function kept {self.n_forgotten} tensors at first and {len(kept)} when run "
                "again: it must do the same each time, so draw no branch from outside"
            )
        found = dict(enumerate(kept))
        kept.clear()  # the second graph lives on where a module keeps one of its results
        return found


def _surroundings(device: torch.device) -> Callable[[], Any]:
    """Note the random generators' states and autocast; return a context that brings them back."""
    devices = [device] if device.type == "cuda" else []
    states = torch.get_rng_state(), [torch.cuda.get_rng_state(d) for d in devices]
    is_cast = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type)

    @contextmanager
    def restored() -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(torch.autocast(device.type, dtype=dtype, enabled=is_cast))
            torch.set_rng_state(states[0])
            for d, state in zip(devices, states[1], strict=True):
                torch.cuda.set_rng_state(state, d)
            yield

    return restored


def _device_of(inputs: Sequence[Any]) -> torch.device:
    tensors = (x.device for x in inputs if isinstance(x, Tensor))
    return next(tensors, torch.device("cpu"))


def recompute(model: Transformer, what: Recomputed = "blocks", *, segment: int = 1) -> Transformer:
    r"""Let a decoder forget activations and make them again in the backward pass, in place.

    Only the call of some modules changes: parameters, their names and what they compute stay.

    - `blocks`: every `segment` blocks keep what the first of them reads, $B T D$ numbers. With L
      blocks of A numbers each, the peak is about $\tfrac{L}{s} B T D + s A$, least at
      $s = \sqrt{L B T D / A}$.
    - `mixer` or `feedforward`: each of these layers keeps its input and nothing inside.

    Raises:
        ValueError: If a segment is not at least one block, or is asked for of anything but blocks.

    Example:
        >>> from llmlib.architecture.config import ModelConfig
        >>> config = ModelConfig(vocab_size=7, d_model=4, n_layers=2, n_heads=1, max_seq_len=3)
        >>> model = recompute(Transformer(config))
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 7])

    References:
        Chen et al. (2016), section 4.3 (the root of the number of layers); Korthikanti et al.
        (2022), Reducing Activation Recomputation in Large Transformer Models, section 5
        (recomputing a part of each layer).
    """
    if segment < 1 or (segment > 1 and what != "blocks"):
        raise ValueError(f"segment={segment} must be at least 1, and 1 for what={what!r}")
    blocks = list(model.blocks)
    if what == "blocks":
        for start in range(0, len(blocks), segment):
            _run_as_one(blocks[start : start + segment])
        return model
    for block in blocks:
        layer = getattr(block, what, None)
        if not isinstance(layer, nn.Module):
            raise ValueError(f"the blocks of this model have no {what}: choose another part")
        _replace_call(layer, partial(run_again, layer.forward))
    return model


def _run_as_one(blocks: Sequence[nn.Module]) -> None:
    """Let the first block of a segment run all of them, and the others pass their input on."""
    # Partials, not closures: a copy of the model, or one from a file, is to run its own blocks.
    _replace_call(blocks[0], partial(run_again, partial(_one_after_other, tuple(blocks))))
    for block in blocks[1:]:
        _replace_call(block, _pass_on)


def _one_after_other(blocks: Sequence[nn.Module], x: Tensor, *others: Any) -> Tensor:
    for block in blocks:
        x = type(block).forward(block, x, *others)  # what its call was before it was replaced
    return x


def _pass_on(x: Tensor, *others: Any) -> Tensor:
    return x


def _replace_call(module: nn.Module, call: Callable[..., Any]) -> None:
    cast("Any", module).forward = call
