"""Conversion from multi-head to grouped-query attention."""

import pytest
import torch

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.attention.grouping import group_heads
from llmlib.architecture.counts import kv_cache_bytes, parameters


def model(**changes) -> Transformer:
    shape = {"vocab_size": 31, "d_model": 34, "n_layers": 2, "n_heads": 6, "head_dim": 10}
    torch.manual_seed(7)
    return Transformer(ModelConfig(**{**shape, "max_seq_len": 23, "init_std": 0.2, **changes}))


def equalize(model: Transformer, n_groups: int) -> None:
    """Make the key and value heads of each group equal to its first."""
    config = model.config
    shared = config.n_kv_heads * config.head_dim
    for name, parameter in model.named_parameters():
        if ".qkv." in name:
            torch.nn.init.normal_(parameter, std=0.2)
            for heads in parameter.data[-2 * shared :].split(shared):
                groups = heads.unflatten(0, (n_groups, -1, config.head_dim))
                groups.copy_(groups[:, :1].clone().expand_as(groups))


@pytest.mark.covers("arch.attn-mqa-gqa")
@pytest.mark.parametrize("n_kv_heads", [1, 2, 3, 6])
@pytest.mark.parametrize("bias", [False, True])
def test_exact_where_the_heads_of_a_group_are_equal(n_kv_heads, bias):
    multi = model(qkv_bias=bias, qk_norm=bias)
    equalize(multi, n_kv_heads)
    grouped = group_heads(multi, n_kv_heads)
    tokens = torch.randint(31, (2, 19))
    torch.testing.assert_close(grouped(tokens), multi(tokens), atol=1e-4, rtol=1e-4)


def test_the_mean_of_each_group_and_nothing_else_changes():
    multi = model(n_kv_heads=6)
    grouped = group_heads(multi, 2)
    queries, keys, values = (60, 60, 60)
    name = "blocks.1.mixer.qkv.weight"
    old = multi.get_parameter(name).split((queries, keys, values))
    new = grouped.get_parameter(name).split((60, 20, 20))
    assert torch.equal(new[0], old[0])
    for ours, theirs in zip(new[1:], old[1:], strict=True):
        first, second = theirs[:30], theirs[30:]
        for part, heads in zip(ours.split(10), (first, second), strict=True):
            torch.testing.assert_close(part, (heads[:10] + heads[10:20] + heads[20:]) / 3)
    theirs = grouped.state_dict()
    for name, tensor in multi.state_dict().items():
        assert ".qkv." in name or torch.equal(tensor, theirs[name])


def test_the_cache_shrinks_and_the_counts_follow():
    grouped = group_heads(model(), 1)
    assert kv_cache_bytes(grouped.config, 1, 1) * 6 == kv_cache_bytes(model().config, 1, 1)
    assert parameters(grouped.config).total == sum(p.numel() for p in grouped.parameters())


def test_in_two_steps_as_in_one():
    multi = model()
    twice, once = group_heads(group_heads(multi, 3), 1), group_heads(multi, 1)
    for a, b in zip(twice.parameters(), once.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_random_state_type_and_mode_are_kept():
    multi = model().double().eval()
    state = torch.get_rng_state()
    grouped = group_heads(multi, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert grouped.embedding.weight.dtype == torch.float64 and not grouped.training
    assert grouped.embedding.weight.data_ptr() != multi.embedding.weight.data_ptr()


def test_impossible_groups_are_refused():
    for n_kv_heads in (0, 4, 12):
        with pytest.raises(ValueError, match="does not divide"):
            group_heads(model(), n_kv_heads)
    with pytest.raises(ValueError, match="no key/value heads"):
        group_heads(model(mixer="retnet"), 1)
