"""Recomputed activations: gradients to the bit, and what it saves."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.hardware.memory import tracked_allocations
from llmlib.training.memory.recomputation import recompute, run_again
from llmlib.training.objectives import language_modeling, next_token_loss

SIZES: dict[str, Any] = {
    "vocab_size": 71, "d_model": 44, "n_heads": 2, "max_seq_len": 61,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"dropout": 0.3},
    "t5": {"position": "t5", "norm": "layer"},
    "experts": {"n_experts": 5, "experts_per_token": 2},
    "mamba": {"mixer": "mamba"},
    "rwkv": {"mixer": "rwkv"},
}


def gradients(model: nn.Module, *, bfloat16: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(11)
    batch = language_modeling(torch.randint(71, (3, 60)))
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss = next_token_loss(model, batch)  # pyright: ignore[reportArgumentType]
    loss.backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return found | {"loss": loss.detach()}


def twin(fields: dict[str, Any]) -> Transformer:
    torch.manual_seed(2)
    return Transformer(ModelConfig(**{**SIZES, "n_layers": 5, **fields}))


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different


@pytest.mark.covers("train.checkpointing")
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_same_to_the_bit(kind):
    expected = gradients(twin(KINDS[kind]))
    for what, segment in [("blocks", 1), ("blocks", 2), ("blocks", 7), ("mixer", 1)]:
        model = recompute(twin(KINDS[kind]), what, segment=segment)  # pyright: ignore[reportArgumentType]
        assert_same(gradients(model), expected)


@pytest.mark.covers("train.checkpointing")
@pytest.mark.parametrize("what", ["blocks", "mixer", "feedforward"])
def test_autocast_comes_back_too(what):
    fields = {"dropout": 0.3}
    expected = gradients(twin(fields), bfloat16=True)
    assert_same(gradients(recompute(twin(fields), what), bfloat16=True), expected)


def test_torchs_own_does_the_same():
    layer = nn.Sequential(nn.Linear(13, 29), nn.Dropout(0.4), nn.GELU(), nn.Linear(29, 13))
    x = torch.randn(7, 13)

    def through(run: Any) -> tuple[list[Tensor], Tensor]:
        torch.manual_seed(4)
        loss = run(layer, x).square().sum()
        after = torch.rand(3)  # the second draw of dropout leaves the generator alone
        return [*torch.autograd.grad(loss, list(layer.parameters()))], after

    theirs = through(lambda f, y: checkpoint(f, y, use_reentrant=False))
    for a, b in zip(through(run_again), theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    plain = through(lambda f, y: f(y))
    assert torch.equal(plain[1], theirs[1])


def test_a_graph_that_is_kept_can_be_walked_twice():
    x = torch.randn(5, requires_grad=True)
    y = run_again(lambda v: v.exp().sin(), x).sum()
    first = torch.autograd.grad(y, x, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(y, x)[0])
    torch.testing.assert_close(first, x.exp().cos() * x.exp())


def test_a_function_that_does_something_else_the_second_time_is_named():
    calls: list[int] = []

    def fickle(v: Tensor) -> Tensor:
        calls.append(1)
        return v.exp() if len(calls) > 1 else v.exp().sin()

    y = run_again(fickle, torch.randn(3, requires_grad=True)).sum()
    with pytest.raises(ValueError, match="kept 2 tensors at first and 1 when run again"):
        y.backward()


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [({}, ("blocks", 0)), ({}, ("mixer", 2)), ({"mixer": "mamba"}, ("feedforward", 1))],
)
def test_what_cannot_be_recomputed_is_refused(fields, arguments):
    what, segment = arguments
    with pytest.raises(ValueError, match=r"segment=|have no feedforward"):
        recompute(twin(fields), what, segment=segment)


def test_names_and_answers_stay():
    model, plain = recompute(twin({}), segment=2), twin({})
    assert list(model.state_dict()) == list(plain.state_dict())
    tokens = torch.randint(71, (2, 19))
    with torch.no_grad():
        cached = model(tokens, cache=model.new_cache(2, 19))
        assert torch.equal(model(tokens), plain(tokens))
    torch.testing.assert_close(cached, plain(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.covers("train.checkpointing")
def test_each_kind_saves_what_it_says():
    """Peaks of the backward pass: nothing forgotten > a part > segments of two or three blocks."""

    def peak(what: str | None, segment: int = 1) -> int:
        model = twin({"n_layers": 9, "d_ff": 178, "max_seq_len": 61})
        if what:
            recompute(model, what, segment=segment)  # pyright: ignore[reportArgumentType]
        with tracked_allocations() as memory:
            gradients(model)
        return memory.peak_bytes

    whole = peak(None)
    by_segment = {s: peak("blocks", s) for s in (1, 2, 3, 9)}
    assert peak("feedforward") < 0.7 * whole
    assert peak("mixer") < 0.85 * whole
    assert by_segment[1] < 0.5 * whole
    assert by_segment[9] > 0.95 * whole  # one segment: all is made again before the first step back


@pytest.mark.parametrize(
    "carry", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize(("what", "segment"), [("blocks", 1), ("blocks", 3), ("mixer", 1)])
def test_a_copy_runs_its_own_blocks(carry: Callable[..., Transformer], what: Any, segment: int):
    model = recompute(twin({}), what, segment=segment)
    carried = carry(model)
    expected = gradients(model)
    model.zero_grad()
    assert_same(gradients(carried), expected)
    assert all(p.grad is None for p in model.parameters())


def test_the_last_call_decides_on_the_segments():
    model = recompute(recompute(twin({}), segment=3), segment=1)
    assert_same(gradients(model), gradients(twin({})))
