"""Faults of split layers: what is added up too often, too rarely, or by one process alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import jaxtyping
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.expert_parallel import ExpertParallel
from llmlib.training.parallel.tensors.tensor_parallel import RowParallel, TensorParallel
from llmlib.training.parallel.tensors.vocabulary import split_cross_entropy
from museum.exhibit import Exhibit
from museum.neighbours import together


def _shares(length: int, size: int) -> list[Tensor]:
    return list(torch.arange(length).tensor_split(size))


# The loss of logits whose words are split over some processes.

Loss = Callable[[Tensor, Tensor, int], Tensor]


def _from_gathered_logits(logits: Tensor, targets: Tensor, size: int) -> Tensor:
    normalizer, chosen = torch.zeros(len(logits)), torch.zeros(len(logits))
    for rank in range(size):  # each takes all the words for its share of them
        words = targets - rank * logits.shape[1]
        own = (words >= 0) & (words < logits.shape[1])
        normalizer = normalizer + logits.exp().sum(dim=-1)
        chosen = chosen + logits.gather(-1, words.where(own, 0).unsqueeze(-1)).squeeze(-1) * own
    return (normalizer.log() - chosen).mean()


def _from_own_words(logits: Tensor, targets: Tensor, size: int) -> Tensor:
    vocab_size = logits.shape[1]
    words = torch.eye(vocab_size)  # as output matrix: a word's logit is a hidden component

    def act(comm: Communicator) -> Tensor:
        own = words[_shares(vocab_size, size)[comm.rank]]
        return split_cross_entropy(logits, own, targets, vocab_size, comm)

    return together(size, act)[0]


def _plausible_falls_as_the_target_rises(loss: Loss) -> None:
    targets, logits = torch.tensor([1, 7]), torch.zeros(2, 11)
    better = logits + F.one_hot(targets, 11)
    torch.testing.assert_close(loss(logits, targets, 1), F.cross_entropy(logits, targets))
    assert loss(better, targets, 3) < loss(logits, targets, 3)
    torch.testing.assert_close(loss(better + 5, targets, 3), loss(better, targets, 3))


def _equal_logits_cost_the_log_of_the_vocabulary(loss: Loss) -> None:
    found = loss(torch.zeros(2, 11), torch.tensor([1, 7]), 3)
    torch.testing.assert_close(found, torch.tensor(11.0).log())


# The gradient of a target's log-probability, with all words put together.

Gradient = Callable[[Tensor, int, int], Tensor]


def _through_a_sum_without_gradient(logits: Tensor, target: int, size: int) -> Tensor:
    found = []
    for share in _shares(len(logits), size):
        own = logits[share].requires_grad_()
        others = logits.exp().sum() - own.detach().exp().sum()
        log_normalizer = (own.exp().sum() + others).log()
        # The sum over the processes adds a number to this: what the others have here, detached.
        mine = (share == target) * (own - log_normalizer)
        found.append(torch.autograd.grad(mine.sum(), own)[0])
    return torch.cat(found)


def _through_the_librarys_loss(logits: Tensor, target: int, size: int) -> Tensor:
    def act(comm: Communicator) -> Tensor | None:
        hidden = torch.eye(len(logits))[:1]
        weight = torch.zeros(len(logits), len(logits))
        weight[:, 0] = logits
        own = weight[_shares(len(logits), size)[comm.rank]].requires_grad_()
        loss = split_cross_entropy(hidden, own, torch.tensor([target]), len(logits), comm)
        (-loss).backward()
        return None if own.grad is None else own.grad[:, 0]

    return torch.cat(together(size, act))


def _plausible_for_the_targets_own_words(gradient: Gradient) -> None:
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, 0.25])
    expected = F.one_hot(torch.tensor(1), 6) - logits.softmax(dim=0)
    torch.testing.assert_close(gradient(logits, 1, 1), expected)
    torch.testing.assert_close(gradient(logits, 1, 2)[:3], expected[:3])


def _what_the_target_wins_the_others_lose(gradient: Gradient) -> None:
    found = gradient(torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, 0.25]), 1, 2)
    torch.testing.assert_close(found.sum(), torch.tensor(0.0), atol=1e-6, rtol=0)


# A product whose input is split over some processes.

Product = Callable[[nn.Linear, Tensor, int], Tensor]


def _each_adds_the_bias(linear: nn.Linear, x: Tensor, size: int) -> Tensor:
    shares = _shares(linear.in_features, size)
    parts = [F.linear(x[..., own], linear.weight[:, own], linear.bias) for own in shares]
    return torch.stack(parts).sum(dim=0)


def _row_parallel(linear: nn.Linear, x: Tensor, size: int) -> Tensor:
    def act(comm: Communicator) -> Tensor:
        own = _shares(linear.in_features, size)[comm.rank]
        return RowParallel(linear, own, comm, "copied")(x[..., own])

    return together(size, act)[0].detach()


def _linear(bias: float) -> tuple[nn.Linear, Tensor]:
    torch.manual_seed(5)
    linear = nn.Linear(7, 3)
    nn.init.constant_(linear.bias, bias)
    return linear, torch.randn(2, 5, 7)


def _plausible_before_the_first_update(product: Product) -> None:
    linear, x = _linear(bias=0.0)
    torch.testing.assert_close(product(linear, x, 3), linear(x).detach())
    linear, x = _linear(bias=0.5)
    torch.testing.assert_close(product(linear, x, 1), linear(x).detach())


def _equals_one_process_with_a_bias(product: Product) -> None:
    linear, x = _linear(bias=0.5)
    torch.testing.assert_close(product(linear, x, 3), linear(x).detach())


# The residual stream after a split product and dropout, as each process has it.

Streams = Callable[[Tensor, float, int], list[Tensor]]


def _streams(x: Tensor, rate: float, size: int, seed: Callable[[int], int]) -> list[Tensor]:
    torch.manual_seed(5)
    linear = nn.Linear(x.shape[-1], x.shape[-1])

    def act(comm: Communicator) -> Tensor:
        generator = torch.Generator().manual_seed(seed(comm.rank))
        own = _shares(linear.in_features, size)[comm.rank]
        y = RowParallel(linear, own, comm, "copied")(x[..., own]).detach()
        kept = torch.rand(y.shape, generator=generator) >= rate
        return x + y * kept / (1 - rate)

    return together(size, act)


def _a_seed_for_each_process(x: Tensor, rate: float, size: int) -> list[Tensor]:
    return _streams(x, rate, size, seed=lambda rank: 100 + rank)


def _a_seed_for_the_group(x: Tensor, rate: float, size: int) -> list[Tensor]:
    return _streams(x, rate, size, seed=lambda rank: 100)


def _plausible_share_is_dropped(streams: Streams) -> None:
    x = torch.ones(2, 50, 7)
    for one in streams(x, 0.5, 3):
        assert 0.4 < (one == x).float().mean() < 0.6
    for one in streams(x, 0.0, 3):
        torch.testing.assert_close(one, streams(x, 0.0, 1)[0])


def _all_have_one_stream(streams: Streams) -> None:
    first, *others = streams(torch.ones(2, 5, 7), 0.5, 3)
    for other in others:
        assert torch.equal(first, other)


# A decoder whose tokens are split between the products: its loss and each process's gradients.

Trained = Callable[[Transformer, Batch, int], tuple[float, list[dict[str, Tensor]]]]


def _split_tokens(
    model: Transformer, batch: Batch, size: int, *, sums: bool = True
) -> tuple[float, list[dict[str, Tensor]]]:
    copies = [deepcopy(model) for _ in range(size)]

    def act(comm: Communicator) -> tuple[float, dict[str, Tensor]]:
        own = copies[comm.rank]
        parallel = TensorParallel(own, comm, "split")
        if not sums:
            parallel.partial.clear()
        loss = parallel.backward([batch])
        named = ((n, p.grad) for n, p in own.named_parameters())
        return loss.item(), {n: parallel.whole(n, grad) for n, grad in named if grad is not None}

    with _rows_may_be_shares():
        runs = together(size, act)
    return runs[0][0], [gradients for _, gradients in runs]


@contextmanager
def _rows_may_be_shares() -> Iterator[None]:
    """Let the checks of shapes rest: a decoder's annotations speak of rows of all their tokens."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def _norms_left_alone(
    model: Transformer, batch: Batch, size: int
) -> tuple[float, list[dict[str, Tensor]]]:
    return _split_tokens(model, batch, size, sums=False)


def _tiny(**changes: Any) -> tuple[Transformer, Batch]:
    torch.manual_seed(3)
    sizes: dict[str, Any] = dict(vocab_size=11, d_model=8, n_layers=1, n_heads=2, max_seq_len=6)
    model = Transformer(ModelConfig(**sizes, d_ff=10, init_std=0.3, **changes)).double().train()
    tokens = torch.randint(11, (3, 7))
    return model, {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}


def _alone(model: Transformer, batch: Batch) -> tuple[float, dict[str, Tensor]]:
    own = deepcopy(model)
    loss = next_token_loss(own, batch)
    loss.backward()
    return loss.item(), {n: p.grad for n, p in own.named_parameters() if p.grad is not None}


def _plausible_loss_and_matrices(trained: Trained) -> None:
    model, batch = _tiny()
    loss, gradients = _alone(model, batch)
    found, each = trained(model, batch, 2)
    assert abs(found - loss) < 1e-12
    for name in (name for name in gradients if "norm" not in name):
        torch.testing.assert_close(each[0][name], gradients[name])


def _every_gradient_is_that_of_one_process(trained: Trained) -> None:
    model, batch = _tiny()
    _, gradients = _alone(model, batch)
    for found in trained(model, batch, 2)[1]:
        torch.testing.assert_close(found, gradients)


# What the load-balancing loss asks of a router, when each process reads the given rows.

Routed = Callable[[Transformer, Batch, int], Tensor]


def _routers_gradient(model: Transformer, batch: Batch, size: int, weight: float) -> Tensor:
    copies = [deepcopy(model) for _ in range(size)]

    def loss_fn(own: Any, batch: Batch) -> Tensor:
        loss = next_token_loss(own, batch)  # with the balancing loss once
        return loss + (weight - 1) * own.balance_loss()

    def act(comm: Communicator) -> Tensor:
        own = copies[comm.rank]
        ExpertParallel(own, comm).backward(loss_fn, [batch])
        router = next(p for name, p in own.named_parameters() if "router" in name)
        assert router.grad is not None
        return router.grad

    return together(size, act)[0]


def _divided_by_all_tokens(model: Transformer, batch: Batch, size: int) -> Tensor:
    return _routers_gradient(model, batch, size, weight=1 / size)


def _weighed_like_the_rest(model: Transformer, batch: Batch, size: int) -> Tensor:
    return _routers_gradient(model, batch, size, weight=1.0)


def _plausible_alone_and_without_the_balance(routed: Routed) -> None:
    model, batch = _tiny(n_experts=4, balance_weight=1.0)
    _, gradients = _alone(model, batch)
    expected = next(gradient for name, gradient in gradients.items() if "router" in name)
    torch.testing.assert_close(routed(model, batch, 1), expected)
    model, batch = _tiny(n_experts=4, balance_weight=0.0)
    torch.testing.assert_close(routed(model, batch, 2), routed(model, batch, 1))


def _the_same_rows_twice_change_nothing(routed: Routed) -> None:
    model, batch = _tiny(n_experts=4, balance_weight=1.0)
    torch.testing.assert_close(routed(model, batch, 2), routed(model, batch, 1))


TENSOR_PARALLEL_FAULTS = [
    Exhibit(
        name="Logits gathered before a vocabulary-parallel loss",
        threads=("NVIDIA/Megatron-LM#7452",),
        fault="Each process hands all logits to a loss that takes them for its share of the words, "
        "and adds its sum of exponentials to those of the others.",
        looks="The loss falls as it should and is too high by the logarithm of the number of "
        "processes, a constant that no curve shows.",
        faulty=_from_gathered_logits,
        sound=_from_own_words,
        plausible=_plausible_falls_as_the_target_rises,
        check=_equal_logits_cost_the_log_of_the_vocabulary,
    ),
    Exhibit(
        name="Log-probabilities added up behind autograd's back",
        threads=("modelscope/ms-swift#9947",),
        fault="The process that has the target's word computes its log-probability, the others "
        "zero, and the sum over the processes is a number that no gradient passes.",
        looks="The value is right, and so is the gradient of all words on the target's process. "
        "Words elsewhere are never pushed down.",
        faulty=_through_a_sum_without_gradient,
        sound=_through_the_librarys_loss,
        plausible=_plausible_for_the_targets_own_words,
        check=_what_the_target_wins_the_others_lose,
    ),
    Exhibit(
        name="A bias added by every process",
        threads=(
            "PaddlePaddle/Paddle#35186",
            "awslabs/slapo#10",
            "Wenyueh/MinivLLM#80",
        ),
        fault="In a product split by rows each process adds the bias to its part, and the parts "
        "are added up.",
        looks="Right on one process, and right for a fresh model, whose biases are zero.",
        faulty=_each_adds_the_bias,
        sound=_row_parallel,
        plausible=_plausible_before_the_first_update,
        check=_equals_one_process_with_a_bias,
    ),
    Exhibit(
        name="Dropout of its own on each process of a tensor-parallel group",
        threads=("NVIDIA/Megatron-LM#206", "bigscience-workshop/Megatron-DeepSpeed#277"),
        fault="The processes of a group hold copies of one residual stream, and their random "
        "states are not the same: each drops other components of it.",
        looks="On each process the right share is dropped. The copies are no longer copies, and "
        "the next product adds up parts of different streams.",
        faulty=_a_seed_for_each_process,
        sound=_a_seed_for_the_group,
        plausible=_plausible_share_is_dropped,
        check=_all_have_one_stream,
    ),
    Exhibit(
        name="Norms' gradients left unsummed where tokens are split",
        threads=("EleutherAI/gpt-neox#1257", "NVIDIA-NeMo/Speech#7184"),
        fault="With sequence parallelism a norm sees its process's tokens only, and nobody adds "
        "the gradients of its weight up.",
        looks="The loss and the gradients of all matrices are right. The norms of the processes "
        "drift apart from the first update on.",
        faulty=_norms_left_alone,
        sound=_split_tokens,
        plausible=_plausible_loss_and_matrices,
        check=_every_gradient_is_that_of_one_process,
    ),
    Exhibit(
        name="A load-balancing loss that fades with the processes",
        threads=("NVIDIA/Megatron-LM#5047",),
        fault="The balancing loss of a process's own tokens is scaled by these alone, and the "
        "gradient is divided by the tokens of all processes.",
        looks="Right on one process, and on any number where nothing is balanced. The more "
        "processes share a batch, the less the router is asked to balance.",
        faulty=_divided_by_all_tokens,
        sound=_weighed_like_the_rest,
        plausible=_plausible_alone_and_without_the_balance,
        check=_the_same_rows_twice_change_nothing,
    ),
]
