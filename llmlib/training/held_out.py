"""The loss on text that the model does not train on."""

from collections.abc import Iterable

import torch
from torch import nn

from llmlib.core.batch import Batch, count_targets
from llmlib.training.distributed import on_device, sum_over_ranks
from llmlib.training.objectives.auxiliary import auxiliary_losses


@torch.no_grad()
def mean_loss(objective: nn.Module, batches: Iterable[Batch], device: torch.device) -> float:
    """Return the mean loss in nats over all targets of some batches, and of all processes.

    Args:
        objective: `objective(batch)` gives a batch's mean loss; dropout is off meanwhile.
        batches: As many in each process.

    Raises:
        ValueError: If none counts, in no process.

    Example:
        >>> from llmlib.training.distributed import Objective
        >>> def three_nats(model, batch):
        ...     return torch.tensor(3.0)
        >>> objective = Objective(nn.Identity(), three_nats)
        >>> mean_loss(objective, [{"targets": torch.ones(1, 2)}], torch.device("cpu"))
        3.0
    """
    were_training = {module: module.training for module in objective.modules()}
    objective.eval()
    nats, n_targets = 0.0, 0
    try:
        for batch in batches:
            count = count_targets(batch)
            with auxiliary_losses() as heard:
                loss = objective(on_device(batch, device)).item()
            if count:  # a mean over no target may be no number
                nats += (loss - sum(auxiliary.item() for auxiliary in heard)) * count
                n_targets += count
    finally:  # each as it was: a part that is frozen may have its dropout off all the time
        for module, was_training in were_training.items():
            module.training = was_training
    sums = torch.tensor(
        [nats, n_targets],
        dtype=torch.float64,  # which Apple's devices lack
        device=device if device.type == "cuda" else "cpu",
    )
    nats, n_targets = sum_over_ranks(sums).tolist()
    if not n_targets:
        raise ValueError("no target of the held-out batches counts, so they have no loss: give "
                         "batches with targets")  # fmt: skip
    return nats / n_targets
