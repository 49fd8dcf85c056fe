"""RoPE stretched beyond its length: each rule against its definition; truncated positions."""

import math

import pytest
import torch

from llmlib.architecture import Attention, ModelConfig, Transformer, rope_frequencies
from llmlib.architecture.positions.rope_scaling import (
    rope_table,
    stretched_base,
    truncated_frequencies,
    yarn_frequencies,
)


def config(**changes) -> ModelConfig:
    return ModelConfig(
        vocab_size=101, d_model=52, n_layers=2, n_heads=2, d_ff=67, max_seq_len=97, **changes
    )


@pytest.mark.parametrize("scaling", ["linear", "ntk", "dynamic", "yarn"])
def test_the_slowest_pair_is_interpolated_and_the_fastest_kept(scaling):
    plain, _ = rope_table(config(), 97)
    scaled, _ = rope_table(config(rope_scaling=scaling, rope_factor=5.0), 97)
    # Stretched by 5 at 97 tokens of 97 trained ones: `dynamic` has nothing to do yet.
    factor = 1.0 if scaling == "dynamic" else 5.0
    assert scaled[-1].item() == pytest.approx(plain[-1].item() / factor, rel=1e-5)
    assert scaled[0].item() == pytest.approx(1 / 5 if scaling == "linear" else 1.0)


def test_dynamic_stretches_with_the_text():
    changed = config(rope_scaling="dynamic", rope_factor=2.0, rope_original_len=11)
    plain, _ = rope_table(config(), 97)
    for n_positions, stretch in ((7, 1), (11, 1), (22, 3), (33, 5)):
        scaled, _ = rope_table(changed, n_positions)
        assert scaled[-1].item() == pytest.approx(plain[-1].item() / stretch, rel=1e-5)


def test_one_pair_cannot_be_stretched():
    with pytest.raises(ValueError, match="one pair"):
        stretched_base(2, 100.0, 3.0)


def test_yarn_goes_from_kept_to_interpolated():
    plain = rope_frequencies(64, 10_000.0)
    ratio = yarn_frequencies(plain, 10_000.0, 4.0, 2048) / plain
    turns = 2048 * plain / (2 * math.pi)
    assert torch.equal(ratio[turns > 34], torch.ones(int((turns > 34).sum())))
    torch.testing.assert_close(ratio[turns < 0.7], torch.full_like(ratio[turns < 0.7], 0.25))
    assert (ratio.diff() <= 1e-6).all()
    assert ((ratio > 0.26) & (ratio < 0.99)).any()


def test_truncated_pairs_stay_in_what_was_seen():
    trained, factor = 128, 8.0
    plain = rope_frequencies(32, 10_000.0)
    scaled = truncated_frequencies(plain, factor, trained)
    whole = plain >= 2 * math.pi / trained
    assert torch.equal(scaled[whole], plain[whole])
    assert (scaled[~whole] * trained * factor <= math.pi / 2 + 1e-5).all()
    assert (scaled[plain <= math.pi / 2 / trained] == 0).all()
    assert (scaled[~whole] > 0).any()


def test_a_dynamic_cache_turns_its_old_keys_again():
    torch.manual_seed(2)
    changed = config(rope_scaling="dynamic", rope_factor=2.0, rope_original_len=11, init_std=0.2)
    # One layer: in a second one the old keys come from states that saw the text while it was short.
    model = Transformer(changed.replace(n_layers=1)).eval()
    ids = torch.randint(101, (2, 29))
    cache = model.new_cache(2, 29)
    parts = [model(part, cache=cache) for part in ids.split((13, 1, 15), dim=1)]
    torch.testing.assert_close(parts[1][:, 0], model(ids[:, :14])[:, -1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parts[2], model(ids)[:, 14:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pieces", [(29,), (1,) * 29, (13, 1, 15)])
def test_rerope_equals_the_loop_over_pairs(pieces):
    torch.manual_seed(3)
    window = 7
    changed = config(rope_scaling="rerope", rope_window=window, n_kv_heads=1, init_std=0.2)
    model = Transformer(changed).eval()
    ids = torch.randint(101, (2, 29))
    x = model.embedding(ids)
    attention = model.blocks[0].mixer
    assert isinstance(attention, Attention)
    queries, keys, values = attention.project(x)
    frequencies = rope_frequencies(26)
    mixed = torch.zeros(2, 2, 29, 26)
    for i in range(29):
        scores = torch.zeros(2, 2, i + 1)
        for j in range(i + 1):
            angle = min(i - j, window) * frequencies
            cos, sin = torch.cat((angle.cos(),) * 2), torch.cat((angle.sin(),) * 2)
            turned = queries[:, :, i] * cos
            turned += torch.cat((-queries[:, :, i, 13:], queries[:, :, i, :13]), -1) * sin
            scores[:, :, j] = (turned * keys[:, :, j]).sum(-1) / math.sqrt(26)
        mixed[:, :, i] = scores.softmax(-1).unsqueeze(2).matmul(values[:, :, : i + 1]).squeeze(2)
    expected = attention.out(mixed.transpose(1, 2).flatten(2))
    cache, got, start = model.new_cache(2, 29), [], 0
    for size in pieces:
        part = ids[:, start : start + size]
        context = model.context(part, cache=cache)
        got.append(attention(x[:, start : start + size], context, cache, 0))
        cache.advance(size)
        start += size
    torch.testing.assert_close(torch.cat(got, 1), expected, atol=1e-5, rtol=1e-4)


def test_rerope_with_a_wide_window_is_rope():
    torch.manual_seed(5)
    model = Transformer(config(init_std=0.2)).eval()
    truncated = Transformer(model.config.replace(rope_scaling="rerope", rope_window=50)).eval()
    truncated.load_state_dict(model.state_dict())
    ids = torch.randint(101, (2, 49))
    torch.testing.assert_close(truncated(ids), model(ids), atol=1e-4, rtol=1e-4)
    narrow = Transformer(model.config.replace(rope_scaling="rerope", rope_window=5)).eval()
    narrow.load_state_dict(model.state_dict())
    assert (narrow(ids) - model(ids)).abs().amax() > 1e-2
