"""The z-loss: its gradient by hand, a term of the objective reported apart, and what it does."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.batch import IGNORE
from llmlib.training import language_modeling, next_token_loss
from llmlib.training.memory.chunked_loss import cross_entropy_with_z
from llmlib.training.objectives.auxiliary import auxiliary_losses

CONFIG = ModelConfig(vocab_size=29, d_model=26, n_layers=2, n_heads=1, max_seq_len=13)


@pytest.mark.covers("train.stability")
def test_the_gradient_worked_by_hand() -> None:
    # log^2 Z falls by 2 log Z p_v at each logit: with logits log 1, log 2, log 5, Z is 8.
    logits = torch.tensor([[1.0, 2.0, 5.0]], dtype=torch.float64).log().requires_grad_()
    eye, target = torch.eye(3, dtype=torch.float64), torch.tensor([1])
    total, z_loss = cross_entropy_with_z(logits, eye, target, 0.5)
    log_z = torch.tensor(8.0, dtype=torch.float64).log()
    torch.testing.assert_close(z_loss, 0.5 * log_z**2)
    torch.testing.assert_close(total, (log_z - torch.tensor(2.0).double().log()) + z_loss)
    [gradient] = torch.autograd.grad(total, logits)
    p = torch.tensor([[1 / 8, 2 / 8, 5 / 8]], dtype=torch.float64)
    one = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(gradient, p - one + 0.5 * 2 * log_z * p)


def some_batch() -> dict[str, Tensor]:
    tokens = torch.randint(29, (3, 14), generator=torch.Generator().manual_seed(2))
    batch = language_modeling(tokens)
    batch["targets"] = batch["targets"].clone()  # a view of the tokens, as the inputs are
    batch["targets"][1, 4:] = IGNORE
    return batch


@pytest.mark.covers("train.stability")
def test_as_a_term_of_the_objective_it_equals_the_plain_sum() -> None:
    torch.manual_seed(3)
    model = Transformer(CONFIG).double()
    batch = some_batch()
    counts = batch["targets"] != IGNORE
    logits = model(batch["inputs"])
    z_loss = 0.3 * logits.logsumexp(-1).square()[counts].mean()
    nats = F.cross_entropy(logits[counts], batch["targets"][counts])
    with auxiliary_losses() as heard:
        ours = next_token_loss(model, batch, z_weight=0.3)
    torch.testing.assert_close(ours, nats + z_loss)
    torch.testing.assert_close(torch.stack(heard), z_loss.detach()[None])
    parameters = list(model.parameters())
    for a, b in zip(
        torch.autograd.grad(ours, parameters),
        torch.autograd.grad(nats + z_loss, parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_what_is_evaluated_has_no_z_loss_in_it() -> None:
    torch.manual_seed(3)
    model = Transformer(CONFIG).eval()
    batch = some_batch()
    with auxiliary_losses() as heard:
        assert torch.equal(
            next_token_loss(model, batch, z_weight=0.3), next_token_loss(model, batch)
        )
    assert not heard


def test_experts_keep_their_balance_loss_beside_it() -> None:
    torch.manual_seed(3)
    model = Transformer(CONFIG.replace(n_experts=5, balance_weight=0.5))
    batch = some_batch()
    with auxiliary_losses() as heard:
        total = next_token_loss(model, batch, z_weight=0.3)
    assert len(heard) == 2
    nats = next_token_loss(model.eval(), batch)
    torch.testing.assert_close(total, nats + torch.stack(heard).sum())


@pytest.mark.covers("train.stability")
def test_it_pulls_the_normalizer_to_one_and_leaves_the_loss() -> None:
    """Logits have a direction that the loss does not see: all of a row up or down together."""

    def trained(z_weight: float) -> tuple[float, float]:
        torch.manual_seed(3)
        model = Transformer(CONFIG)
        batch = some_batch()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(40):
            optimizer.zero_grad()
            loss = partial(next_token_loss, z_weight=z_weight)(model, batch)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            size = model(batch["inputs"]).logsumexp(-1).abs().mean().item()
            return size, next_token_loss(model.eval(), batch).item()

    free, free_loss = trained(0.0)
    pulled, pulled_loss = trained(0.1)
    assert free > 1.0
    assert pulled < free / 2
    assert pulled_loss < free_loss + 0.3
