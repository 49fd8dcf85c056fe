"""Latent attention: its two forms, its cache, and its limits."""

import pytest
import torch

from llmlib.architecture import KVCache, ModelConfig, Transformer
from llmlib.architecture.attention.latent import LatentAttention
from llmlib.architecture.context import Context
from llmlib.architecture.counts import kv_cache_bytes
from llmlib.architecture.positions.rope import rope_angles, rope_frequencies


def config(**changes) -> ModelConfig:
    shape = {"vocab_size": 31, "d_model": 35, "n_layers": 2, "n_heads": 5, "head_dim": 7}
    latent = {"mixer": "latent", "latent_dim": 11, "rope_head_dim": 6, "max_seq_len": 29}
    return ModelConfig(**{**shape, **latent, **changes})


CONFIGS = {
    "plain": config(),
    "queries": config(query_latent_dim=13, bias=True),
    "no-rotation": config(position="none", rope_head_dim=0),
    "unrotated-part": config(position="learned"),
    "scale": config(attention_scale=0.7),
}


@pytest.fixture(params=CONFIGS.values(), ids=list(CONFIGS))
def layer(request) -> LatentAttention:
    torch.manual_seed(3)
    layer = LatentAttention(request.param)
    for name, parameter in layer.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    return layer


def context(config: ModelConfig, n_tokens: int) -> Context:
    positions = torch.arange(n_tokens)[None]
    frequencies = rope_frequencies(config.rope_head_dim)
    angles = rope_angles(positions, frequencies) if config.position == "rope" else None
    return Context(positions, positions, angles)


def by_the_formula(layer: LatentAttention, x: torch.Tensor) -> torch.Tensor:
    """Section 2.1, a token, a head and a key at a time."""
    config, where = layer.config, context(layer.config, x.shape[1])
    heads, width = config.n_heads, config.head_dim
    latents, shared = layer.compress(x, where.angles)
    queries, turned = layer.project_queries(x, where.angles)
    up_keys, up_values = layer.up.weight.view(2, heads, width, -1)
    out = torch.zeros(*x.shape[:2], heads, width)
    for row in range(x.shape[0]):
        for t in range(x.shape[1]):
            for h in range(heads):
                query = torch.cat((queries[row, h, t], turned[row, h, t]))
                keys = [torch.cat((up_keys[h] @ latents[row, s], shared[row, s]))
                        for s in range(t + 1)]  # fmt: skip
                scores = torch.stack([query @ key for key in keys]) * config.score_scale
                values = torch.stack([up_values[h] @ latents[row, s] for s in range(t + 1)])
                out[row, t, h] = scores.softmax(0) @ values
    return layer.out(out.flatten(2))


def test_the_layer_equals_its_formula(layer):
    x = torch.randn(2, 11, 35)
    torch.testing.assert_close(
        layer(x, context(layer.config, 11)), by_the_formula(layer, x), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("mask", [None, "bool", "bias"])
def test_absorbed_and_expanded_form_agree(layer, mask):
    x, where = torch.randn(3, 13, 35), context(layer.config, 13)
    queries, turned = layer.project_queries(x, where.angles)
    latents, keys = layer.compress(x, where.angles)
    chosen = None
    if mask:
        chosen = torch.ones(13, 13, dtype=torch.bool).tril(-2) | torch.eye(13, dtype=torch.bool)
        if mask == "bias":  # another one for each row and head
            chosen = torch.randn(3, 5, 13, 13).masked_fill(~chosen, -torch.inf)
        else:
            chosen = chosen[None, None]
    parts = (queries, turned, latents, keys, chosen)
    for is_causal in (True, False) if mask is None else (False,):
        torch.testing.assert_close(
            layer.mix_absorbed(*parts, is_causal=is_causal),
            layer.mix_expanded(*parts, is_causal=is_causal),
            atol=1e-5,
            rtol=1e-5,
        )


@pytest.mark.covers("arch.attn-mqa-gqa")
def test_the_cache_keeps_the_latent_and_the_rotated_key_alone():
    shape = config(query_latent_dim=13)
    cache = KVCache.allocate(shape, batch_size=3, max_len=17)
    assert cache.nbytes == 3 * 17 * 2 * (11 + 6) * 4 == kv_cache_bytes(shape, 3, 17)
    wide = config(n_heads=35, head_dim=1)
    assert KVCache.allocate(wide, batch_size=3, max_len=17).nbytes == cache.nbytes
    heads = config(mixer="attention", head_dim=8)
    assert kv_cache_bytes(heads, 1, 1) == 2 * 2 * 5 * 8 * 4


def test_decoding_absorbs_and_reading_expands(monkeypatch):
    model = Transformer(config(latent_dim=17)).eval()
    used = []
    for name in ("mix_absorbed", "mix_expanded"):
        original = getattr(LatentAttention, name)

        def spy(self, *args, _name=name, _original=original, **kwargs):
            used.append(_name)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(LatentAttention, name, spy)
    tokens = torch.randint(31, (1, 23))
    cache = model.new_cache(1, 29)
    whole = model(tokens)
    assert set(used) == {"mix_expanded"}
    used.clear()
    first = model(tokens[:, :20], cache=cache)  # 20 (17 - 7) > 17 * 7: building is cheaper
    assert set(used) == {"mix_expanded"}
    used.clear()
    rest = torch.cat([model(tokens[:, t : t + 1], cache=cache) for t in (20, 21, 22)], dim=1)
    assert set(used) == {"mix_absorbed"}
    torch.testing.assert_close(torch.cat((first, rest), 1), whole, atol=1e-5, rtol=1e-4)


def test_a_cache_of_unrotated_keys_gives_the_same():
    model = Transformer(config()).eval()
    tokens = torch.randint(31, (2, 11))
    whole = model(tokens)
    cache = KVCache.allocate(model.config, 2, 11)
    cache.rotated = False
    parts = [model(part, cache=cache) for part in tokens.split((5, 1, 4, 1), dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)
    assert cache.keys[0].shape == (2, 1, 11, 6) and cache.values[0].shape == (2, 1, 11, 11)


def test_window_layers_follow_the_pattern():
    torch.manual_seed(1)
    model = Transformer(config(attention="window", window=3, n_layers=1, init_std=0.5)).eval()
    tokens = torch.randint(31, (1, 11))
    changed = tokens.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 31
    differs = (model(tokens) - model(changed))[0].abs().amax(1) > 1e-6
    assert differs.nonzero().flatten().tolist() == [4, 5, 6]


def test_stacked_matrices_are_named_with_their_rows(layer):
    for name, rows in layer.stacked_rows.items():
        assert sum(rows) == len(layer.get_parameter(name)) and 0 not in rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"qk_norm": True}, "qk_norm=False"),
     ({"rope_scaling": "rerope", "rope_window": 5}, "choose another")],
)  # fmt: skip
def test_what_it_does_not_do_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LatentAttention(config(**changes))
