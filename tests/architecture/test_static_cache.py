"""The static cache: the same logits as with a growing one, from a step that is captured once."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from llmlib.architecture import Layout, ModelConfig, Transformer
from llmlib.architecture.caches.static_cache import StaticKVCache


def config(**changes) -> ModelConfig:
    shape = {"vocab_size": 31, "d_model": 28, "n_layers": 2, "n_heads": 7, "max_seq_len": 37}
    return ModelConfig(**{**shape, "init_std": 0.3, **changes})


VARIANTS = {
    "full": config(),
    "grouped": config(n_heads=6, head_dim=10, n_kv_heads=3, position="learned"),
    "window": config(attention="window", window=5, n_sinks=2, full_every=2),
    "alibi": config(position="alibi", n_kv_heads=1),
    "t5": config(position="t5", relative_buckets=6, relative_max_distance=11),
    "latent": config(mixer="latent", latent_dim=11, rope_head_dim=6),
    "rerope": config(rope_scaling="rerope", rope_window=7),
}
PADDING = torch.tensor([0, 4, 1])


@pytest.fixture(params=VARIANTS.values(), ids=list(VARIANTS))
def model(request) -> Transformer:
    torch.manual_seed(4)
    return Transformer(request.param).double().eval()


def static(model: Transformer, rows: int, max_len: int, **options) -> StaticKVCache:
    return StaticKVCache(model.config, rows, max_len, dtype=torch.float64, **options)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("padding", [None, PADDING], ids=["whole rows", "left padding"])
@torch.no_grad()
def test_logits_are_those_of_a_growing_cache(model, padding):
    tokens = torch.randint(31, (3, 23))
    fixed = static(model, 3, 29, left_padding=padding)
    growing = model.new_cache(3, 29, left_padding=padding)
    begin = 4 if padding is not None else 0  # what padding reads as is nobody's
    for part in tokens.split((11, 1, 1, 7, 1, 2), dim=1):
        found, expected = model(part, cache=fixed), model(part, cache=growing)
        close(found[:, begin:], expected[:, begin:])
        begin = 0
    assert fixed.length == growing.length == 23


@torch.no_grad()
def test_a_cache_may_be_cut_and_its_rows_chosen(model):
    tokens, more = torch.randint(31, (3, 13)), torch.randint(31, (2, 5))
    cache = static(model, 3, 19, left_padding=PADDING)
    model(tokens, cache=cache)
    cache.truncate(11)
    rows = torch.tensor([2, 1])
    chosen = cache.select(rows)
    found = model(more, cache=chosen)
    whole = torch.cat((tokens[rows, :11], more), dim=1)
    close(found, model(whole, layout=Layout(PADDING[rows]))[:, 11:])
    assert (cache.length, chosen.length) == (11, 16)


@torch.no_grad()
def test_a_step_beyond_the_room_is_refused(model):
    cache = static(model, 2, 11)
    model(torch.randint(31, (2, 10)), cache=cache)
    held = [tensor.clone() for tensor in (*cache.keys, *cache.values)]
    with pytest.raises(RuntimeError, match="the cache holds 11 tokens and more are needed"):
        model(torch.randint(31, (2, 2)), cache=cache)
    assert cache.length == 10
    assert all(map(torch.equal, (*cache.keys, *cache.values), held))


@torch.no_grad()
def captured(model: Transformer) -> dict[str, Any]:
    """Fill a cache by captured steps, and one step more."""
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]):
        graphs.append(graph)
        return graph.forward

    prompt = torch.randint(31, (3, 7))
    fixed, growing = static(model, 3, 27), model.new_cache(3, 27)
    found, expected = [model(prompt, cache=fixed)], [model(prompt, cache=growing)]
    step = torch.compile(model, backend=count, fullgraph=True, dynamic=False)
    for token in torch.randint(31, (20, 3, 1)):
        found.append(step(token, cache=fixed))
        expected.append(model(token, cache=growing))
    difference = (torch.cat(found, dim=1) - torch.cat(expected, dim=1)).abs().amax()
    refused = ""
    try:
        step(torch.zeros(3, 1, dtype=torch.long), cache=fixed)
    except RuntimeError as error:
        refused = str(error)
    return {
        "graphs": len(graphs),
        "difference": difference.item(),
        "length": fixed.length,
        "refused": refused,
    }


@pytest.fixture(scope="module")
def capture() -> dict[str, dict[str, Any]]:
    """Capture in another process: here a type checker stands at every call."""
    run = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_twenty_steps_are_captured_once(capture, name):
    run = capture[name]
    assert (run["graphs"], run["length"]) == (1, 27)
    assert run["difference"] < 1e-6
    assert "the cache holds 27 tokens and more are needed" in run["refused"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position": "relative"}, "position='relative'"),
        ({"mixer": "mamba"}, "mixer='mamba'"),
        ({"rope_scaling": "dynamic", "rope_factor": 2.0}, "turns old keys anew"),
        ({"max_seq_len": 10}, "above max_seq_len=10"),
    ],
)
def test_what_follows_the_length_in_python_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        StaticKVCache(config(**changes), 1, 11)


if __name__ == "__main__":
    torch.manual_seed(4)
    models = {name: Transformer(config).double().eval() for name, config in VARIANTS.items()}
    print(json.dumps({name: captured(model) for name, model in models.items()}))
