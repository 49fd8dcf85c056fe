"""The decoder: shapes, causality, cache, padding, configuration."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.architecture import (
    Attention,
    KVCache,
    ModelConfig,
    Transformer,
    causal_mask,
    rope_angles,
)
from llmlib.architecture.choices import Norm, require_choice
from llmlib.architecture.context import allowed_pairs

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
]


@pytest.fixture(params=VARIANTS, ids=lambda c: f"{c.norm}-{c.activation}-{c.position}")
def model(request) -> Transformer:
    torch.manual_seed(1)
    model = Transformer(request.param).eval()
    with torch.no_grad():  # larger weights than at the start, so that mistakes show
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    return model


def tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(PRIMES["vocab_size"], (rows, length))


def test_logits_do_not_depend_on_later_tokens(model):
    first = tokens(3, 23)
    second = first.clone()
    second[:, 11:] = (second[:, 11:] + 1) % PRIMES["vocab_size"]
    before, after = model(first), model(second)
    torch.testing.assert_close(before[:, :11], after[:, :11])
    assert (before[:, 11:] - after[:, 11:]).abs().amax() > 1e-3


@pytest.mark.parametrize("pieces", [(23,), (1,) * 23, (7, 1, 11, 4)])
def test_cache_equals_no_cache(model, pieces):
    ids = tokens(3, 23)
    cache = model.new_cache(3, 23)
    logits = torch.cat([model(part, cache=cache) for part in ids.split(pieces, dim=1)], dim=1)
    assert cache.length == 23
    torch.testing.assert_close(logits, model(ids), atol=1e-4, rtol=1e-4)


def test_left_padding_changes_nothing(model):
    ids = tokens(2, 19)
    short = ids[:1, 8:]
    padded = torch.cat((torch.zeros(1, 8, dtype=torch.long), short), dim=1)
    batch = torch.cat((padded, ids[1:]))
    padding = torch.tensor([8, 0])
    together = model(batch, left_padding=padding)
    torch.testing.assert_close(together[0, 8:], model(short)[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together[1], model(ids[1:])[0], atol=1e-4, rtol=1e-4)
    assert together.isfinite().all()

    cache = model.new_cache(2, 19, left_padding=padding)
    parts = [model(part, cache=cache) for part in batch.split((11, 5, 1, 2), dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1)[0, 8:], together[0, 8:], atol=1e-4, rtol=1e-4)


def test_every_padding_token_has_a_key():
    # Without one a softmax has no answer; which kernels forgive that depends on torch's version.
    keys = torch.arange(5) - torch.tensor([[3], [0]])
    mask = allowed_pairs(keys.clamp_min(0), keys, config(), is_padded=True)
    assert mask.any(dim=-1).all()
    assert mask[0].int().tolist()[2:] == [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]


def test_truncated_cache_forgets(model):
    ids, other = tokens(1, 17), tokens(1, 6)
    cache = model.new_cache(1, 23)
    model(ids, cache=cache)
    cache.truncate(11)
    continued = model(other, cache=cache)
    whole = model(torch.cat((ids[:, :11], other), dim=1))
    torch.testing.assert_close(continued, whole[:, 11:], atol=1e-4, rtol=1e-4)


def test_selected_rows_go_on_by_themselves(model):
    ids, more = tokens(3, 13), tokens(2, 5)
    cache = model.new_cache(3, 23, left_padding=torch.tensor([0, 0, 4]))
    model(ids, cache=cache)
    chosen = cache.select(torch.tensor([2, 0]))
    logits = model(more, cache=chosen)
    whole = model(torch.cat((ids[[2, 0]], more), dim=1), left_padding=torch.tensor([4, 0]))
    torch.testing.assert_close(logits, whole[:, 13:], atol=1e-4, rtol=1e-4)


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
        model(tokens(1, 3), cache=cache, left_padding=torch.tensor([1]))
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


def test_initial_loss_is_uniform():
    torch.manual_seed(3)
    model = Transformer(config())
    ids = tokens(5, 32)
    loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - torch.log(torch.tensor(101.0)).item()) < 0.1
