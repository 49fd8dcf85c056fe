"""Sparse attention: the patterns, their number of pairs, and the form that pays for those alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.architecture import ModelConfig, Transformer, causal_mask
from llmlib.architecture import scaled_dot_product_attention as attend
from llmlib.architecture.attention.sparse_blocks import sparse_attention
from llmlib.architecture.attention.sparse_masks import (
    count_attended_pairs,
    fixed_mask,
    global_mask,
    sparse_mask,
    strided_mask,
    window_mask,
)
from llmlib.core.hardware.memory import tracked_allocations

LENGTHS = st.integers(1, 61)


def config(kind: str, size: int = 5, **changes) -> ModelConfig:
    shape = {"vocab_size": 11, "d_model": 14, "n_layers": 2, "n_heads": 7, "max_seq_len": 97}
    field = "window" if kind == "window" else "stride"
    return ModelConfig(**{**shape, "attention": kind, field: size, **changes})


def three(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(shape), torch.randn(shape), torch.randn(shape)


def pattern(kind: str, n_tokens: int, **changes) -> torch.Tensor:
    positions = torch.arange(n_tokens)[None]
    return sparse_mask(config(kind, **changes), positions, positions)[0]


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [
        ("window", lambda i, j: i - 3 < j <= i),
        ("strided", lambda i, j: j <= i and (j > i - 3 or (i - j) % 3 == 0)),
        ("fixed", lambda i, j: j <= i and (i // 3 == j // 3 or j % 3 == 2)),
    ],
)
def test_patterns_equal_their_definitions(kind, allowed):
    expected = torch.tensor([[allowed(i, j) for j in range(17)] for i in range(17)])
    assert torch.equal(pattern(kind, 17, size=3), expected)


def test_a_mask_depends_on_positions_alone():
    queries, keys = torch.tensor([[13, 14]]), torch.arange(3, 15)[None]
    for kind in ("window", "strided", "fixed"):
        whole = pattern(kind, 15, size=4, n_sinks=2)
        part = sparse_mask(config(kind, 4, n_sinks=2), queries, keys)[0]
        assert torch.equal(part, whole[13:15, 3:15])


def test_sinks_are_seen_by_every_later_token():
    positions = torch.arange(11)
    mask = window_mask(positions, positions, window=3, n_sinks=2)
    assert mask[:, :2].tril().sum() == 21 and mask[10].int().tolist() == [1, 1] + [0] * 6 + [1] * 3
    for kind in ("strided", "fixed"):
        assert torch.equal(pattern(kind, 23, n_sinks=2)[:, :2], causal_mask(23)[:, :2])


@pytest.mark.covers("arch.attn-sparse")
@pytest.mark.parametrize("kind", ["full", "window", "strided", "fixed"])
@given(n_tokens=LENGTHS, size=st.integers(1, 67), n_sinks=st.integers(0, 7))
def test_the_number_of_pairs_has_a_closed_form(kind, n_tokens, size, n_sinks):
    chosen = config(kind, size, n_sinks=n_sinks if kind == "window" else 0)
    positions = torch.arange(n_tokens)[None]
    assert count_attended_pairs(chosen, n_tokens) == sparse_mask(chosen, positions, positions).sum()


@pytest.mark.parametrize("kind", ["strided", "fixed"])
def test_pairs_grow_with_the_root_of_the_length(kind):
    ratios = [
        count_attended_pairs(config(kind, round(n**0.5)), n) / n**1.5 for n in (10**4, 10**6, 10**8)
    ]
    assert max(ratios) < 1.05 * min(ratios)  # T sqrt(T), whatever T
    with pytest.raises(ValueError, match="n_sinks=0"):
        count_attended_pairs(config(kind, n_sinks=1), 7)


@given(n_tokens=LENGTHS, stride=st.integers(1, 17))
def test_two_steps_reach_every_earlier_token(n_tokens, stride):
    positions = torch.arange(n_tokens)
    for make in (strided_mask, fixed_mask):
        mask = make(positions, positions, stride).float()
        assert torch.equal((mask @ mask) > 0, causal_mask(n_tokens))


def test_a_window_reaches_only_as_far_as_the_layers_carry_it():
    positions = torch.arange(31)
    mask = window_mask(positions, positions, window=4).float()
    reach = torch.linalg.matrix_power(mask, 3) > 0
    assert torch.equal(reach, window_mask(positions, positions, window=1 + 3 * 3))


@given(n_tokens=LENGTHS, window=st.integers(0, 20), data=st.data())
def test_global_tokens_see_all_and_are_seen_by_all(n_tokens, window, data):
    chosen = data.draw(st.lists(st.integers(0, n_tokens - 1), max_size=3, unique=True))
    positions = torch.arange(n_tokens)
    mask = global_mask(positions, positions, window, torch.tensor(chosen, dtype=torch.long))
    assert torch.equal(mask, mask.mT) and mask.diagonal().all()
    expected = torch.tensor(
        [
            [abs(i - j) <= window // 2 or i in chosen or j in chosen for j in range(n_tokens)]
            for i in range(n_tokens)
        ]
    )
    assert torch.equal(mask, expected)


@pytest.mark.covers("arch.attn-sparse")
@pytest.mark.parametrize("kind", ["window", "strided", "fixed"])
@settings(deadline=None, max_examples=25)
@given(n_tokens=LENGTHS, size=st.integers(1, 67), n_sinks=st.integers(0, 5))
def test_the_block_form_equals_the_mask(kind, n_tokens, size, n_sinks):
    chosen = config(kind, size, n_sinks=n_sinks if kind == "window" else 0)
    generator = torch.Generator().manual_seed(n_tokens)
    queries, keys, values = torch.randn(3, 2, 3, n_tokens, 7, generator=generator)
    positions = torch.arange(n_tokens)[None]
    expected = attend(queries, keys, values, sparse_mask(chosen, positions, positions))
    torch.testing.assert_close(sparse_attention(queries, keys, values, chosen), expected)


def test_the_block_form_has_the_same_gradients():
    for kind in ("window", "strided", "fixed"):
        chosen = config(kind, 5, n_sinks=2 if kind == "window" else 0)
        q, k, v = (x.double().requires_grad_() for x in three(1, 2, 23, 7))
        mask = pattern(kind, 23, size=5, n_sinks=chosen.n_sinks)
        ours = torch.autograd.grad(sparse_attention(q, k, v, chosen).square().sum(), (q, k, v))
        theirs = torch.autograd.grad(attend(q, k, v, mask).square().sum(), (q, k, v))
        torch.testing.assert_close(ours, theirs)


def peak(kind: str, size: int, n_tokens: int) -> int:
    inputs = three(1, 2, n_tokens, 8)
    with tracked_allocations() as memory:
        sparse_attention(*inputs, config(kind, size))
    return memory.peak_bytes


@pytest.mark.covers("arch.attn-sparse")
def test_the_block_form_costs_what_the_pattern_costs():
    assert 1.9 < peak("window", 32, 2048) / peak("window", 32, 1024) < 2.1  # linear
    for kind in ("strided", "fixed"):  # T sqrt(T): eight times for four times the length
        assert 6.5 < peak(kind, 64, 4096) / peak(kind, 32, 1024) < 8.5
    dense = 2 * 4096**2 * 4  # the scores of two heads
    assert peak("strided", 64, 4096) < dense / 3


def test_patterns_without_a_block_form_are_refused():
    inputs = three(1, 2, 7, 8)
    for refused in (config("full"), config("fixed", n_sinks=1)):
        with pytest.raises(ValueError, match="no block form"):
            sparse_attention(*inputs, refused)


@pytest.mark.parametrize("kind", ["window", "strided", "fixed"])
def test_a_layer_sees_along_the_pattern(kind):
    torch.manual_seed(2)
    model = Transformer(config(kind, 5, n_layers=1, init_std=0.5))
    tokens = torch.randint(11, (1, 23))
    base = model(tokens)[0]
    allowed = pattern(kind, 23)
    for j in (0, 4, 11):
        changed = tokens.clone()
        changed[0, j] = (changed[0, j] + 1) % 11
        differs = (model(changed)[0] - base).abs().amax(dim=1) > 1e-5
        assert torch.equal(differs, allowed[:, j])
