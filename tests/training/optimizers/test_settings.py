"""What the optimizers refuse, what they keep, and what a step leaves alone."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from llmlib.training.optimizers.adafactor import Adafactor
from llmlib.training.optimizers.adam import Adam
from llmlib.training.optimizers.adamw import param_groups
from llmlib.training.optimizers.base import EquationOptimizer, state_bytes
from llmlib.training.optimizers.lion import Lion
from llmlib.training.optimizers.muon import Muon
from llmlib.training.optimizers.schedule_free import ScheduleFreeAdamW
from llmlib.training.optimizers.schedules import Schedule
from llmlib.training.optimizers.sgd import SGD
from llmlib.training.optimizers.soap import SOAP

KINDS: dict[str, Callable[..., EquationOptimizer]] = {
    "sgd": SGD, "adam": Adam, "lion": Lion, "adafactor": Adafactor, "soap": SOAP,
    "schedule-free": ScheduleFreeAdamW,
}  # fmt: skip


def weight(*shape: int) -> Tensor:
    torch.manual_seed(1)
    made = torch.randn(shape).requires_grad_()
    made.grad = torch.randn(shape)
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [{"lr": -0.1}, {"weight_decay": -1.0}, {"lr": float("nan")}])
def test_settings_out_of_range_are_refused(kind: str, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be at least 0"):
        KINDS[kind]([weight(3, 5)], **{"lr": 0.1, **wrong})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda p: SGD(p, 0.1, nesterov=True), "momentum above 0"),
        (lambda p: Adam(p, betas=(0.9, 1.0)), "beta2=1.0"),
        (lambda p: Adafactor(p, clip=0.0), "clip=0.0"),
        (lambda p: SOAP(p, every=0), "every=0"),
        (lambda p: ScheduleFreeAdamW(p, betas=(0.0, 0.9)), "beta1=0.0"),
        (lambda p: Muon(p, lr=float("nan")), "lr=nan"),
        (lambda p: Muon(p, weight_decay=float("inf")), "weight_decay=inf"),
        (lambda p: Muon(p, steps=0), "steps=0"),
        (lambda p: Muon([{"params": p, "scale": "rows"}]), "scale='rows'"),
        (lambda p: Schedule(kind="polynomial", power=float("nan")), "power=nan"),
        (lambda p: param_groups(torch.nn.Linear(3, 5), float("nan")), "weight_decay=nan"),
    ],
)
def test_settings_that_contradict_are_refused(build: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build([weight(3, 5)])


def test_soap_turns_matrices_alone_in_formats_that_have_a_decomposition() -> None:
    with pytest.raises(ValueError, match="turns matrices"):
        SOAP([weight(2, 3, 5)])
    with pytest.raises(ValueError, match=r"not parameters in torch\.bfloat16"):
        SOAP([weight(3, 5).detach().bfloat16()])


def test_bytes_of_state_are_those_of_the_papers() -> None:
    numbers = {
        "sgd": 0, "lion": 15, "adam": 30, "adafactor": 3 + 5, "schedule-free": 30,
        "soap": 30 + 2 * (9 + 25),
    }  # fmt: skip
    for kind, expected in numbers.items():
        optimizer = KINDS[kind]([weight(3, 5)], lr=0.1)
        optimizer.step()
        assert state_bytes(optimizer) == 4 * expected, kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_without_a_gradient_stays_and_costs_nothing(kind: str) -> None:
    still, moved = weight(3, 5), weight(3, 5)
    before, still.grad = still.detach().clone(), None
    optimizer = KINDS[kind]([still, moved], lr=0.1)
    for _ in range(2):  # SOAP's first step only looks
        optimizer.step()
    assert torch.equal(still, before) and not optimizer.state[still]
    assert not torch.equal(moved, before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_state_goes_on_to_the_bit(kind: str) -> None:
    first = weight(3, 5)
    optimizer = KINDS[kind]([first], lr=0.1)
    for _ in range(3):
        optimizer.step()
    second = first.detach().clone().requires_grad_()
    second.grad = first.grad
    resumed = KINDS[kind]([second], lr=0.1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # as from a file
    for one in (optimizer, resumed):
        one.step()
    assert torch.equal(first, second)


def test_schedule_free_refuses_a_step_from_the_average() -> None:
    optimizer = ScheduleFreeAdamW([weight(3, 5)])
    optimizer.step()
    optimizer.average()
    with pytest.raises(RuntimeError, match="resume"):
        optimizer.step()


def test_a_step_refused_from_the_average_does_not_count() -> None:
    refused, plain = weight(3, 5), weight(3, 5)
    optimizer, witness = (
        ScheduleFreeAdamW([refused], warmup=7),
        ScheduleFreeAdamW([plain], warmup=7),
    )
    for _ in range(2):  # before the first step, too
        optimizer.average()
        with pytest.raises(RuntimeError, match="resume"):
            optimizer.step()
        optimizer.resume()
        optimizer.step()
        witness.step()
    torch.testing.assert_close(refused, plain)


@pytest.mark.parametrize(
    "carry",
    [
        copy.deepcopy,
        lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
        lambda optimizer: _loaded(optimizer.state_dict()),
    ],
    ids=["deepcopy", "pickle", "state"],
)
def test_schedule_free_carries_which_point_the_parameters_hold(
    carry: Callable[[ScheduleFreeAdamW], ScheduleFreeAdamW],
) -> None:
    optimizer = ScheduleFreeAdamW([weight(3, 5)])
    optimizer.step()
    optimizer.average()
    carried = carry(optimizer)
    assert carried.averaged
    with pytest.raises(RuntimeError, match="resume"):
        carried.step()
    carried.resume()
    assert not carried.averaged and optimizer.averaged


def _loaded(state: dict[str, Any]) -> ScheduleFreeAdamW:
    optimizer = ScheduleFreeAdamW([weight(3, 5)])
    optimizer.load_state_dict(state)
    return optimizer


def test_momentum_may_begin_during_a_run() -> None:
    late, plain = weight(3, 5), weight(3, 5)
    optimizer, witness = SGD([late], 0.1), torch.optim.SGD([plain], 0.1)
    for step in range(5):
        for one in (optimizer, witness):
            one.param_groups[0]["momentum"] = 0.9 if step > 1 else 0.0
            one.step()
    torch.testing.assert_close(late, plain)
