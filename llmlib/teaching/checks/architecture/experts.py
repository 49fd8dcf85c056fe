"""Checks of the exercises of chapters/04_architecture/07_mixture_of_experts.ipynb."""

from typing import Any

import torch
from torch import Tensor

from llmlib.architecture.experts.routing import route, switch_balance_loss, within_capacity
from llmlib.teaching.answers.measured import gradient, peak_bytes
from llmlib.teaching.authoring import Exercise, args, expect, normal

NOTEBOOK = "04_architecture/07_mixture_of_experts"

# Gates


def _mixture_gates(scores: Tensor, k: int) -> Tensor:
    chosen = scores.topk(k, dim=-1)
    return torch.zeros_like(scores).scatter(-1, chosen.indices, chosen.values.softmax(dim=-1))


def _chosen(scores: Tensor, k: int) -> Tensor:
    return torch.zeros_like(scores).scatter(-1, scores.topk(k, dim=-1).indices, 1.0)


def _sorted(weights: Any) -> Tensor:
    return torch.as_tensor(weights).sort(dim=-1).values


def _at_least_the_kth(scores: Tensor, k: int) -> Tensor:
    kth = scores.topk(k, dim=-1).values[..., -1:]
    return scores.masked_fill(scores < kth, -torch.inf).softmax(dim=-1)


def _small_number(scores: Tensor, k: int) -> Tensor:
    return scores.masked_fill(_chosen(scores, k) == 0, -100).softmax(dim=-1)


_TIED = torch.tensor([[1.0, 3.0, 3.0, 3.0], [2.0, 2.0, 2.0, 2.0], [5.0, 1.0, 1.0, 0.0]])

gates = Exercise(
    "mixture_gates",
    title="the weights of the k best experts of each token",
    reference=_mixture_gates,
    hints=(
        "Only k of the E weights of a token are not zero, and those sum to one.",
        "`scores.topk(k, dim=-1)` has the k largest as `.values` and their places as `.indices`.",
        "`torch.zeros_like(scores).scatter(-1, indices, values.softmax(dim=-1))`.",
    ),
    cases={
        "1 token, 3 experts, k = 2": args(torch.tensor([[1.0, 2.0, 4.0]]), 2),
        "11 tokens, 7 experts, k = 3": args(normal(11, 7), 3),
        "k = 1, where the weight is 1": args(normal(5, 4), 1),
        "scores in the hundreds, all of them negative": args(200 * normal(5, 4) - 900, 2),
        "scores of less than -20,000": args(-20_000 - torch.arange(12.0).view(3, 4) % 5, 2),
        "equal scores, of which k count": lambda f: _sorted(f(_TIED.clone(), 2)),
        "all experts": args(normal(3, 4), 4),
    },
    mistakes={
        "the weights of a token should sum to one: take the softmax of the chosen k alone": (
            lambda scores, k: scores.softmax(dim=-1) * _chosen(scores, k)
        ),
        "scores of 0 still count in a softmax, since exp(0) is 1: use -inf to leave them out": (
            lambda scores, k: (scores * _chosen(scores, k)).softmax(dim=-1)
        ),
        "of equal scores only as many count as make k: you kept all that equal the k-th": (
            _at_least_the_kth
        ),
        "a score that is left out must be -inf: here the others lie below your number": (
            _small_number
        ),
        "each token chooses experts (dim=-1); yours lets each expert choose tokens": (
            lambda scores, k: _mixture_gates(scores.T, min(k, len(scores))).T
        ),
        "every expert has a weight: that is the dense mixture; "
        "keep the k largest only": lambda scores, k: scores.softmax(dim=-1),
        "you weight the chosen alike; a better score counts more": lambda s, k: _chosen(s, k) / k,
    },
)


# Balance


def _routed(n_tokens: int, n_experts: int, k: int) -> tuple[Tensor, Tensor]:
    routing = route(2 * normal(n_tokens, n_experts), k)
    return routing.probabilities, routing.experts


def _gradient(function: Any) -> Tensor | None:
    slope = gradient(function, *_routed(13, 5, 2))
    expect(
        slope is not None,
        "no gradient reaches the probabilities: without one the loss teaches nothing",
    )
    return slope


def _shares_only(probabilities: Tensor, experts: Tensor) -> Tensor:
    shares = torch.bincount(experts.flatten(), minlength=probabilities.shape[-1]) / experts.numel()
    return probabilities.shape[-1] * shares.square().sum()


def _as_many_as_chosen(probabilities: Tensor, experts: Tensor) -> Tensor:
    shares = torch.bincount(experts.flatten()) / experts.numel()
    return probabilities.shape[-1] * (shares * probabilities.mean(dim=0)).sum()


balance = Exercise(
    "balance_loss",
    title="the price of an uneven load",
    points=2,
    reference=switch_balance_loss,
    hints=(
        "Two vectors of E numbers: the share of all choices that an expert got, and the mean of "
        "its probabilities over the tokens.",
        "`torch.bincount(experts.flatten(), minlength=E) / experts.numel()` gives the shares.",
        "`E * (shares * probabilities.mean(dim=0)).sum()`.",
    ),
    cases={
        "an even load of 3 experts, k = 2, costs 1": args(
            torch.full((3, 3), 1 / 3), torch.tensor([[0, 1], [1, 2], [2, 0]])
        ),
        "29 tokens, 5 experts, k = 1": args(*_routed(29, 5, 1)),
        "29 tokens, 5 experts, k = 2": args(*_routed(29, 5, 2)),
        "experts without a token": args(_routed(7, 5, 1)[0], torch.zeros(7, 1, dtype=torch.long)),
        "the gradient of the probabilities": _gradient,
    },
    mistakes={
        "the factor E is missing: an even load should cost 1 for any number of experts": (
            lambda p, experts: switch_balance_loss(p, experts) / p.shape[-1]
        ),
        "the factor is the number of experts E; you took k": lambda p, experts: (
            switch_balance_loss(p, experts) * experts.shape[-1] / p.shape[-1]
        ),
        "E is how many experts there are; you took how many were chosen": lambda p, experts: (
            switch_balance_loss(p, experts) * (experts.max() + 1) / p.shape[-1]
        ),
        "count every choice of a token, not its first one only; divide by all choices": (
            lambda p, experts: switch_balance_loss(p, experts[:, :1])
        ),
        "you divided the counts by the number of tokens; with k choices they sum to k": (
            lambda p, experts: switch_balance_loss(p, experts) * experts.shape[-1]
        ),
        "that is the square of the mean probabilities; one factor is the share of choices": (
            lambda p, experts: p.shape[-1] * p.mean(dim=0).square().sum()
        ),
        "the counts stop at the largest expert that was chosen: `minlength=E`": _as_many_as_chosen,
        "the shares alone are counts, and counts have no gradient: "
        "one factor is the mean probability": _shares_only,
    },
)


# Capacity


def _keep(experts: Tensor, capacity: int) -> Tensor:
    return within_capacity(experts, int(experts.max()) + 1, capacity)


def _room_for_each_choice(experts: Tensor, capacity: int) -> Tensor:
    columns = [_keep(column.unsqueeze(-1), capacity) for column in experts.T]
    return torch.cat(columns, dim=-1)


capacity = Exercise(
    "keep_in_order",
    title="first come, first served, until an expert is full",
    points=3,
    reference=_keep,
    hints=(
        "For each choice, count how many earlier choices fell on the same expert.",
        "`F.one_hot(experts.flatten())` has a column an expert; `cumsum(dim=0)` counts along it.",
        "`(one_hot.cumsum(0) * one_hot).sum(-1)` is 1 for the first to come: keep it if at most "
        "`capacity`. Then give the result the shape of `experts`.",
    ),
    cases={
        "5 tokens, k = 1, room for 2": args(torch.tensor([[0], [1], [0], [0], [1]]), 2),
        "4 tokens, k = 2, room for 1": args(torch.tensor([[0, 1], [1, 2], [0, 2], [2, 3]]), 1),
        "31 tokens, 7 experts, k = 2, room for 6": args(_routed(31, 7, 2)[1], 6),
        "room for everyone": args(_routed(31, 7, 3)[1], 31),
    },
    mistakes={
        "the choice that fills an expert still fits": lambda e, room: _keep(e, room - 1),
        "you serve all first choices before any second one, as GShard does; here a token gets both "
        "its choices before the next token comes": lambda e, room: _keep(e.T, room).T,
        "you serve the last tokens first: a token's fate must not depend on later ones": (
            lambda e, room: _keep(e.flip(0), room).flip(0)
        ),
        "an expert has one room for all choices; you gave it two": _room_for_each_choice,
    },
)


# The layer


def _mixture(x: Tensor, experts: Tensor, gates: Tensor, matrices: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    for expert, matrix in enumerate(matrices):
        tokens, choice = (experts == expert).nonzero(as_tuple=True)
        y.index_add_(0, tokens, gates[tokens, choice, None] * (x[tokens] @ matrix.T))
    return y


_ALL_EXPERTS = (
    "the result is right, but you held every expert's output for every token; give each expert its "
    "own tokens only"
)


def _layer_inputs(n_tokens: int, n_experts: int, k: int, width: int) -> tuple[Tensor, ...]:
    routing = route(normal(n_tokens, n_experts), k)
    matrices = normal(n_experts, width, width, seed=2)
    return normal(n_tokens, width, seed=1), routing.experts, routing.gates, matrices


_ONE_EACH = _layer_inputs(13, 5, 1, 7)
_LARGE = _layer_inputs(512, 32, 2, 16)


def _overwrites(x: Tensor, experts: Tensor, gates: Tensor, matrices: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    for expert, matrix in enumerate(matrices):
        tokens, choice = (experts == expert).nonzero(as_tuple=True)
        y[tokens] = gates[tokens, choice, None] * (x[tokens] @ matrix.T)
    return y


def _all_experts(x: Tensor, experts: Tensor, gates: Tensor, matrices: Tensor) -> Tensor:
    outputs = torch.einsum("nd,efd->nef", x, matrices)  # [N, E, D]
    weights = torch.zeros(len(x), len(matrices)).scatter(1, experts, gates)
    return torch.einsum("ne,nef->nf", weights, outputs)


expert_layer = Exercise(
    "sparse_mixture",
    title="the layer, touching only the experts that were chosen",
    points=4,
    kind=True,  # NumPy's arrays would not be counted as memory
    reference=_mixture,
    hints=(
        "Loop over the experts, not over the tokens: each takes its own tokens, all at once.",
        "`(experts == e).nonzero(as_tuple=True)` gives the tokens of expert e, and at which of "
        "their choices it stands.",
        "`y.index_add_(0, tokens, gates[tokens, choice, None] * (x[tokens] @ matrix.T))`, starting "
        "from zeros.",
    ),
    cases={
        "1 token, 2 experts, both chosen": args(*_layer_inputs(1, 2, 2, 3)),
        "13 tokens, 5 experts, k = 2": args(*_layer_inputs(13, 5, 2, 7)),
        "an expert without tokens": args(_ONE_EACH[0], torch.full((13, 1), 3), *_ONE_EACH[2:]),
        "512 tokens, 32 experts, k = 2": args(*_LARGE),
        "memory for 512 tokens and 32 experts": (
            lambda f: expect(peak_bytes(f, *_LARGE) < 512 * 32 * 16 * 4 / 2, _ALL_EXPERTS)
        ),
    },
    mistakes={
        "the gates are missing: weight each expert's output before you add it": (
            lambda x, e, g, matrices: _mixture(x, e, torch.ones_like(g), matrices)
        ),
        "the later expert overwrites the earlier one: add to the token's row": _overwrites,
        "only the first choice is used; every token has k experts": (
            lambda x, e, g, matrices: _mixture(x, e[:, :1], g[:, :1], matrices)
        ),
        "the matrix is transposed: an expert's output is W x, "
        "which for rows is `x @ W.T`": lambda x, e, g, matrices: _mixture(x, e, g, matrices.mT),
        _ALL_EXPERTS: _all_experts,
    },
)
