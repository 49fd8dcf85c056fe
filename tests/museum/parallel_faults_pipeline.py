"""Faults of pipelines: whose gradient a shared or a late one is."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import torch
from torch import Tensor, nn
from typing_extensions import override

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.data_parallel import DataParallel
from llmlib.training.parallel.pipelines.stages import DeferredLinear, PipelineParallel
from llmlib.training.parallel.ring import sum_together
from museum.exhibit import Exhibit
from museum.neighbours import WAIT, Neighbour, together


class _Stage(Neighbour):
    """A thread of two, whose messages to the other one arrive in the order they were sent in."""

    @override
    def send(self, name: str, tensor: Tensor, to: int, tag: int) -> None:
        self.exchange(name, {to: tensor}, {})

    @override
    def receive(self, name: str, into: Tensor, source: int, tag: int) -> Tensor:
        into.detach().copy_(self._queues[source][self.rank].get(timeout=WAIT))
        return into

    @override
    def flush(self) -> None:
        pass


# A tied model trained on two stages. Each implementation returns the losses, and what the first
# and what the last stage then has for the matrix that is one in the model.

Trained = Callable[[list[list[Batch]]], tuple[list[float], Tensor, Tensor]]
RATE = 0.5


def _tied_model() -> Transformer:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=13, d_model=8, n_layers=2, n_heads=2, max_seq_len=7, init_std=0.2
    )
    return Transformer(config).double()


def _two_stages(kind: type[PipelineParallel], updates: list[list[Batch]]) -> list[list[Tensor]]:
    queues = [[Queue[Tensor]() for _ in range(2)] for _ in range(2)]
    models = [_tied_model() for _ in range(2)]  # threads share one random generator

    def train(rank: int) -> list[Tensor]:
        stage = kind(models[rank], _Stage(rank, queues), "gpipe")
        steps = torch.optim.SGD(stage.parameters().values(), lr=RATE)
        losses: list[Tensor] = []
        for micro_batches in updates:
            steps.zero_grad()
            losses.append(stage.backward(micro_batches))
            steps.step()
        return [torch.stack(losses), stage.model.embedding.weight.detach()]

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(train, range(2)))


class _EachItsOwn(PipelineParallel):
    @override
    def _add_tied_gradients(self) -> None:
        pass  # each stage steps with the gradient of its own use of the matrix


def _never_added(updates: list[list[Batch]]) -> tuple[list[float], Tensor, Tensor]:
    (losses, first), (_, last) = _two_stages(_EachItsOwn, updates)
    return losses.tolist(), first, last


def _added_on_both(updates: list[list[Batch]]) -> tuple[list[float], Tensor, Tensor]:
    (losses, first), (_, last) = _two_stages(PipelineParallel, updates)
    return losses.tolist(), first, last


def _updates(n: int) -> list[list[Batch]]:
    """Return rows whose next token is the last one plus one, two micro-batches an update."""
    start = torch.randint(13, (n, 2, 3, 1), generator=torch.Generator().manual_seed(1))
    tokens = (start + torch.arange(8)) % 13
    return [[{"inputs": m[:, :-1], "targets": m[:, 1:]} for m in both] for both in tokens]


def _plausible_while_it_trains(trained: Trained) -> None:
    updates = _updates(8)
    losses, first, last = trained(updates)
    whole = {name: torch.cat([batch[name] for batch in updates[0]]) for name in updates[0][0]}
    assert abs(losses[0] - next_token_loss(_tied_model(), whole).item()) < 1e-10
    assert losses[-1] < 0.9 * losses[0]
    assert torch.isfinite(first).all() and torch.isfinite(last).all()


def _still_one_matrix(trained: Trained) -> None:
    updates = _updates(1)
    model = _tied_model()
    whole = {name: torch.cat([batch[name] for batch in updates[0]]) for name in updates[0][0]}
    next_token_loss(model, whole).backward()
    assert model.embedding.weight.grad is not None
    stepped = (model.embedding.weight - RATE * model.embedding.weight.grad).detach()
    _, first, last = trained(updates)
    torch.testing.assert_close(first, last, rtol=0, atol=1e-12)
    torch.testing.assert_close(first, stepped, rtol=0, atol=1e-12)


# The gradient of a layer on each replica, its rows' mean square to be lowered, when the weight's
# gradient is made after the backward pass. Given are each replica's rows.

PutOff = Callable[[Sequence[Tensor]], list[Tensor]]


def _layer(jobs: list[Callable[[], None]]) -> DeferredLinear:
    linear = nn.Linear(5, 3, bias=False, dtype=torch.float64)
    nn.init.constant_(linear.weight, 0.5)
    return DeferredLinear(linear, lambda: jobs)


def _mean_square(model: nn.Module, batch: Batch) -> Tensor:
    return model(batch["rows"]).square().sum(dim=-1).mean()


def _reduced_by_hooks(replicas: Sequence[Tensor]) -> list[Tensor]:
    def replica(comm: Communicator) -> Tensor:
        jobs: list[Callable[[], None]] = []
        layer = _layer(jobs)
        parallel = DataParallel(layer, comm)
        parallel.backward(_mean_square, [{"rows": replicas[comm.rank]}])
        for job in jobs:
            job()
        parallel.close()
        assert layer.weight.grad is not None
        return layer.weight.grad

    return together(len(replicas), replica)


def _reduced_after_the_jobs(replicas: Sequence[Tensor]) -> list[Tensor]:
    total = sum(map(len, replicas))

    def replica(comm: Communicator) -> Tensor:
        jobs: list[Callable[[], None]] = []
        layer, rows = _layer(jobs), replicas[comm.rank]
        (_mean_square(layer, {"rows": rows}) * (len(rows) / total)).backward()
        for job in jobs:
            job()
        assert layer.weight.grad is not None
        sum_together(comm, [layer.weight.grad])
        return layer.weight.grad

    return together(len(replicas), replica)


def _some_rows(n: int, seed: int) -> Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _by_autograd(rows: Tensor) -> Tensor:
    weight = torch.full((3, 5), 0.5, dtype=torch.float64, requires_grad=True)
    (rows @ weight.T).square().sum(dim=-1).mean().backward()
    assert weight.grad is not None
    return weight.grad


def _plausible_on_one_replica(averaged: PutOff) -> None:
    rows = _some_rows(7, 0)
    torch.testing.assert_close(averaged([rows])[0], _by_autograd(rows))
    for mine in averaged([rows, _some_rows(5, 1)]):
        assert torch.isfinite(mine).all() and mine.norm() > 0


def _of_all_rows_on_every_replica(averaged: PutOff) -> None:
    replicas = [_some_rows(7, 0), _some_rows(5, 1)]
    whole = _by_autograd(torch.cat(replicas))
    for mine in averaged(replicas):
        torch.testing.assert_close(mine, whole)


# Gradients of the layers of a net when they are made after the backward pass. A weight may stand
# twice in the list.

Later = Callable[[list[nn.Parameter], Tensor], list[Tensor]]


def _jobs_of(weights: list[nn.Parameter], x: Tensor) -> list[Callable[[], None]]:
    jobs: list[Callable[[], None]] = []
    for weight in weights:
        linear = nn.Linear(*weight.shape, bias=False, device="meta")
        linear.weight, weight.grad = weight, None
        x = DeferredLinear(linear, lambda: jobs)(x)
    x.square().sum().backward()
    return jobs  # the last layer's first


def _gradients(weights: list[nn.Parameter]) -> list[Tensor]:
    return [weight.grad for weight in weights if weight.grad is not None]


def _written_by_each_layer(weights: list[nn.Parameter], x: Tensor) -> list[Tensor]:
    for weight, job in zip(reversed(weights), _jobs_of(weights, x), strict=True):
        weight.grad = None  # a layer takes the place for its own
        job()
    return _gradients(weights)


def _added_by_each_layer(weights: list[nn.Parameter], x: Tensor) -> list[Tensor]:
    for job in _jobs_of(weights, x):
        job()
    return _gradients(weights)


def _expected(weights: list[nn.Parameter], x: Tensor) -> list[Tensor]:
    for weight in weights:
        weight.grad = None
        x = x @ weight.T
    x.square().sum().backward()
    return _gradients(weights)


def _squares(n: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(2)
    return [
        nn.Parameter(torch.randn(5, 5, generator=generator, dtype=torch.float64)) for _ in range(n)
    ]


def _agree(later: Later, weights: list[nn.Parameter]) -> None:
    x = _some_rows(3, 4)
    found = [gradient.clone() for gradient in later(weights, x)]
    torch.testing.assert_close(found, [gradient.clone() for gradient in _expected(weights, x)])


def _plausible_where_nothing_is_shared(later: Later) -> None:
    _agree(later, _squares(3))


def _a_weight_used_twice(later: Later) -> None:
    first, second = _squares(2)
    _agree(later, [first, second, first])


PIPELINE_FAULTS = [
    Exhibit(
        name="A tied matrix on two stages, each with a gradient of its own",
        threads=("uw-syfi/piper#13", "uw-syfi/piper#25"),
        fault="The first stage has the embedding, the last one the output matrix, copies of one "
        "matrix. Their gradients are not added up before the update.",
        looks="The first loss is the single process's, and training goes on. The matrix is two "
        "from the first update on, and a checkpoint keeps whichever is written last.",
        faulty=_never_added,
        sound=_added_on_both,
        plausible=_plausible_while_it_trains,
        check=_still_one_matrix,
    ),
    Exhibit(
        name="Weight gradients of which no hook hears",
        threads=("pytorch/pytorch#144530", "pytorch/pytorch#134052"),
        fault="A zero-bubble order makes the weights' gradients by themselves, later. Hooks that "
        "data parallelism waits for belong to the backward pass, and none runs then.",
        looks="One replica trains as before; with several each trains on its own rows alone, at a "
        "fraction of the rate, and no error says so.",
        faulty=_reduced_by_hooks,
        sound=_reduced_after_the_jobs,
        plausible=_plausible_on_one_replica,
        check=_of_all_rows_on_every_replica,
    ),
    Exhibit(
        name="A late weight gradient that takes the place of another",
        threads=("NVIDIA/TransformerEngine#3437", "NVIDIA/TransformerEngine#3552"),
        fault="A layer that makes its weight's gradient later writes it, and does not add it to "
        "what another layer with the same weight has written.",
        looks="Right for every net whose layers share nothing. A weight that is used twice learns "
        "from one of its uses.",
        faulty=_written_by_each_layer,
        sound=_added_by_each_layer,
        plausible=_plausible_where_nothing_is_shared,
        check=_a_weight_used_twice,
    ),
]
