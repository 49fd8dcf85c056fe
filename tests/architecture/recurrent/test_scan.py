"""The linear scan: every way to run it equals the recurrence, and so do its gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.architecture.recurrent import linear_scan, parallel_scan_, scan, sequential_scan
from tests.architecture.recurrent.comparisons import exactly_equal

B, T, D, N = 2, 37, 5, 3


def draw(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    decays = torch.rand(shape, generator=g, dtype=torch.float64)
    return decays, torch.randn(shape, generator=g, dtype=torch.float64)


@pytest.fixture(params=["parallel", "step by step"])
def way(request, monkeypatch):
    monkeypatch.setattr(scan, "LARGE_STEP", 10**9 if request.param == "parallel" else 0)


@settings(max_examples=60, deadline=None)
@given(n_tokens=st.integers(1, 70), seed=st.integers(0, 99))
def test_parallel_scan_equals_the_recurrence_at_every_length(n_tokens, seed):
    decays, inputs = draw(n_tokens, D, seed=seed)
    states = inputs.clone()
    parallel_scan_(decays.clone(), states)
    exactly_equal(states, sequential_scan(decays, inputs))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("n_tokens", [1, 2, 3, T])
def test_linear_scan_and_its_gradients_equal_the_recurrence(n_tokens):
    decays, inputs = draw(B, n_tokens, D, N)
    initial = draw(B, D, N, seed=1)[1]
    arguments = [x.requires_grad_() for x in (decays, inputs, initial)]
    state, expected = initial, []
    for t in range(n_tokens):
        state = decays[:, t] * state + inputs[:, t]
        expected.append(state)
    expected = torch.stack(expected, dim=1)
    actual = linear_scan(decays, inputs, initial)
    exactly_equal(actual, expected)
    weights = draw(B, n_tokens, D, N, seed=2)[1]
    exactly_equal(
        torch.autograd.grad((actual * weights).sum(), arguments),
        torch.autograd.grad((expected * weights).sum(), arguments),
    )


@pytest.mark.usefixtures("way")
def test_gradient_equals_finite_differences_with_a_decay_shared_by_states():
    decays, inputs = draw(B, 7, 3, 2)
    shared = decays[:, :, :, :1].clone().requires_grad_()
    assert torch.autograd.gradcheck(linear_scan, (shared, inputs.requires_grad_()))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("cut", [1, 8, T - 1])
def test_a_scan_in_two_pieces_equals_the_whole(cut):
    decays, inputs = draw(B, T, D)
    whole = linear_scan(decays, inputs)
    first = linear_scan(decays[:, :cut], inputs[:, :cut])
    second = linear_scan(decays[:, cut:], inputs[:, cut:], first[:, -1])
    exactly_equal(torch.cat((first, second), dim=1), whole)


@pytest.mark.usefixtures("way")
def test_decays_are_kept_and_products_that_underflow_do_no_harm():
    # The product of 2,003 decays of 0.01 is 10^-4006: a form that divides by it returns NaN.
    decays = torch.full((1, 2003, D), 0.01)
    kept = decays.clone()
    inputs = torch.ones_like(decays, requires_grad=True)
    states = linear_scan(decays, inputs)
    states.sum().backward()
    assert torch.equal(decays, kept)
    torch.testing.assert_close(states[0, -1], torch.full((D,), 1 / 0.99))
    assert inputs.grad is not None
    torch.testing.assert_close(inputs.grad[0, 0], torch.full((D,), 1 / 0.99))
