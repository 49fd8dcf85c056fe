"""Faults of data parallelism: what the processes begin from, read, average and clip."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from llmlib.core.batch import IGNORE, Batch
from llmlib.data.stream.loader import TokenLoader
from llmlib.data.stream.packing import pack
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.data_parallel import DataParallel, broadcast_parameters
from llmlib.training.parallel.local_sgd import DiLoCo
from llmlib.training.parallel.ring import ring_all_reduce
from llmlib.training.parallel.zero import ZeRO
from museum.exhibit import Exhibit
from museum.neighbours import together

VOCAB, WIDTH, LENGTH = 13, 5, 7


class Bigram(nn.Module):
    """Scores of the next token from the last one alone."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(torch.randn(VOCAB, WIDTH, generator=generator).double())
        self.head = nn.Parameter(torch.randn(VOCAB, WIDTH, generator=generator).double())

    def forward(self, inputs: Tensor) -> Tensor:
        return self.table[inputs] @ self.head.T


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    logits = model(batch["inputs"])
    return nn.functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())


def _rows(seed: int, counted: int = LENGTH) -> Batch:
    """Return three rows whose next token is the last one plus one, the first targets counted."""
    start = torch.randint(VOCAB, (3, 1), generator=torch.Generator().manual_seed(seed))
    tokens = (start + torch.arange(LENGTH + 1)) % VOCAB
    targets = tokens[:, 1:].clone()
    targets[:, counted:] = IGNORE
    return {"inputs": tokens[:, :-1], "targets": targets}


def _weights(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def _gradient(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


# Replicas that are trained. Each implementation returns, for each process, the losses and the
# last weights of the replica that it drew from a seed of its own.

Trained = Callable[[Sequence[int]], list[tuple[list[float], Tensor]]]


def _train(comm: Communicator, model: nn.Module, steps: int = 40) -> tuple[list[float], Tensor]:
    parallel = DataParallel(model, comm)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    losses = []
    for step in range(steps):
        losses.append(parallel.backward(_loss, [_rows(2 * step + comm.rank)]).item())
        optimizer.step()
    parallel.close()
    return losses, _weights(model)


def _from_where_each_began(seeds: Sequence[int]) -> list[tuple[list[float], Tensor]]:
    return together(len(seeds), lambda comm: _train(comm, Bigram(seeds[comm.rank])))


def _from_where_the_first_began(seeds: Sequence[int]) -> list[tuple[list[float], Tensor]]:
    def one(comm: Communicator) -> tuple[list[float], Tensor]:
        model = Bigram(seeds[comm.rank])
        broadcast_parameters(model, comm)
        return _train(comm, model)

    return together(len(seeds), one)


def _plausible_fall_of_the_loss(trained: Trained) -> None:
    losses = [run[0] for run in trained([3, 5])]
    assert losses[0] == losses[1]
    assert losses[0][-1] < 0.6 * losses[0][0]
    one, other = (run[1] for run in trained([3, 3]))
    assert torch.equal(one, other)


def _replicas_stay_one_model(trained: Trained) -> None:
    one, other = (run[1] for run in trained([3, 5]))
    assert torch.equal(one, other)


# What a process reads. Each implementation returns the first tokens of the rows that one of several
# processes reads in an epoch of a text without repetitions.

Read = Callable[[int, int], list[int]]


def _rows_of_a_shuffled_text(rank: int, size: int) -> list[int]:
    text, length = torch.arange(1, 211), 5
    generator = torch.Generator().manual_seed(7)  # one seed, so that a run can be repeated
    starts = length * torch.randperm(len(text) // length, generator=generator)
    return text[starts[: len(starts) // size]].tolist()


def _rows_of_the_loader(rank: int, size: int) -> list[int]:
    source = pack([np.arange(1, 211)], 0)
    loader = TokenLoader(source, batch_size=6, seq_len=5, seed=7, rank=rank, world_size=size)
    found = []
    for _ in range(loader.batches_per_epoch):
        found += next(loader)["inputs"][:, 0].tolist()
    return found


def _plausible_shuffle(read: Read) -> None:
    alone, shared = read(0, 1), read(1, 2)
    assert len(set(alone)) == len(alone) > 35 and alone != sorted(alone)
    assert len(set(shared)) == len(shared) == len(alone) // 2
    assert read(1, 2) == shared


def _no_row_is_read_by_two(read: Read) -> None:
    assert not set(read(0, 2)) & set(read(1, 2))


# A mean over all processes. Each implementation returns the gradient that all end with, of the rows
# that each has.

Mean = Callable[[Sequence[Batch]], Tensor]


def _gradients_of_means_averaged(rows: Sequence[Batch]) -> Tensor:
    def one(comm: Communicator) -> Tensor:
        model = Bigram()
        _loss(model, rows[comm.rank]).backward()
        flat = _gradient(model)
        ring_all_reduce(comm, flat)
        return flat / comm.size

    return together(len(rows), one)[0]


def _gradient_of_the_mean(rows: Sequence[Batch]) -> Tensor:
    def one(comm: Communicator) -> Tensor:
        model = Bigram()
        parallel = DataParallel(model, comm)
        parallel.backward(_loss, [rows[comm.rank]])
        parallel.close()
        return _gradient(model)

    return together(len(rows), one)[0]


def _of_one_process(rows: Sequence[Batch]) -> Tensor:
    model = Bigram()
    _loss(model, {name: torch.cat([batch[name] for batch in rows]) for name in rows[0]}).backward()
    return _gradient(model)


def _same_numbers(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def _plausible_for_rows_of_one_length(mean: Mean) -> None:
    rows = [_rows(1), _rows(2), _rows(3)]
    _same_numbers(mean(rows), _of_one_process(rows))


def _every_target_counts_once(mean: Mean) -> None:
    rows = [_rows(1), _rows(2, counted=1), _rows(3, counted=4)]
    _same_numbers(mean(rows), _of_one_process(rows))


# A meeting of workers. Each implementation returns the weights that all go on from, after they
# trained from shared weights to weights of their own; the outer optimizer has a rate of 1.

Met = Callable[[Tensor, Sequence[Tensor]], Tensor]


def _descend(parameters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1.0)


def _step_along_the_change(shared: Tensor, trained: Sequence[Tensor]) -> Tensor:
    def one(comm: Communicator) -> Tensor:
        change = trained[comm.rank] - shared
        ring_all_reduce(comm, change)
        weight = shared.clone().requires_grad_()
        weight.grad = change / comm.size
        _descend([weight]).step()
        return weight.detach()

    return together(len(trained), one)[0]


def _step_by_the_library(shared: Tensor, trained: Sequence[Tensor]) -> Tensor:
    def one(comm: Communicator) -> Tensor:
        model = nn.ParameterList([nn.Parameter(shared.clone())])
        local = DiLoCo(model, comm, _descend)
        model[0].data.copy_(trained[comm.rank])
        local.meet()
        return model[0].detach()

    return together(len(trained), one)[0]


def _plausible_size_of_a_step(met: Met) -> None:
    shared = torch.tensor([1.0, -2.0, 3.0])
    assert torch.equal(met(shared, [shared, shared]), shared)
    moved = [shared + torch.tensor([3.0, 4.0, 0.0])] * 2
    assert (met(shared, moved) - shared).norm() == 5


def _goes_where_the_workers_went(met: Met) -> None:
    shared = torch.tensor([1.0, -2.0, 3.0])
    trained = [shared + torch.tensor([3.0, 0.0, 1.0]), shared + torch.tensor([1.0, 2.0, -1.0])]
    assert torch.equal(met(shared, trained), torch.tensor([3.0, -1.0, 3.0]))


# A gradient whose parts lie on several processes, clipped to a norm of 1. Each implementation
# returns it, joined.

Clipped = Callable[[Tensor, int], Tensor]


def _each_part_by_its_norm(gradient: Tensor, size: int) -> Tensor:
    def one(comm: Communicator) -> Tensor:
        part = gradient.tensor_split(comm.size)[comm.rank]
        return part * (1 / part.norm()).clamp_max(1)

    return torch.cat(together(size, one))


def _by_the_norm_of_all_parts(gradient: Tensor, size: int) -> Tensor:
    def one(comm: Communicator) -> Tensor:
        weight = nn.ParameterList([nn.Parameter(torch.zeros_like(gradient))])
        sharded = ZeRO(weight, comm, lambda groups: torch.optim.SGD(groups, lr=1.0), stage=2)
        unit = sharded.all_units[0]
        unit.shard.grad = gradient.tensor_split(comm.size)[comm.rank].clone()
        sharded.clip(1.0)
        return unit.shard.grad

    return torch.cat(together(size, one))


def _plausible_to_each_process(clipped: Clipped) -> None:
    gradient = torch.tensor([3.0, 4.0, 0.0, 12.0])
    torch.testing.assert_close(clipped(gradient, 1), gradient / 13)
    torch.testing.assert_close(clipped(gradient / 100, 2), gradient / 100)
    assert all(part.norm() <= 1 + 1e-6 for part in clipped(gradient, 2).chunk(2))


def _same_direction_on_any_number(clipped: Clipped) -> None:
    gradient = torch.tensor([3.0, 4.0, 0.0, 12.0])
    torch.testing.assert_close(clipped(gradient, 2), gradient / 13)


DATA_PARALLEL_FAULTS = [
    Exhibit(
        name="Replicas that begin apart",
        threads=("allenai/OLMo-core#319", "mosaicml/llm-foundry#830"),
        fault="Every process draws its weights from a seed of its own, and nobody sends the first "
        "one's to the others.",
        looks="All processes apply the same gradient and report the same falling loss, a mean over "
        "the replicas. They stay as far apart as they began, and one of them is saved.",
        faulty=_from_where_each_began,
        sound=_from_where_the_first_began,
        plausible=_plausible_fall_of_the_loss,
        check=_replicas_stay_one_model,
    ),
    Exhibit(
        name="Every process reads the same rows",
        threads=("huggingface/datasets#5360", "Smith42/astroPT#64"),
        fault="Rows are shuffled with one seed on all processes, and a process's share does not "
        "depend on its rank.",
        looks="Each process reads shuffled rows, none twice, and the loss falls as on one process: "
        "it is the run of one process, at the price of all, on a part of the text.",
        faulty=_rows_of_a_shuffled_text,
        sound=_rows_of_the_loader,
        plausible=_plausible_shuffle,
        check=_no_row_is_read_by_two,
    ),
    Exhibit(
        name="A mean of means over processes",
        threads=(
            "huggingface/transformers#34242",
            "pytorch/torchtitan#1842",
            "PrimeIntellect-ai/prime-rl#2562",
        ),
        fault="Each process takes the mean over its own targets, and the gradients are averaged, "
        "however many targets each has.",
        looks="Equal to one process while all have as many. Otherwise a target counts more where "
        "there are few, and the same rows on another number of processes give another gradient.",
        faulty=_gradients_of_means_averaged,
        sound=_gradient_of_the_mean,
        plausible=_plausible_for_rows_of_one_length,
        check=_every_target_counts_once,
    ),
    Exhibit(
        name="An outer step against the workers",
        threads=("meta-pytorch/torchft#233",),
        fault="What the workers changed, after less before, is given to an outer optimizer as its "
        "gradient; a descent then goes the other way.",
        looks="All go on from the same weights, the step has the right length, and within a lap "
        "every worker's loss falls as it should.",
        faulty=_step_along_the_change,
        sound=_step_by_the_library,
        plausible=_plausible_size_of_a_step,
        check=_goes_where_the_workers_went,
    ),
    Exhibit(
        name="A norm for each part of the gradient",
        threads=("PrimeIntellect-ai/OpenDiloco#6", "pytorch/pytorch#72548"),
        fault="Each process clips the part of the gradient that it keeps by the norm of that part.",
        looks="Right on one process and for small gradients, and no process sees a norm above the "
        "limit. The whole gradient is turned, and its norm may be the limit times the root of the "
        "number of processes.",
        faulty=_each_part_by_its_norm,
        sound=_by_the_norm_of_all_parts,
        plausible=_plausible_to_each_process,
        check=_same_direction_on_any_number,
    ),
]
