"""The decoder: shapes, causality, cache, padding, configuration."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.architecture import (
    Attention,
    Block,
    FeedForward,
    KVCache,
    ModelConfig,
    Transformer,
    causal_mask,
    rope_angles,
)
from llmlib.architecture.choices import Norm, require_choice
from llmlib.architecture.context import Layout, allowed_pairs

# The models here compute in float64, but for a router of experts, which stays in float32.
CLOSE: dict[str, Any] = {"atol": 1e-6, "rtol": 1e-6}
PRIMES = {"vocab_size": 101, "d_model": 52, "n_layers": 3, "max_seq_len": 37, "d_ff": 67}


def config(**changes) -> ModelConfig:
    return ModelConfig(**{**PRIMES, "n_heads": 2, **changes})


VARIANTS = [
    config(),
    config(n_heads=13, head_dim=4, n_kv_heads=1),
    config(n_heads=6, head_dim=10, n_kv_heads=3, norm="layer", bias=True),
    config(norm="layer", norm_placement="post", activation="gelu", position="learned", bias=True),
    config(activation="geglu", position="none", tie_embeddings=False),
    config(activation="relu", qk_norm=True),
    config(position="t5", relative_buckets=6, relative_max_distance=11, qkv_bias=True),
    config(position="alibi", n_heads=13, head_dim=4, norm_placement="sandwich"),
    config(position="relative", activation="swish", norm_placement="deepnorm"),
    config(position="sinusoidal", activation="relu_squared", parallel=True, embedding_norm=True),
    config(attention="window", window=5, n_sinks=2, activation="geglu_tanh", full_every=2),
    config(attention="strided", stride=3, position="learned", activation="gelu_tanh"),
    config(attention="fixed", stride=5, n_heads=4, n_kv_heads=2, head_dim=6),
    config(mixer="latent", latent_dim=11, rope_head_dim=6),
    config(mixer="latent", latent_dim=11, query_latent_dim=13, rope_head_dim=6, mask="prefix"),
    config(n_experts=5, experts_per_token=2, n_shared_experts=1, d_ff=17),
]
STATEFUL = [
    config(mixer=mixer, norm=norm, conv_kernel=3, state_dim=6)
    for mixer, norm in (
        ("s4", "layer"), ("h3", "layer"), ("mamba", "rms"), ("rwkv", "layer"), ("retnet", "rms"),
        ("hyena", "layer"),
    )
]  # fmt: skip


def label(config: ModelConfig) -> str:
    pattern = "" if config.attention == "full" else config.attention
    experts = "experts" if config.n_experts else ""
    parts = (config.mixer, pattern, config.position, config.norm_placement, config.activation)
    return "-".join(part for part in (*parts, experts) if part)


def build(config: ModelConfig) -> Transformer:
    torch.manual_seed(1)
    model = Transformer(config).double().eval()
    if config.is_attention:
        with torch.no_grad():  # larger weights than at the start, so that mistakes show
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(5)
    return model


@pytest.fixture(params=VARIANTS, ids=label)
def model(request) -> Transformer:
    return build(request.param)


@pytest.fixture(params=VARIANTS + STATEFUL, ids=label)
def any_model(request) -> Transformer:
    return build(request.param)


def tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(PRIMES["vocab_size"], (rows, length))


def test_logits_do_not_depend_on_later_tokens(any_model):
    model = any_model
    first = tokens(3, 23)
    second = first.clone()
    second[:, 11:] = (second[:, 11:] + 1) % PRIMES["vocab_size"]
    before, after = model(first), model(second)
    torch.testing.assert_close(before[:, :11], after[:, :11])
    assert (before[:, 11:] - after[:, 11:]).abs().amax() > 1e-3


@pytest.mark.parametrize("pieces", [(23,), (1,) * 23, (7, 1, 11, 4)])
def test_cache_equals_no_cache(any_model, pieces):
    model = any_model
    ids = tokens(3, 23)
    cache = model.new_cache(3, 23)
    logits = torch.cat([model(part, cache=cache) for part in ids.split(pieces, dim=1)], dim=1)
    assert cache.length == 23
    torch.testing.assert_close(logits, model(ids), **CLOSE)


def test_left_padding_changes_nothing(model):
    ids = tokens(2, 19)
    short = ids[:1, 8:]
    padded = torch.cat((torch.zeros(1, 8, dtype=torch.long), short), dim=1)
    batch = torch.cat((padded, ids[1:]))
    padding = torch.tensor([8, 0])
    together = model(batch, layout=Layout(padding))
    torch.testing.assert_close(together[0, 8:], model(short)[0], **CLOSE)
    torch.testing.assert_close(together[1], model(ids[1:])[0], **CLOSE)
    assert together.isfinite().all()

    cache = model.new_cache(2, 19, left_padding=padding)
    parts = [model(part, cache=cache) for part in batch.split((11, 5, 1, 2), dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1)[0, 8:], together[0, 8:], **CLOSE)


def test_every_padding_token_has_a_key():
    # Without one a softmax has no answer; which kernels forgive that depends on torch's version.
    keys = torch.arange(5) - torch.tensor([[3], [0]])
    mask = allowed_pairs(keys.clamp_min(0), keys, config(), layout=Layout(torch.tensor([3, 0])))
    assert mask.any(dim=-1).all()
    assert mask[0].int().tolist()[2:] == [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]


def test_truncated_cache_forgets(model):
    ids, other = tokens(1, 17), tokens(1, 6)
    cache = model.new_cache(1, 23)
    model(ids, cache=cache)
    cache.truncate(11)
    continued = model(other, cache=cache)
    whole = model(torch.cat((ids[:, :11], other), dim=1))
    torch.testing.assert_close(continued, whole[:, 11:], **CLOSE)


def test_selected_rows_go_on_by_themselves(model):
    ids, more = tokens(3, 13), tokens(2, 5)
    cache = model.new_cache(3, 23, left_padding=torch.tensor([0, 0, 4]))
    model(ids, cache=cache)
    chosen = cache.select(torch.tensor([2, 0]))
    logits = model(more, cache=chosen)
    layout = Layout(left_padding=torch.tensor([4, 0]))
    whole = model(torch.cat((ids[[2, 0]], more), dim=1), layout=layout)
    torch.testing.assert_close(logits, whole[:, 13:], **CLOSE)


@pytest.mark.parametrize("config", STATEFUL, ids=label)
def test_selected_states_go_on_by_themselves(config):
    model, ids, more = build(config), tokens(3, 13), tokens(2, 5)
    cache = model.new_cache(3, 23)
    model(ids, cache=cache)
    rows = torch.tensor([2, 0])
    logits = model(more, cache=cache.select(rows))
    whole = model(torch.cat((ids[rows], more), dim=1))
    torch.testing.assert_close(logits, whole[:, 13:], **CLOSE)
    with pytest.raises(ValueError, match="cannot truncate to 7 tokens"):
        cache.truncate(7)
    cache.truncate(0)
    torch.testing.assert_close(model(ids, cache=cache), model(ids), **CLOSE)
    with pytest.raises(ValueError, match="equal length"):
        model(ids, layout=Layout(torch.tensor([0, 1, 2])))
    with pytest.raises(ValueError, match="equal length"):
        model(ids, layout=Layout(documents=torch.zeros_like(ids)))


@settings(max_examples=20, deadline=None)
@given(cuts=st.sets(st.integers(1, 22), max_size=4), variant=st.integers(0, len(VARIANTS) - 1))
def test_packed_documents_do_not_see_each_other(cuts, variant):
    model, ids = build(VARIANTS[variant]), tokens(1, 23)
    sizes = torch.diff(torch.tensor([0, *sorted(cuts), 23])).tolist()
    documents = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))[None]
    packed = model(ids, layout=Layout(documents=documents))
    alone = torch.cat([model(part) for part in ids.split(sizes, dim=1)], dim=1)
    torch.testing.assert_close(packed, alone, **CLOSE)


def test_a_prefix_sees_itself_whole_and_nothing_behind_it():
    model = build(config(mask="prefix"))
    ids = tokens(2, 17)
    changed = ids.clone()
    changed[:, 6] += 1 - 2 * (changed[:, 6] == 100).long()
    prefixes = Layout(prefix_lengths=torch.tensor([7, 3]))
    before = model(ids, layout=prefixes)
    after = model(changed, layout=prefixes)
    moved = (before - after).abs().amax(-1) > 1e-4
    assert moved[0].all(), "token 6 is part of the first row's prefix: all its tokens see it"
    assert moved[1].tolist() == [False] * 6 + [True] * 11
    # Without a prefix it is the causal decoder that it may be converted from, weights and all.
    causal = Transformer(config()).double().eval()
    causal.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(ids), causal(ids))
    cache = model.new_cache(2, 23)
    parts = [model(ids[:, :9], cache=cache, layout=prefixes), model(ids[:, 9:], cache=cache)]
    torch.testing.assert_close(torch.cat(parts, dim=1), before, **CLOSE)


@pytest.mark.parametrize("position", ["rope", "t5", "relative", "alibi"])
def test_a_bidirectional_model_sees_both_ways(position):
    model = build(config(mask="bidirectional", position=position, relative_max_distance=17))
    ids = tokens(1, 13)
    changed = ids.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 101
    assert ((model(ids) - model(changed)).abs().amax(-1) > 1e-4).all()
    padded = torch.cat((torch.zeros(1, 4, dtype=torch.long), ids), dim=1)
    shifted = model(padded, layout=Layout(torch.tensor([4])))[:, 4:]
    torch.testing.assert_close(shifted, model(ids), **CLOSE)
    with pytest.raises(ValueError, match="no cache"):
        model(ids, cache=model.new_cache(1, 13))


def test_arguments_that_do_not_fit_are_refused():
    model = build(config())
    with pytest.raises(ValueError, match="needs mask='prefix'"):
        model(tokens(1, 3), layout=Layout(prefix_lengths=torch.tensor([2])))
    with pytest.raises(ValueError, match="pack whole texts"):
        Layout(torch.tensor([1]), documents=torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="pack whole texts"):
        ids = tokens(1, 3)
        layout = Layout(documents=torch.zeros_like(ids))
        model(ids, layout=layout, cache=model.new_cache(1, 3))


@pytest.mark.parametrize("placement", ["pre", "sandwich", "post", "deepnorm"])
def test_deepnorm_alone_scales_the_residual(placement):
    built = build(config(norm_placement=placement, n_layers=8))
    alpha, beta = 16**0.25, 64**-0.25
    assert built.config.residual_scale == (alpha if placement == "deepnorm" else 1.0)
    if placement != "deepnorm":
        return
    Transformer(config(norm_placement=placement, mixer="mamba"))  # no feed-forward to draw
    fresh = Transformer(config(norm_placement=placement, n_layers=8, d_model=256, d_ff=512))
    block = fresh.blocks[0]
    assert isinstance(block, Block)
    assert isinstance(block.mixer, Attention)
    assert isinstance(block.feedforward, FeedForward)
    queries, _, values = block.mixer.qkv.weight.split((256, 256, 256))
    xavier = (2 / (256 + 256)) ** 0.5
    assert queries.std().item() == pytest.approx(xavier, rel=0.05)
    assert values.std().item() == pytest.approx(beta * xavier, rel=0.05)
    assert block.feedforward.out.weight.std().item() == pytest.approx(
        beta * (2 / (256 + 512)) ** 0.5, rel=0.05
    )
    x = torch.randn(2, 5, 256)
    context = fresh.context(tokens(2, 5))
    inner = block.mixer_norm(alpha * x + block.mixer(x, context))
    expected = block.feedforward_norm(alpha * inner + block.feedforward(inner))
    torch.testing.assert_close(block(x, context), expected)


@settings(max_examples=20, deadline=None)
@given(shift=st.integers(0, 20), length=st.integers(2, 13))
def test_rope_scores_depend_on_offsets_only(shift, length):
    torch.manual_seed(length)
    model = Transformer(config()).eval()
    attention = next(m for m in model.modules() if isinstance(m, Attention))
    x = torch.randn(1, length, 52)

    def scores(start: int) -> torch.Tensor:
        positions = torch.arange(start, start + length)[None]
        queries, keys, _ = attention.project(x, rope_angles(positions, model.frequencies))
        return queries @ keys.transpose(-2, -1)

    torch.testing.assert_close(scores(0), scores(shift), atol=1e-5, rtol=1e-4)


def test_too_long_a_text_is_refused():
    model = Transformer(config())
    with pytest.raises(ValueError, match="max_seq_len=37"):
        model(tokens(1, 38))
    cache = KVCache.allocate(model.config, 1, 5)
    with pytest.raises(ValueError, match="the cache holds 5 tokens"):
        model(tokens(1, 6), cache=cache)
    with pytest.raises(ValueError, match="cannot truncate"):
        cache.truncate(3)
    with pytest.raises(ValueError, match="new_cache"):
        model(tokens(1, 3), cache=cache, layout=Layout(torch.tensor([1])))
    with pytest.raises(ValueError, match="1 rows, not 2"):
        model.new_cache(2, 5, left_padding=torch.tensor([1]))
    with pytest.raises(ValueError, match="above zero"):
        model.new_cache(0, 5)
    with pytest.raises(ValueError, match="2 keys for 3 queries"):
        causal_mask(3, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 53, "head_dim": 0}, "not a multiple of n_heads"),
        ({"n_heads": 6, "head_dim": 4, "n_kv_heads": 4}, "does not divide"),
        ({"head_dim": 7}, "odd"),
        ({"n_layers": 0}, "n_layers=0 must be above zero"),
        ({"dropout": 1.0}, "below 1"),
        ({"norm_eps": -1.0}, "norm_eps"),
        ({"attention": "window"}, "needs window"),
        ({"attention": "fixed"}, "needs stride"),
        ({"attention": "window", "window": 3, "mask": "prefix"}, "is causal"),
        ({"mixer": "latent", "rope_head_dim": 4}, "needs latent_dim"),
        ({"mixer": "latent", "latent_dim": 7, "rope_head_dim": 3}, "even and above zero"),
        ({"mixer": "latent", "latent_dim": 7, "position": "alibi"}, "does not take"),
        ({"mixer": "mamba", "position": "alibi"}, "acts on attention scores"),
        ({"mixer": "hyena", "position": "none", "mask": "prefix"}, "left to right"),
        ({"rope_scaling": "yarn", "position": "none"}, "needs position='rope'"),
        ({"rope_scaling": "rerope"}, "needs rope_window"),
        ({"rope_factor": 0.5}, "stretches"),
        ({"position": "t5", "relative_max_distance": 16}, "must be above 16"),
        ({"parallel": True, "norm_placement": "post"}, "share one norm"),
        ({"n_experts": 2, "experts_per_token": 3}, "between 1 and"),
        ({"n_experts": 2, "channel_mixer": "none"}, "replace the feed-forward"),
        ({"channel_mixer": "rwkv"}, "mixer='attention' has no room for: set mixer='rwkv'"),
        (
            {"mixer": "latent", "latent_dim": 7, "rope_head_dim": 4, "channel_mixer": "rwkv"},
            "mixer='latent' has no room",
        ),
        ({"window": -1}, "must not be negative"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config().replace(**changes)


def test_an_unknown_choice_is_refused():
    # Outside the tests nothing checks the Literal types, so the configuration does.
    with pytest.raises(ValueError, match="norm='batch' is unknown: choose one of"):
        require_choice("norm", "batch", Norm)


def test_configuration_round_trips():
    original = config(n_heads=4, head_dim=6, n_kv_heads=2, qk_norm=True)
    assert ModelConfig.from_dict(original.to_dict()) == original
    with pytest.raises(ValueError, match=r"unknown ModelConfig fields \['colour'\]"):
        ModelConfig.from_dict({**original.to_dict(), "colour": 1})


def test_dropout_acts_only_in_training():
    torch.manual_seed(2)
    model = Transformer(config(dropout=0.4))
    ids = tokens(2, 11)
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_the_embedding_scale_multiplies_the_tokens_and_not_their_positions(position):
    plain = build(config(position=position, tie_embeddings=False))
    scaled = Transformer(plain.config.replace(embedding_scale=7.0)).double().eval()
    state = plain.state_dict()
    scaled.load_state_dict({**state, "embedding.weight": state["embedding.weight"] / 7})
    ids = tokens(2, 13)
    torch.testing.assert_close(scaled(ids), plain(ids), **CLOSE)


def test_initial_loss_is_uniform():
    torch.manual_seed(3)
    model = Transformer(config())
    ids = tokens(5, 32)
    loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - torch.log(torch.tensor(101.0)).item()) < 0.1
