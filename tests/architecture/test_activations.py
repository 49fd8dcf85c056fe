"""The feed-forward layer's activations: matched sizes, and the fused product of SwiGLU."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from llmlib.architecture import FeedForward, ModelConfig
from llmlib.architecture.choices import GATED
from llmlib.architecture.feedforward import activate
from llmlib.architecture.kernels.fused import swiglu
from llmlib.core import tracked_allocations


def config(**changes) -> ModelConfig:
    sizes: dict[str, Any] = {"vocab_size": 11, "n_layers": 1, "n_heads": 1, "max_seq_len": 7}
    return ModelConfig(**{**sizes, "position": "none", **changes})


def matrix_parameters(settings: ModelConfig) -> int:
    return sum(p.numel() for p in FeedForward(settings).parameters())


@pytest.mark.covers("arch.activations")
@pytest.mark.parametrize("gated", sorted(GATED))
@pytest.mark.parametrize("d_model", [12, 96, 132, 384])
def test_gated_layers_have_as_many_parameters_by_default(d_model: int, gated: Any) -> None:
    """Exactly, where 8 D / 3 is a multiple of 32; elsewhere the width is rounded up to one."""
    plain = matrix_parameters(config(d_model=d_model, activation="relu"))
    wide = matrix_parameters(config(d_model=d_model, activation=gated))
    assert plain == 8 * d_model**2
    if 8 * d_model % (3 * 32) == 0:
        assert wide == plain
    else:
        assert 0 < wide - plain < 3 * 32 * d_model


@pytest.mark.covers("arch.activations")
@given(d_model=st.integers(1, 10_000))
def test_the_default_width_is_eight_thirds_rounded_up_to_32(d_model: int) -> None:
    width = config(d_model=d_model, head_dim=2, activation="swiglu").d_ff
    assert width % 32 == 0
    assert 0 <= 3 * width - 8 * d_model < 3 * 32


@pytest.mark.parametrize("kind", sorted(GATED))
def test_the_gate_stands_first(kind: Any) -> None:
    gate, values = torch.tensor([[-20.0, 20.0]]), torch.tensor([[3.0, 5.0]])
    out = activate(torch.cat((gate, values), dim=-1), kind)
    torch.testing.assert_close(out, torch.tensor([[0.0, 100.0]]), atol=1e-4, rtol=0)


@pytest.mark.covers("arch.activations")
def test_the_fused_product_keeps_half_the_memory_of_the_plain_one() -> None:
    def plain(hidden: torch.Tensor) -> torch.Tensor:
        gate, up = hidden.chunk(2, dim=-1)
        return F.silu(gate) * up

    hidden = torch.randn(7, 13, 2 * 17, requires_grad=True)
    one = 7 * 13 * 17 * 4  # bytes of the result
    kept = {}
    for function in (plain, swiglu):
        with tracked_allocations() as memory:
            out = function(hidden)
            kept[function.__name__] = memory.current_bytes
        grad = torch.linspace(-1, 1, out.numel()).view(out.shape)
        (hidden.grad,) = torch.autograd.grad(out, hidden, grad)
        kept[function.__name__ + " gradient"] = hidden.grad
    # plain keeps the Swish for the backward pass, the fused one computes it again
    assert (kept["plain"], kept["swiglu"]) == (2 * one, one)
    torch.testing.assert_close(kept["plain gradient"], kept["swiglu gradient"])
