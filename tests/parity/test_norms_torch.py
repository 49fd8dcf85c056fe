"""Our norms and activations equal PyTorch's, values and gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture import ModelConfig, RMSNorm
from llmlib.architecture.choices import Activation, Norm
from llmlib.architecture.feedforward import FeedForward, activate
from llmlib.architecture.norms import make_norm

B, T, D = 2, 7, 13  # distinct primes
F_WIDTH = 17


def config(**changes) -> ModelConfig:
    sizes = {"vocab_size": 11, "d_model": D, "n_layers": 1, "n_heads": 1, "max_seq_len": T}
    return ModelConfig(**{**sizes, "position": "none", **changes})


def outputs_and_gradients(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    return [output, *torch.autograd.grad((output * weights).sum(), inputs)]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Write the definition out: the root is taken of the variance, once."""
    centered = x - x.mean(dim=-1, keepdim=True)
    variance = centered.square().mean(dim=-1, keepdim=True)
    scaled = weight * centered / torch.sqrt(variance + eps)
    return scaled if bias is None else scaled + bias


def root_mean_square_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps)


@pytest.mark.covers("arch.norm-kinds")
@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_rms_norm_equals_torchs(eps: float, scale: float) -> None:
    ours, theirs = RMSNorm(D, eps), nn.RMSNorm(D, eps)
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.linspace(-1, 2, D))
    x = (scale * torch.randn(B, T, D)).requires_grad_()
    mine = outputs_and_gradients(ours(x), [x, ours.weight])
    assert isinstance(theirs.weight, Tensor)
    torch.testing.assert_close(
        mine, outputs_and_gradients(theirs(x), [x, theirs.weight]), rtol=1e-5, atol=1e-5
    )
    by_hand = root_mean_square_norm(x, ours.weight, eps)
    torch.testing.assert_close(
        mine, outputs_and_gradients(by_hand, [x, ours.weight]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.covers("arch.norm-kinds", "arch.bias")
@pytest.mark.parametrize("has_bias", [False, True])
def test_layer_norm_equals_torchs_and_the_definition(has_bias: bool) -> None:
    eps = 0.01
    ours = make_norm(config(norm="layer", norm_bias=has_bias, norm_eps=eps))
    names = [name for name, _ in ours.named_parameters()]
    assert names == (["weight", "bias"] if has_bias else ["weight"])
    weight = ours.get_parameter("weight")
    bias = ours.get_parameter("bias") if has_bias else None
    with torch.no_grad():
        weight.copy_(torch.linspace(-1, 2, D))
        if bias is not None:
            bias.copy_(torch.linspace(3, -1, D))
    x = (5 + 3 * torch.randn(B, T, D)).requires_grad_()
    inputs = [x, weight] + ([] if bias is None else [bias])
    mine = outputs_and_gradients(ours(x), inputs)
    functional = F.layer_norm(x, (D,), weight, bias, eps)
    for theirs in (functional, layer_norm(x, weight, bias, eps)):
        torch.testing.assert_close(
            mine, outputs_and_gradients(theirs, inputs), rtol=1e-5, atol=1e-5
        )


@pytest.mark.covers("arch.norm-kinds")
def test_the_root_of_the_standard_deviation_does_not_normalize() -> None:
    """The survey's table divides by the root of sigma, which it defines as a root already."""
    x = 5 + 3 * torch.randn(997, D, dtype=torch.float64)
    centered = x - x.mean(dim=-1, keepdim=True)
    sigma = centered.square().mean(dim=-1, keepdim=True).sqrt()
    as_printed = centered / sigma.sqrt()
    right = make_norm(config(norm="layer", norm_eps=1e-12)).double()(x)
    torch.testing.assert_close(right.var(dim=-1, correction=0), torch.ones(997).double())
    torch.testing.assert_close(as_printed.var(dim=-1, correction=0), sigma.squeeze(-1))
    assert as_printed.var(dim=-1, correction=0).mean() > 2


@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_shifts_and_scales_that_a_norm_ignores(norm: Norm) -> None:
    layer = make_norm(config(norm=norm, norm_eps=1e-12)).double()
    x = torch.randn(T, D, dtype=torch.float64)
    torch.testing.assert_close(layer(5 * x), layer(x))
    shifted = (layer(x + 1) - layer(x)).abs().max()
    assert shifted < 1e-9 if norm == "layer" else shifted > 0.1


def _gated(gate: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def apply(hidden: Tensor) -> Tensor:
        first, second = hidden.chunk(2, dim=-1)
        return gate(first) * second

    return apply


TORCHS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "relu": nn.ReLU(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU(approximate="tanh"),
    "swish": nn.SiLU(),
    "swiglu": _gated(nn.SiLU()),
    "geglu": _gated(nn.GELU()),
    "geglu_tanh": _gated(nn.GELU(approximate="tanh")),
    "relu_squared": lambda x: nn.ReLU()(x) ** 2,
}


@pytest.mark.covers("arch.activations")
@pytest.mark.parametrize("kind", TORCHS)
def test_activations_equal_torchs(kind: Activation) -> None:
    hidden = (3 * torch.randn(B, T, 2 * F_WIDTH)).requires_grad_()
    torch.testing.assert_close(
        outputs_and_gradients(activate(hidden, kind), [hidden]),
        outputs_and_gradients(TORCHS[kind](hidden), [hidden]),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.covers("arch.activations", "arch.bias")
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("kind", TORCHS)
def test_the_layer_equals_its_equation_in_torchs_modules(kind: Activation, has_bias: bool) -> None:
    layer = FeedForward(config(activation=kind, d_ff=F_WIDTH, bias=has_bias))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    x = torch.randn(B, T, D, requires_grad=True)
    inputs = [x, *layer.parameters()]
    inner = TORCHS[kind](F.linear(x, layer.up.weight, layer.up.bias))
    theirs = F.linear(inner, layer.out.weight, layer.out.bias)
    torch.testing.assert_close(
        outputs_and_gradients(layer(x), inputs),
        outputs_and_gradients(theirs, inputs),
        rtol=1e-4,  # sums of products of unit normals, some near zero
        atol=1e-4,
    )
