"""Each optimizer takes the steps of the library that is known for it."""

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from llmlib.training.optimizers.adafactor import Adafactor
from llmlib.training.optimizers.adam import Adam, AdamW
from llmlib.training.optimizers.lion import Lion
from llmlib.training.optimizers.schedule_free import ScheduleFreeAdamW
from llmlib.training.optimizers.sgd import SGD
from llmlib.training.optimizers.soap import SOAP

Build = Callable[[list[Tensor]], Any]


def witness(module: str, name: str, **settings: Any) -> Build:
    def build(parameters: list[Tensor]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = getattr(__import__(module, fromlist=[name]), name)
        return kind(parameters, **settings)

    return build


CASES: dict[str, tuple[Build, Build]] = {
    "sgd": (
        lambda p: SGD(p, 0.1, weight_decay=0.03),
        witness("torch.optim", "SGD", lr=0.1, weight_decay=0.03),
    ),
    "sgd with momentum": (
        lambda p: SGD(p, 0.1, momentum=0.9, weight_decay=0.03),
        witness("torch.optim", "SGD", lr=0.1, momentum=0.9, weight_decay=0.03),
    ),
    "nesterov": (
        lambda p: SGD(p, 0.1, momentum=0.7, nesterov=True),
        witness("torch.optim", "SGD", lr=0.1, momentum=0.7, nesterov=True),
    ),
    "adam": (
        lambda p: Adam(p, 0.03, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
        witness("torch.optim", "Adam", lr=0.03, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    ),
    "adamw": (
        lambda p: AdamW(p, 0.03, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
        witness("torch.optim", "AdamW", lr=0.03, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    ),
    "lion": (
        lambda p: Lion(p, 0.01, betas=(0.8, 0.95), weight_decay=0.1),
        witness("pytorch_optimizer", "Lion", lr=0.01, betas=(0.8, 0.95), weight_decay=0.1),
    ),
    "adafactor": (
        lambda p: Adafactor(p, 0.03, weight_decay=0.1),
        witness(
            "transformers.optimization", "Adafactor", lr=0.03, weight_decay=0.1,
            scale_parameter=False, relative_step=False,
        ),
    ),
    "adafactor with relative steps": (
        lambda p: Adafactor(p),
        witness("transformers.optimization", "Adafactor", relative_step=True),
    ),
    "adafactor with momentum": (
        lambda p: Adafactor(p, 0.03, beta1=0.7, clip=0.5, decay=0.6),
        witness(
            "transformers.optimization", "Adafactor", lr=0.03, beta1=0.7, clip_threshold=0.5,
            decay_rate=-0.6, scale_parameter=False, relative_step=False,
        ),
    ),
    "soap": (
        lambda p: SOAP(p, 0.03, betas=(0.9, 0.8), weight_decay=0.1, every=3),
        witness(
            "pytorch_optimizer", "SOAP", lr=0.03, betas=(0.9, 0.8), weight_decay=0.1,
            precondition_frequency=3,
        ),
    ),
    "soap with a long side": (
        lambda p: SOAP(p, 0.03, every=2, weight_decay=0.0, largest=5),
        witness(
            "pytorch_optimizer", "SOAP", lr=0.03, weight_decay=0.0, precondition_frequency=2,
            max_precondition_dim=5,
        ),
    ),
    "schedule-free": (
        lambda p: ScheduleFreeAdamW(p, 0.03, betas=(0.9, 0.95), weight_decay=0.1, warmup=4),
        witness(
            "schedulefree", "AdamWScheduleFree", lr=0.03, betas=(0.9, 0.95), weight_decay=0.1,
            warmup_steps=4, foreach=False,
        ),
    ),
}  # fmt: skip


def twins() -> tuple[list[Tensor], list[Tensor]]:
    """Two equal sets of parameters in float64: a wide and a high matrix, a vector, a number."""
    torch.manual_seed(3)
    shapes = [(5, 7), (11, 3), (13,), (1,)]
    first = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    return [w.clone().requires_grad_() for w in first], [w.clone().requires_grad_() for w in first]


def gradients(step: int, like: list[Tensor]) -> list[Tensor]:
    """Gradients of very different sizes, an exact zero among them."""
    generator = torch.Generator().manual_seed(step)
    found = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in like]
    found[0][0] *= 1e3
    found[1][:, 0] *= 1e-4
    found[2][4] = 0
    return found


@pytest.mark.covers("train.optimizers")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_steps_equal_the_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("soap"):  # which decomposes in float32, whatever it is given
        exact = SimpleNamespace(**{**vars(torch), "float32": torch.float64})
        monkeypatch.setattr("pytorch_optimizer.optimizer.soap.torch", exact)
    mine = twins()
    ours, theirs = CASES[name][0](mine[0]), CASES[name][1](mine[1])
    if hasattr(theirs, "train"):
        theirs.train()
    for step in range(11):
        for weights in mine:
            for weight, gradient in zip(weights, gradients(step, weights), strict=True):
                weight.grad = gradient
        ours.step()
        theirs.step()
        torch.testing.assert_close(mine[0], mine[1], rtol=1e-6, atol=1e-9)
    if isinstance(ours, ScheduleFreeAdamW):
        ours.average()
        theirs.eval()
        torch.testing.assert_close(mine[0], mine[1], rtol=1e-6, atol=1e-9)
        ours.resume()
        theirs.train()
        torch.testing.assert_close(mine[0], mine[1], rtol=1e-6, atol=1e-9)
