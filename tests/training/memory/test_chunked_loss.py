"""Cross-entropy in chunks: values, gradients, and the memory that it does without."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.batch import IGNORE
from llmlib.core.hardware.memory import tracked_allocations
from llmlib.training.memory.chunked_loss import (
    cross_entropy_with_z,
    linear_cross_entropy,
    rows_at_once,
)
from llmlib.training.objectives import language_modeling, next_token_loss

ROWS, WIDTH, VOCAB = 1009, 17, 2003


def inputs(dtype: torch.dtype, rows: int = 211) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(3)
    hidden = torch.randn(rows, WIDTH, dtype=dtype, requires_grad=True)
    weight = torch.randn(VOCAB, WIDTH, dtype=dtype, requires_grad=True)
    targets = torch.randint(VOCAB, (rows,))
    targets[23:61] = IGNORE
    return hidden, weight, targets


def plainly(hidden: Tensor, weight: Tensor, targets: Tensor, z_weight: float) -> Tensor:
    logits = hidden @ weight.T
    normalizers = logits.logsumexp(-1)[targets != IGNORE]
    return F.cross_entropy(logits, targets) + z_weight * normalizers.square().mean()


@pytest.mark.covers("train.memory")
@pytest.mark.parametrize("z_weight", [0.0, 0.03])
@pytest.mark.parametrize("chunk", [1, 13, None])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_equals_the_loss_of_whole_logits(z_weight, chunk, dtype, tolerance):
    hidden, weight, targets = inputs(dtype)
    ours = cross_entropy_with_z(hidden, weight, targets, z_weight, chunk).total
    plain = plainly(hidden, weight, targets, z_weight)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, plain, rtol=tolerance, atol=0)
    for a, b in zip(
        torch.autograd.grad(7 * ours, (hidden, weight)),
        torch.autograd.grad(7 * plain, (hidden, weight)),
        strict=True,
    ):
        assert (a - b).norm() <= tolerance * b.norm()


def test_a_tied_matrix_learns_from_both_ends():
    config = ModelConfig(vocab_size=131, d_model=22, n_layers=2, n_heads=1, max_seq_len=43)
    model = Transformer(config).double()
    batch = language_modeling(torch.randint(131, (3, 44)))
    plain = F.cross_entropy(model(batch["inputs"]).mT, batch["targets"])
    expected = torch.autograd.grad(plain, model.embedding.weight)[0]
    next_token_loss(model, batch).backward()
    torch.testing.assert_close(model.embedding.weight.grad, expected, rtol=1e-12, atol=1e-14)


def test_z_loss_is_reported_apart_and_without_gradient():
    hidden, weight, targets = inputs(torch.float64)
    loss, z_loss = cross_entropy_with_z(hidden, weight, targets, 0.03)
    assert not z_loss.requires_grad
    torch.testing.assert_close(loss - z_loss, linear_cross_entropy(hidden, weight, targets))
    normalizers = (hidden @ weight.T).logsumexp(-1)[targets != IGNORE]
    torch.testing.assert_close(z_loss, 0.03 * normalizers.square().mean())


@pytest.mark.parametrize("z_weight", [0.0, 0.03])
def test_what_the_compiler_sees_is_the_same(monkeypatch, z_weight):
    hidden, weight, targets = inputs(torch.float64)
    ours = cross_entropy_with_z(hidden, weight, targets, z_weight)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    whole = cross_entropy_with_z(hidden, weight, targets, z_weight)
    torch.testing.assert_close(ours, whole)
    torch.testing.assert_close(
        torch.autograd.grad(ours.total, hidden), torch.autograd.grad(whole.total, hidden)
    )


@pytest.mark.covers("train.memory")
def test_peak_stays_far_below_the_logits():
    """Kept are the gradients of hidden states and matrix, and one chunk of logits."""
    hidden, weight, targets = inputs(torch.float32, ROWS)
    logits = 4 * ROWS * VOCAB
    with tracked_allocations() as memory:
        linear_cross_entropy(hidden, weight, targets, 101).backward()
    kept = 4 * WIDTH * (ROWS + VOCAB)
    assert memory.peak_bytes < 1.1 * (4 * 101 * VOCAB) + 2 * kept < logits / 6
    hidden.grad = weight.grad = None
    with tracked_allocations() as plain:
        plainly(hidden, weight, targets, 0.0).backward()
    assert plain.peak_bytes > 2 * logits


def test_what_learns_nothing_gets_no_gradient_and_no_memory():
    hidden, weight, targets = inputs(torch.float32, 53)
    chunk_bytes = 4 * 53 * VOCAB
    expected = linear_cross_entropy(hidden, weight, targets)
    (of_hidden,) = torch.autograd.grad(expected, hidden)
    frozen = weight.detach()
    with tracked_allocations() as memory:
        loss = linear_cross_entropy(hidden, frozen, targets)
    assert torch.equal(torch.autograd.grad(loss, hidden)[0], of_hidden)
    assert memory.current_bytes < 2 * hidden.nbytes  # no gradient of the matrix is kept
    (of_weight,) = torch.autograd.grad(
        linear_cross_entropy(hidden.detach(), weight, targets), weight
    )
    assert of_weight.shape == weight.shape
    with tracked_allocations() as memory, torch.no_grad():
        read = linear_cross_entropy(hidden, weight, targets)
    assert torch.equal(read, loss)
    assert memory.peak_bytes < 1.1 * chunk_bytes


def test_an_accelerator_takes_as_many_rows_as_fill_what_the_hidden_states_do():
    assert rows_at_once(524_309, 4099, 1021, on_processor=False) == 524_309 * 1021 // 4099
    assert rows_at_once(4099, 131_071, 509, on_processor=False) == 1024
    assert rows_at_once(524_309, 4099, 1021, on_processor=True) == 512


def test_it_is_what_a_trainer_learns_by():
    """No step of a model whose head is most of it ever holds the logits."""
    config = ModelConfig(vocab_size=VOCAB, d_model=14, n_layers=1, n_heads=1, max_seq_len=577)
    model = Transformer(config)
    batch = language_modeling(torch.randint(VOCAB, (7, 578)))
    with tracked_allocations() as memory:
        next_token_loss(model, batch).backward()
    assert memory.peak_bytes < 4 * 7 * 577 * VOCAB / 2


def test_float16_keeps_the_gradients_of_rare_tokens_for_the_loss_scale() -> None:
    generator = torch.Generator().manual_seed(7)
    hidden, weight = (
        torch.randn(n, 13, generator=generator).half().requires_grad_() for n in (16_411, 1009)
    )
    targets = torch.randint(1009, (16_411,), generator=generator)
    targets[::3] = IGNORE
    scale = 2.0**12
    (linear_cross_entropy(hidden, weight, targets) * scale).backward()
    exact = [p.detach().float().requires_grad_() for p in (hidden, weight)]
    (linear_cross_entropy(exact[0], exact[1], targets) * scale).backward()
    for half, whole in zip((hidden, weight), exact, strict=True):
        assert half.grad is not None and whole.grad is not None
        difference = (half.grad.float() - whole.grad).norm() / whole.grad.norm()
        assert difference < 1e-3
