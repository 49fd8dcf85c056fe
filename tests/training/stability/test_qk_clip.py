"""QK-clip brings the largest logit of a head to the limit and touches nothing else."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from llmlib.architecture.attention.latent import LatentAttention
from llmlib.architecture.attention.multihead import Attention, attention_weights, causal_mask
from llmlib.architecture.block import Block
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Layout
from llmlib.architecture.transformer import Transformer
from llmlib.training.stability.qk_clip import largest_logits, qk_clip

TOKENS = torch.randint(29, (3, 13), generator=torch.Generator().manual_seed(1))

DESIGNS: dict[str, dict[str, Any]] = {
    "a key for each head": {},
    "with biases": {"qkv_bias": True},
    "grouped": {"n_heads": 6, "n_kv_heads": 2, "head_dim": 4},
    "one key for all": {"n_kv_heads": 1},
    "latent": {"mixer": "latent", "latent_dim": 7, "query_latent_dim": 11, "rope_head_dim": 2},
    "latent without rotation": {"mixer": "latent", "latent_dim": 7, "position": "none"},
    "a window": {"attention": "window", "window": 5, "full_every": 2},
    "alibi": {"position": "alibi"},
    "a scale of its own": {"attention_scale": 0.7},
    "both directions": {"mask": "bidirectional"},
}


def build(**changes: Any) -> Transformer:
    torch.manual_seed(7)
    sizes: dict[str, Any] = dict(vocab_size=29, d_model=20, n_layers=2, n_heads=5, max_seq_len=13)
    model = Transformer(ModelConfig(**sizes | changes, init_std=1.0)).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return model


def first_layer(model: Transformer) -> tuple[Attention | LatentAttention, Tensor, Any]:
    """What the first layer reads, which a clip of its weights does not change."""
    context = model.context(TOKENS)
    block = cast("Block", model.blocks[0])
    mixer = block.mixer
    assert isinstance(mixer, Attention | LatentAttention)
    return mixer, block.mixer_norm(model.embed(TOKENS, context)), context


@pytest.mark.covers("train.optimizers")
@pytest.mark.parametrize("design", DESIGNS)
def test_heads_above_the_limit_come_to_it_and_others_keep_their_logits(design: str) -> None:
    model = build(**DESIGNS[design])
    attention, x, context = first_layer(model)
    before = largest_logits(attention, x, context)
    limit = before.sort().values[1:3].mean().item()  # two heads stay below, the others are above
    assert before.max() > limit > before.min()
    found = qk_clip(model, TOKENS, limit)
    after = largest_logits(attention, x, context)
    above = before > limit
    torch.testing.assert_close(found[0], before, rtol=0, atol=0)
    torch.testing.assert_close(
        after[above], torch.full_like(after[above], limit), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(after[~above], before[~above], rtol=0, atol=0)


@pytest.mark.parametrize("design", DESIGNS)
def test_only_the_rows_of_heads_above_the_limit_change(design: str) -> None:
    model = build(**DESIGNS[design])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    attention, x, context = first_layer(model)
    logits = largest_logits(attention, x, context)
    limit = logits.sort().values[-2:].mean().item()
    head, config = int(logits.argmax()), model.config
    qk_clip(model, TOKENS, limit)
    width, rotated = config.head_dim, config.rope_head_dim
    query = (slice(head * width, (head + 1) * width), 0.5)
    if config.mixer == "latent":
        start = config.n_heads * width + head * rotated
        changed = {
            "query": [query, (slice(start, start + rotated), 1.0)],
            "up": [(slice(head * width, (head + 1) * width), 0.5)],
        }
    elif config.group_size > 1:
        changed = {"qkv": [(query[0], 1.0)]}
    else:
        start = (config.n_heads + head) * width
        changed = {"qkv": [query, (slice(start, start + width), 0.5)]}
    for name, parameter in model.named_parameters():
        if name.startswith("blocks.1."):
            continue  # which has heads of its own above the limit
        expected, untouched = before[name].clone(), torch.ones(len(parameter), dtype=torch.bool)
        is_mixer = name.startswith("blocks.0.mixer.")
        for rows, power in changed.get(name.split(".")[-2], []) if is_mixer else []:
            expected[rows] *= (limit / logits[head]) ** power
            untouched[rows] = False
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-14, atol=0)
        assert torch.equal(parameter[untouched], before[name][untouched])


def test_logits_are_those_of_attention_itself() -> None:
    model = build(n_heads=6, n_kv_heads=2, head_dim=4)
    attention, x, context = first_layer(model)
    assert isinstance(attention, Attention)
    queries, keys, _ = attention.project(x, context.angles)
    keys = keys.repeat_interleave(3, dim=1)
    weights = attention_weights(queries, keys, causal_mask(13))
    scores = queries @ keys.mT / 2
    shifted = (scores.exp() / weights).log()[..., -1, -1]  # the normalizer of the last query
    torch.testing.assert_close(scores[..., -1, :] - shifted[..., None], weights[..., -1, :].log())
    expected = scores.masked_fill(~causal_mask(13), -torch.inf).amax((0, 2, 3))
    torch.testing.assert_close(largest_logits(attention, x, context), expected)
    assert (scores.amax((0, 2, 3)) > expected + 1e-3).any()  # a hidden pair would have been larger


def test_documents_of_a_row_do_not_see_each_other() -> None:
    model = build()
    documents = (torch.arange(13) >= 6).long().expand(3, -1)
    apart = qk_clip(model, TOKENS, 1e9, layout=Layout(documents=documents))
    halves = [qk_clip(model, part, 1e9) for part in (TOKENS[:, :6], TOKENS[:, 6:])]
    for whole, first, second in zip(apart, *halves, strict=True):
        torch.testing.assert_close(whole, torch.maximum(first, second))


def test_below_the_limit_nothing_changes_and_no_hook_stays() -> None:
    model = build()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    qk_clip(model, TOKENS, 1e9)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(m._forward_pre_hooks for m in model.modules())  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qk_norm": True}, "qk_norm bounds"),
        ({"position": "relative"}, "no product"),
        ({"rope_scaling": "rerope", "rope_window": 5}, "two logits"),
        ({"mixer": "mamba"}, "no attention logits"),
    ],
)
def test_models_whose_logits_are_not_two_weights_product(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        qk_clip(build(**changes), TOKENS, 10.0)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_is_a_positive_number(limit: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        qk_clip(build(), TOKENS, limit)
