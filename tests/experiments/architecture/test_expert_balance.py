"""The experiment on experts: its designs, and how the load is measured."""

import math
from typing import Any

import pytest
import torch

from llmlib.architecture import Transformer, counts
from llmlib.architecture.experts.mixture_of_experts import MixtureOfExperts
from llmlib.experiments.architecture import expert_balance
from llmlib.experiments.architecture.expert_balance import (
    DESIGNS,
    EXPERIMENT,
    config_of,
    experts_in_use,
    loads,
    measure,
)
from llmlib.experiments.short_text import short_text


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
    shares = loads(model, tokens)
    handle.remove()
    layer = model.get_submodule("blocks.1.feedforward")
    assert isinstance(layer, MixtureOfExperts)
    torch.testing.assert_close(shares[1], layer.route(normed[0].flatten(0, 1)).load)
    assert shares.shape == (2, 8)
    assert model.training
    assert not layer._forward_pre_hooks


@pytest.mark.slow
def test_a_run_says_what_it_measured(monkeypatch):
    monkeypatch.setattr(expert_balance, "BATCH", 2)
    run = measure({"design": "1 shared and 1 of 7", "seed": 5}, steps=21)
    assert run["held_out_loss"] < math.log(512)
    assert run["tokens"] == 21 * 2 * 64
    assert len(run["experts_in_use_each_20_steps"]) == 2
    assert [round(sum(row), 2) for row in run["load"]] == [1, 1]
    assert measure({"design": "dense", "seed": 5}, steps=1)["load"] is None


def test_the_record_is_of_these_models_and_this_text():
    for run in EXPERIMENT.runs():
        size = counts.parameters(config_of(run["design"]))
        assert (run["parameters"], run["active_parameters"]) == (size.total, size.active)
        assert run["text_sha256"] == short_text().sha256
