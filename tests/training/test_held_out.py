"""The loss on held-out batches: a mean over targets, and of none there is none."""

import pytest
import torch
from torch import Tensor, nn

from llmlib.core.batch import IGNORE, Batch
from llmlib.training.distributed import Objective
from llmlib.training.held_out import mean_loss

DEVICE = torch.device("cpu")


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    return batch["nats"].mean()


def batch_of(nats: float, n_targets: int) -> Batch:
    targets = torch.full((1, 5), IGNORE)
    targets[0, :n_targets] = 3
    return {"nats": torch.tensor([nats]), "targets": targets}


def test_batches_count_by_their_targets_and_the_model_goes_on_as_it_was():
    objective = Objective(nn.Linear(2, 3), loss_of)
    batches = [batch_of(2.0, 1), batch_of(4.0, 3), batch_of(9.0, 0)]
    assert mean_loss(objective, batches, DEVICE) == pytest.approx(3.5)
    assert objective.training


@pytest.mark.parametrize("batches", [[], [batch_of(9.0, 0)]])
def test_where_no_target_counts_there_is_no_loss(batches: list[Batch]):
    with pytest.raises(ValueError, match="no target of the held-out batches counts"):
        mean_loss(Objective(nn.Linear(2, 3), loss_of), batches, DEVICE)


def test_what_counts_nothing_may_be_no_number():
    objective = Objective(nn.Linear(2, 3), loss_of)
    assert mean_loss(objective, [batch_of(2.0, 1), batch_of(float("nan"), 0)], DEVICE) == 2.0


def test_each_part_goes_on_as_it_was():
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    model[1].eval()
    objective = Objective(model, loss_of)
    mean_loss(objective, [batch_of(2.0, 1)], DEVICE)
    with pytest.raises(KeyError):
        mean_loss(objective, [{"targets": torch.ones(1, 2)}], DEVICE)
    assert model.training and model[0].training and not model[1].training
