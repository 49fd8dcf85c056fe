"""Where the norms stand: each placement against its equation, DeepNorm's start, biases counted."""

import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture import (
    Attention,
    Block,
    FeedForward,
    LatentAttention,
    MixtureOfExperts,
    ModelConfig,
    Transformer,
)
from llmlib.architecture.counts import parameters

SIZES: dict[str, Any] = {"vocab_size": 53, "d_model": 14, "n_layers": 3, "max_seq_len": 11}
SIZES |= {"n_heads": 7, "head_dim": 2, "d_ff": 19}


def config(**changes) -> ModelConfig:
    return ModelConfig(**{**SIZES, **changes})


def disturbed(model: nn.Module) -> nn.Module:
    """Give every weight a value of its own, so that a norm that is skipped or swapped shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def norm(x: Tensor, layer: nn.Module) -> Tensor:
    weight = layer.get_parameter("weight")
    return F.layer_norm(x, weight.shape, weight, layer.get_parameter("bias"), 1e-5)


def equation(block: Block, x: Tensor, mix: Any, placement: str) -> Tensor:
    """Apply a block as table 4 of the survey writes it."""
    forward = block.feedforward
    first, second = block.mixer_norm, getattr(block, "feedforward_norm", block.mixer_norm)
    if placement == "parallel":
        return x + mix(norm(x, first)) + forward(norm(x, first))
    if placement == "pre":
        x = x + mix(norm(x, first))
        return x + forward(norm(x, second))
    if placement == "sandwich":
        x = x + norm(mix(norm(x, first)), block.get_submodule("mixer_out_norm"))
        return x + norm(forward(norm(x, second)), block.get_submodule("feedforward_out_norm"))
    alpha = (2 * SIZES["n_layers"]) ** 0.25 if placement == "deepnorm" else 1
    x = norm(alpha * x + mix(x), first)
    return norm(alpha * x + forward(x), second)


@pytest.mark.covers("arch.norm-placement", "arch.norm-kinds")
@pytest.mark.parametrize("placement", ["pre", "post", "sandwich", "deepnorm", "parallel"])
def test_each_placement_is_its_equation(placement: str) -> None:
    changes = {"parallel": True} if placement == "parallel" else {"norm_placement": placement}
    model = Transformer(config(norm="layer", bias=True, activation="gelu", **changes))
    disturbed(model)
    tokens = torch.randint(SIZES["vocab_size"], (2, 11))
    context = model.context(tokens)
    x = expected = model.embedding(tokens)
    for block in model.blocks:
        assert isinstance(block, Block)

        def mix(y: Tensor, mixer: nn.Module = block.mixer) -> Tensor:
            return mixer(y, context)

        expected = equation(block, expected, mix, placement)
        x = block(x, context)
        torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5)
    ends_with_norm = placement in ("post", "deepnorm")
    assert isinstance(model.norm, nn.Identity) == ends_with_norm
    last = x if ends_with_norm else norm(x, model.norm)
    torch.testing.assert_close(model.hidden(tokens), last, rtol=1e-5, atol=1e-5)


@pytest.mark.covers("arch.norm-placement")
def test_the_embedding_norm_stands_right_after_the_embedding() -> None:
    model = Transformer(config(norm="layer", bias=True, embedding_norm=True, position="learned"))
    disturbed(model)
    tokens = torch.randint(SIZES["vocab_size"], (2, 11))
    seen: list[Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(tokens)
    embedded = model.embedding(tokens) + model.position_embedding(torch.arange(11))
    torch.testing.assert_close(seen[0], norm(embedded, model.embedding_norm))


@pytest.mark.covers("arch.norm-kinds")
@pytest.mark.parametrize("n_layers", [1, 2, 6, 18])
def test_deepnorms_alpha_grows_with_the_depth(n_layers: int) -> None:
    deep = config(n_layers=n_layers, norm_placement="deepnorm")
    assert deep.residual_scale == pytest.approx((2 * n_layers) ** (1 / 4))
    assert config(n_layers=n_layers, norm_placement="post").residual_scale == 1


@pytest.mark.covers("arch.norm-kinds")
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize("n_layers", [2, 11])
def test_deepnorms_initial_weights_have_its_standard_deviations(
    n_layers: int, activation: Any
) -> None:
    """Xavier's sqrt(2 / (fan in + fan out)), times beta but for queries and keys."""
    width, key_width, value_width, d_ff = 130, 14 * 9, 7 * 9, 211
    deep = config(
        d_model=width, n_heads=14, n_kv_heads=7, head_dim=9, position="none", d_ff=d_ff,
        n_layers=n_layers, norm_placement="deepnorm", activation=activation, bias=True,
    )  # fmt: skip
    beta = (8 * n_layers) ** (-1 / 4)
    for block in Transformer(deep).blocks:
        assert isinstance(block.mixer, Attention) and isinstance(block.feedforward, FeedForward)
        queries, keys, values = block.mixer.qkv.weight.split((key_width, value_width, value_width))
        ups = block.feedforward.up.weight.split(d_ff)
        assert len(ups) == (2 if activation == "swiglu" else 1)
        expected = [(queries, 1.0), (keys, 1.0), (values, beta), (block.mixer.out.weight, beta)]
        expected += [(up, beta) for up in (*ups, block.feedforward.out.weight)]
        for weight, gain in expected:
            std = gain * math.sqrt(2 / sum(weight.shape))
            # Eight times the standard error of an estimated standard deviation.
            tolerance = 8 * std / math.sqrt(2 * weight.numel())
            assert weight.std().item() == pytest.approx(std, abs=tolerance)
            assert abs(weight.mean().item()) < 8 * std / math.sqrt(weight.numel())
        for name, vector in block.named_parameters():
            if vector.dim() == 1:
                assert (vector == (1.0 if name.endswith("norm.weight") else 0.0)).all(), name


def test_deepnorms_gains_reach_latent_attention_and_experts() -> None:
    deep = config(
        d_model=130, n_heads=13, n_kv_heads=13, head_dim=14, mixer="latent", latent_dim=97,
        rope_head_dim=6, d_ff=101, n_experts=5, experts_per_token=2, n_shared_experts=1,
        n_layers=3, norm_placement="deepnorm", activation="swiglu",
    )  # fmt: skip
    beta, width = 24 ** (-1 / 4), 13 * 14
    for block in Transformer(deep).blocks:
        latent, experts = block.mixer, block.feedforward
        assert isinstance(latent, LatentAttention) and isinstance(experts, MixtureOfExperts)
        assert experts.shared is not None
        keys, values = latent.up.weight.split(width)
        expected = [(keys, 1.0), (values, beta), (latent.out.weight, beta)]
        expected += [(rows, 1.0) for rows in latent.down.weight.split((97, 6))]
        expected += [(rows, 1.0) for rows in latent.query.weight.split((width, 13 * 6))]
        expected += [(rows, beta) for rows in experts.up.weight.split(101)]
        expected += [(rows, beta) for rows in experts.out.weight.split(130)]
        expected += [(experts.router.weight, 1.0), (experts.shared.out.weight, beta)]
        for weight, gain in expected:
            std = gain * math.sqrt(2 / sum(weight.shape))
            tolerance = 8 * std / math.sqrt(2 * weight.numel())
            assert weight.std().item() == pytest.approx(std, abs=tolerance)


@pytest.mark.covers("arch.norm-kinds")
def test_a_deepnorm_block_starts_nearer_to_the_identity_the_deeper_the_model() -> None:
    """What alpha and beta are for: the sublayers' share of the residual sum shrinks with L."""
    shares = []
    for n_layers in (2, 32):
        torch.manual_seed(5)
        deep = config(
            d_model=64, n_heads=4, head_dim=16, d_ff=256, n_layers=n_layers, norm="layer",
            norm_placement="deepnorm", activation="relu",
        )  # fmt: skip
        block = Transformer(deep).blocks[0]
        x = F.layer_norm(torch.randn(1, 11, 64), (64,))
        added = block.get_submodule("feedforward")(x)
        shares.append((added.norm() / (deep.residual_scale * x).norm()).item())
    # beta enters the two matrices once each, alpha once: L^(-1/2 - 1/4)
    assert shares[0] / shares[1] == pytest.approx(16**0.75, rel=0.15)


@pytest.mark.covers("arch.bias")
@settings(max_examples=25, deadline=None)
@given(
    d_model=st.sampled_from([6, 10, 22]),
    n_layers=st.integers(1, 4),
    n_kv_heads=st.sampled_from([1, 3]),
    d_ff=st.sampled_from([17, 29]),
    activation=st.sampled_from(["gelu", "swiglu"]),
    placement=st.sampled_from(["pre", "post", "sandwich"]),
)
def test_biases_add_exactly_one_number_an_output(
    d_model: int, n_layers: int, n_kv_heads: int, d_ff: int, activation: Any, placement: Any
) -> None:
    without = config(
        d_model=d_model, n_layers=n_layers, n_heads=3, n_kv_heads=n_kv_heads, d_ff=d_ff,
        activation=activation, norm="layer", norm_placement=placement,
    )  # fmt: skip
    biased = without.replace(bias=True, qkv_bias=True, norm_bias=True)
    gates = 2 if activation == "swiglu" else 1
    linear = (3 + 2 * n_kv_heads) * 2 + d_model + gates * d_ff + d_model
    n_norms = {"pre": 2, "post": 2, "sandwich": 4}[placement] * n_layers + (placement != "post")
    difference = n_layers * linear + n_norms * d_model
    counted = [sum(p.numel() for p in Transformer(c).parameters()) for c in (biased, without)]
    assert counted[0] - counted[1] == difference
    assert parameters(biased).total - parameters(without).total == difference


@pytest.mark.covers("arch.bias")
@pytest.mark.parametrize("field", ["qkv_bias", "norm_bias"])
def test_one_kind_of_bias_alone(field: str) -> None:
    model = Transformer(config(norm="layer", **{field: True}))
    names = {re.sub(r"^blocks\.\d\.", "", name) for name, _ in model.named_parameters()}
    names = {name for name in names if "bias" in name}
    norms = {"mixer_norm.bias", "feedforward_norm.bias", "norm.bias"}
    assert names == ({"mixer.qkv.bias"} if field == "qkv_bias" else norms)
