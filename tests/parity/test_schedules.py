"""The schedules give transformers' factors, step by step."""

import pytest
import torch
import transformers

from llmlib.training.optimizers import schedules

TOTAL, WARMUP = 97, 13


def witness_factors(make: str, **settings: float | str) -> list[float]:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = getattr(transformers, f"get_{make}")(optimizer, **settings)
    return [scheduler.lr_lambdas[0](step) for step in range(TOTAL + 1)]


def ours(name: str, **settings: float | str) -> list[float]:
    return [getattr(schedules, name)(step, **settings) for step in range(TOTAL + 1)]


@pytest.mark.covers("train.lr")
@pytest.mark.parametrize("warmup", [0, WARMUP])
def test_linear_cosine_and_polynomial_equal_transformers(warmup: int) -> None:
    both = {"num_warmup_steps": warmup, "num_training_steps": TOTAL}
    own = {"warmup": warmup, "total": TOTAL}
    pairs = [
        (ours("linear", **own), witness_factors("linear_schedule_with_warmup", **both)),
        (ours("cosine", **own), witness_factors("cosine_schedule_with_warmup", **both)),
        (
            ours("polynomial", **own, power=3.0, final=0.2),
            witness_factors("polynomial_decay_schedule_with_warmup", **both, power=3.0, lr_end=0.2),
        ),
        (
            ours("cosine", **own, final=0.1),
            witness_factors("cosine_with_min_lr_schedule_with_warmup", **both, min_lr_rate=0.1),
        ),
    ]
    for mine, theirs in pairs:
        assert mine == pytest.approx(theirs, abs=1e-12)


@pytest.mark.covers("train.lr")
def test_inverse_square_root_equals_transformers() -> None:
    theirs = witness_factors("inverse_sqrt_schedule", num_warmup_steps=WARMUP)
    assert ours("inverse_sqrt", warmup=WARMUP) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.covers("train.lr")
@pytest.mark.parametrize(
    ("shape", "kind"), [("linear", "linear"), ("cosine", "cosine"), ("sqrt", "1-sqrt")]
)
def test_warmup_stable_decay_equals_transformers(shape: str, kind: str) -> None:
    decay = 31
    for final in (0.0, 0.05):
        theirs = witness_factors(
            "wsd_schedule",
            num_warmup_steps=WARMUP,
            num_stable_steps=TOTAL - WARMUP - decay,
            num_decay_steps=decay,
            decay_type=kind,
            min_lr_ratio=final,
        )
        mine = ours(
            "warmup_stable_decay",
            total=TOTAL,
            warmup=WARMUP,
            decay=decay,
            shape=shape,
            final=final,
        )
        # Their warm-up starts from the final factor, ours from 0.
        start = WARMUP if final else 0
        assert mine[start:] == pytest.approx(theirs[start:], abs=1e-12)
