"""The experiment on experts does what it says, and its committed runs bear the chapter's claims."""

import math
from typing import Any

import pytest
import torch

from llmlib.architecture import Transformer, counts
from llmlib.architecture.experts import MixtureOfExperts
from llmlib.core.statistics import t_interval
from llmlib.experiments.architecture.expert_balance import (
    DESIGNS,
    SEEDS,
    config_of,
    experts_in_use,
    loads,
    perform,
    plan,
    rate,
)
from llmlib.experiments.records import read_runs


def test_designs_are_equal_in_work_and_in_size_as_stated():
    sizes = {design: counts.parameters(config_of(design)) for design in DESIGNS}
    routers = 2 * 64 * 16  # the largest router's weights, in both layers
    for design, size in sizes.items():
        is_wide = design == "dense, four times as wide"
        work = sizes["dense, four times as wide" if is_wide else "dense"].active
        assert 0 <= size.active - work <= routers, design
        if design != "dense":
            assert abs(size.total - sizes["dense, four times as wide"].total) <= routers, design


def test_experts_in_use_is_the_exponential_of_the_entropy():
    load = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 1.0, 0.0]])
    expected = torch.tensor([4.0, math.exp(1.5 * math.log(2)), 1.0])
    torch.testing.assert_close(experts_in_use(load), expected)


def test_loads_are_those_of_the_layers_inputs_and_leave_the_model_as_it_was():
    torch.manual_seed(3)
    model = Transformer(config_of("2 of 8, no balance loss"))
    tokens = torch.randint(512, (3, 17))
    normed: list[torch.Tensor] = []
    norm = model.get_submodule("blocks.1.feedforward_norm")  # its output is the layer's input

    def note(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        normed.append(output)

    handle = norm.register_forward_hook(note)
    measured = loads(model, tokens)
    handle.remove()
    layer = model.get_submodule("blocks.1.feedforward")
    assert isinstance(layer, MixtureOfExperts)
    torch.testing.assert_close(measured[1], layer.route(normed[0].flatten(0, 1)).load)
    assert measured.shape == (2, 8)
    assert model.training
    assert not layer._forward_pre_hooks


def test_the_rate_rises_and_falls():
    assert rate(0) < rate(10) < rate(19) == rate(100) == 3e-3
    assert rate(239) < rate(200) < 3e-3


@pytest.mark.slow
def test_a_run_says_what_it_measured():
    run = perform({"design": "1 shared and 1 of 7", "seed": 5}, steps=21)
    assert run["held_out_loss"] < math.log(512)
    assert run["tokens"] == 21 * 32 * 64
    assert len(run["experts_in_use_each_20_steps"]) == 2
    assert [round(sum(row), 2) for row in run["load"]] == [1, 1]
    assert perform({"design": "dense", "seed": 5}, steps=1)["load"] is None


# The committed runs


@pytest.fixture(scope="module")
def runs() -> dict[str, list[dict]]:
    found = sorted(read_runs("expert_balance"), key=lambda run: run["seed"])
    assert sorted((r["design"], r["seed"]) for r in found) == sorted(
        (r["design"], r["seed"]) for r in plan()
    )
    return {design: [r for r in found if r["design"] == design] for design in DESIGNS}


@pytest.mark.covers("arch.moe")
def test_the_balance_loss_evens_the_load_in_every_committed_seed(runs):
    """Chance is 8 in use, a router that chooses at random; the baseline has no balance loss."""
    pairs = zip(runs["2 of 8"], runs["2 of 8, no balance loss"], strict=True)
    gains = [a["experts_in_use"] - b["experts_in_use"] for a, b in pairs]
    assert len(gains) == len(SEEDS) == 3
    assert t_interval(gains)[1] > 0, gains


def test_every_run_read_the_same_text_and_learnt(runs):
    every = [run for design in runs.values() for run in design]
    assert len({(run["text_sha256"], run["tokens"]) for run in every}) == 1
    for run in every:
        assert run["held_out_loss"] < run["unigram_loss"] - 1, run["design"]
