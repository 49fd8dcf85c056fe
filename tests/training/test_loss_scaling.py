"""Loss scaling, step by step beside torch's."""

import json

import pytest
import torch
from torch import Tensor, nn

from llmlib.training.loss_scaling import LossScaler

INF, NAN = float("inf"), float("nan")
# What the gradient holds at each update: a run with overflows before, at and after a growth.
HISTORY = (1.0, 3.0, 5.0, INF, NAN, 2.0, 1e-8, 7.0, 1.5, -INF, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9.0)


@pytest.mark.covers("train.mixed-precision")
def test_every_step_is_torchs() -> None:
    theirs = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    ours = LossScaler(factor=2.0**10, growth_interval=3)
    twins = [nn.Parameter(torch.ones(7)) for _ in range(2)]
    optimizers = [torch.optim.SGD([w], lr=0.1) for w in twins]
    for value in HISTORY:
        for w, scaler in zip(twins, (theirs, ours), strict=True):
            w.grad = None
            scaler.scale((w * value).sum()).backward()
        theirs.unscale_(optimizers[0])
        assert isinstance(twins[1].grad, Tensor)
        finite = bool(ours.unscale([twins[1].grad]))
        assert finite == (abs(value) < INF)
        torch.testing.assert_close(twins[1].grad, twins[0].grad, rtol=0, atol=0, equal_nan=True)
        theirs.step(optimizers[0])
        if finite:
            optimizers[1].step()
        theirs.update()
        ours.update(all_finite=finite)
        assert ours.factor == theirs.get_scale()
        assert ours.good_steps == theirs._get_growth_tracker()  # pyright: ignore[reportPrivateUsage]
        torch.testing.assert_close(twins[1], twins[0], rtol=0, atol=0)


def test_the_factor_stays_a_float32_as_torchs() -> None:
    theirs = torch.amp.GradScaler("cpu", init_scale=2.0**126, growth_interval=1)
    ours = LossScaler(factor=2.0**126, growth_interval=1)
    w = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([w], lr=0.0)
    for _ in range(3):
        w.grad = torch.zeros(1)
        theirs.scale(torch.zeros(()))  # it makes its scale on first use
        theirs.step(optimizer)
        theirs.update()
        ours.update(all_finite=True)
        assert ours.factor == theirs.get_scale()
    assert ours.factor == 2.0**127


@pytest.mark.covers("train.mixed-precision")
def test_a_gradient_that_float16_flushes_comes_back() -> None:
    tiny = 2.0**-30
    grads = []
    for factor in (1.0, 2.0**16):
        scaler = LossScaler(factor=factor)
        w = nn.Parameter(torch.ones(5))
        with torch.autocast("cpu", dtype=torch.float16):
            hidden = w.half() * 1.0  # its gradient is float16 on the way back
        scaler.scale((hidden.float() * tiny).sum()).backward()
        assert isinstance(w.grad, Tensor) and scaler.unscale([w.grad])
        grads.append(w.grad)
    assert not grads[0].any()
    torch.testing.assert_close(grads[1], torch.full((5,), tiny), rtol=0, atol=0)


def test_a_float16_loss_is_scaled_in_float32() -> None:
    scaled = LossScaler().scale(torch.tensor(3.0, dtype=torch.float16))
    assert scaled.dtype == torch.float32 and scaled == 3 * 65536


@pytest.mark.parametrize("bad", [INF, -INF, NAN])
@pytest.mark.parametrize("where", [0, 6, 12])
def test_one_bad_number_in_any_gradient_is_found(bad: float, where: int) -> None:
    gradients = [torch.ones(5), torch.ones(2, 4)]
    assert LossScaler().unscale(gradients)
    gradients[where // 5 > 0].view(-1)[where - 5 * (where // 5 > 0)] = bad
    assert not LossScaler().unscale(iter(gradients))


def test_no_gradient_is_finite() -> None:
    assert LossScaler().unscale([])


def test_a_state_goes_through_json() -> None:
    first, second = LossScaler(factor=96.0, growth_interval=5), LossScaler(growth_interval=5)
    for _ in range(3):
        first.update(all_finite=True)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for _ in range(2):
        first.update(all_finite=True)
        second.update(all_finite=True)
    assert second == first and second.factor == 192.0


def test_a_loss_that_diverges_is_said_once() -> None:
    scaler = LossScaler(factor=2.0**-12)
    scaler.update(all_finite=False)
    with pytest.raises(FloatingPointError, match="the loss that diverges"):
        scaler.update(all_finite=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"factor": 0.0},
        {"factor": INF},
        {"growth": 1.0},
        {"backoff": 1.0},
        {"backoff": 0.0},
        {"growth_interval": 0},
        {"good_steps": -1},
    ],
)
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        LossScaler(**settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("state", [{}, {"factor": 2.0}, {"factor": NAN, "good_steps": 0}])
def test_foreign_states(state: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="factor"):
        LossScaler().load_state_dict(state)


def test_gradients_without_numbers_are_finite():
    scaler = LossScaler(factor=2.0)
    assert scaler.unscale([torch.zeros(0, 5)])
    assert scaler.unscale([torch.zeros(0), torch.ones(3)])
    assert not scaler.unscale([torch.zeros(0), torch.tensor([torch.nan])])


def test_a_factor_that_float32_has_not_is_refused():
    with pytest.raises(ValueError, match="finite in float32"):
        LossScaler(factor=1e39)
