"""Checks of the exercises of chapters/03_data/08_mixtures_and_curricula.ipynb."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llmlib.data.mixing import capped, doremi
from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "03_data/08_mixtures_and_curricula"

# Caps


def _capped_tokens(sizes: Sequence[float], budget: float, max_epochs: float) -> list[float]:
    spent = min(budget, max_epochs * math.fsum(sizes))
    return [float(share) * spent for share in capped(sizes, budget, max_epochs)]


def _scaled_up(sizes: Sequence[float], budget: float, max_epochs: float) -> list[float]:
    given = _capped_tokens(sizes, budget, max_epochs)
    return [budget * x / math.fsum(given) for x in given]


caps = Exercise(
    "capped_tokens",
    title="a budget shared evenly under caps",
    reference=_capped_tokens,
    hints=(
        "Go through the sources from the smallest to the largest.",
        "Each may have an equal share of what is left: left / (sources still to come).",
        "It gets that or max_epochs * size, whichever is less; what it leaves goes to the others.",
    ),
    cases={
        "no cap reached": args([100.0, 100.0, 100.0], 90.0, 4.0),
        "one small source": args([1000.0, 10.0, 500.0], 300.0, 2.0),
        "two small sources, and a cap that shows only after the first": args(
            [30.0, 4000.0, 10.0, 900.0, 70.0], 1000.0, 3.0
        ),
        "a budget that all caps together cannot spend": args([10.0, 40.0, 20.0], 500.0, 2.0),
    },
    mistakes={
        (
            "what a full source cannot take is lost: fill the smallest source first and "
            "share what is left of the budget among the others"
        ): lambda sizes, budget, max_epochs: [
            min(budget / len(sizes), max_epochs * size) for size in sizes
        ],
        (
            "that spends more than a source may give: the cap is max_epochs * size, and "
            "the rest of the budget stays unspent"
        ): _scaled_up,
        "return tokens: a share of the budget times the budget": lambda sizes, budget, max_epochs: [
            x / budget for x in _capped_tokens(sizes, budget, max_epochs)
        ],
    },
)


# One step of DoReMi


def _reweigh(weights: Tensor, proxy: Tensor, reference: Tensor, domains: Tensor) -> Tensor:
    """One step with eta of 1 and a thousandth of the uniform mixture."""
    n = len(weights)
    excess = _mean_by_domain((proxy - reference).clamp(min=0), domains, n)
    learned = doremi(
        excess.double().numpy, lambda _: None, initial=weights.double().numpy(), steps=1
    )
    return torch.from_numpy(learned.weights).to(weights.dtype)


def _mean_by_domain(values: Tensor, domains: Tensor, n: int) -> Tensor:
    sums = torch.zeros(n).index_add(0, domains, values)
    return sums / torch.bincount(domains, minlength=n)


def _step(weights: Tensor, excess: Tensor, smoothing: float = 1e-3) -> Tensor:
    raised = weights * excess.exp()
    return (1 - smoothing) * raised / raised.sum() + smoothing / len(weights)


def _two_domains_of(answer: Any) -> None:
    proxy, reference = torch.tensor([3.0, 2, 1, 1]), torch.tensor([1.0, 2, 0.5, 1])
    step.agree(answer, torch.tensor([0.5, 0.5]), proxy, reference, torch.tensor([0, 0, 1, 1]))


def _a_domain_where(answer: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    domains = torch.tensor([0, 2, 1, 1, 0, 2, 1, 1, 2, 1, 1])
    proxy, reference = 2 * torch.rand(2, 11, generator=generator)
    step.agree(answer, torch.tensor([0.2, 0.7, 0.1]), proxy, reference, domains)


def _a_domain_whose(answer: Any) -> None:
    proxy, reference = torch.tensor([3.0, 2, 1]), torch.tensor([1.0, 2, 0.5])
    weights = torch.tensor([0.0, 0.4, 0.6])
    step.agree(answer, weights, proxy, reference, torch.tensor([0, 1, 2]))


def _summed(weights: Tensor, proxy: Tensor, reference: Tensor, domains: Tensor) -> Tensor:
    excess = (proxy - reference).clamp(min=0)
    return _step(weights, torch.zeros(len(weights)).index_add(0, domains, excess))


def _unsmoothed(weights: Tensor, proxy: Tensor, reference: Tensor, domains: Tensor) -> Tensor:
    excess = _mean_by_domain((proxy - reference).clamp(min=0), domains, len(weights))
    return _step(weights, excess, smoothing=0.0)


def _from_scratch(weights: Tensor, proxy: Tensor, reference: Tensor, domains: Tensor) -> Tensor:
    excess = _mean_by_domain((proxy - reference).clamp(min=0), domains, len(weights))
    return _step(torch.ones_like(weights), excess)


step = Exercise(
    "reweigh",
    title="one step of DoReMi's weights",
    points=2,
    reference=_reweigh,
    hints=(
        "Clip token by token: (proxy - reference).clamp(min=0).",
        "Average by domain: torch.zeros(n).index_add(0, domains, excess), over torch.bincount.",
        "Multiply the weights by the exponential, divide by their sum, and mix: 0.999 of that and "
        "0.001 / n.",
    ),
    cases={
        "two domains of two tokens": _two_domains_of,
        (
            "a domain where the proxy is ahead on some tokens, and domains of unequal length"
        ): _a_domain_where,
        "a domain whose weight had died out": _a_domain_whose,
    },
    mistakes={
        (
            "clip each token's excess before you average: tokens where the proxy is ahead "
            "must not pay for others"
        ): lambda weights, proxy, reference, domains: _step(
            weights, _mean_by_domain(proxy - reference, domains, len(weights)).clamp(min=0)
        ),
        (
            "you did not clip: where the proxy is ahead of the reference the excess is 0"
        ): lambda weights, proxy, reference, domains: _step(
            weights, _mean_by_domain(proxy - reference, domains, len(weights))
        ),
        "average each domain over its own tokens, so that long domains weigh no more": _summed,
        (
            "mix in a thousandth of the uniform mixture, or a weight of 0 never comes back"
        ): _unsmoothed,
        "the new weights grow from the old ones: multiply them by the exponentials": _from_scratch,
    },
)


# Best fit


def _fill(lengths: Sequence[int], seq_len: int, order: list[int], pick: Any) -> list[list[int]]:
    rows: list[list[int]] = []
    free: list[int] = []
    for i in order:
        fits = [row for row, space in enumerate(free) if space >= lengths[i]]
        if not fits:
            rows.append([])
            free.append(seq_len)
            fits = [len(rows) - 1]
        row = pick(fits, free)
        rows[row].append(i)
        free[row] -= lengths[i]
    return sorted(sorted(row) for row in rows)


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda i: -lengths[i])


def _pack_rows(lengths: Sequence[int], seq_len: int) -> list[list[int]]:
    order = _longest_first(lengths)
    return _fill(lengths, seq_len, order, lambda fits, free: min(fits, key=lambda r: free[r]))


def _case_200_documents(answer: Any) -> None:
    generator = torch.Generator().manual_seed(4)
    lengths = torch.randint(1, 98, (200,), generator=generator) ** 2 // 97 + 1
    best.agree(answer, lengths.tolist(), 101)


def _as_they_come(lengths: Sequence[int], seq_len: int) -> list[list[int]]:
    order = list(range(len(lengths)))
    return _fill(lengths, seq_len, order, lambda fits, free: min(fits, key=lambda r: free[r]))


def _shortest_first(lengths: Sequence[int], seq_len: int) -> list[list[int]]:
    order = _longest_first(lengths)[::-1]
    return _fill(lengths, seq_len, order, lambda fits, free: min(fits, key=lambda r: free[r]))


def _worst_fit(lengths: Sequence[int], seq_len: int) -> list[list[int]]:
    order = _longest_first(lengths)
    return _fill(lengths, seq_len, order, lambda fits, free: max(fits, key=lambda r: free[r]))


def _next_fit(lengths: Sequence[int], seq_len: int) -> list[list[int]]:
    rows: list[list[int]] = []
    free = 0
    for i in _longest_first(lengths):
        if lengths[i] > free:
            rows.append([])
            free = seq_len
        rows[-1].append(i)
        free -= lengths[i]
    return sorted(sorted(row) for row in rows)


best = Exercise(
    "pack_rows",
    title="documents packed whole, by best fit",
    points=3,
    reference=_pack_rows,
    hints=(
        "Take the documents from the longest to the shortest; among equals the first comes first.",
        "Of the rows with room enough take the one with the least room, of equals the first; open "
        "a row if there is none.",
        "Keep rows as lists of numbers and their free space beside them; return "
        "sorted(sorted(row) for row in rows).",
    ),
    cases={
        "four documents": args([3, 4, 1, 2], 5),
        "documents in an order that best fit must not keep": args([2, 3, 2, 7, 5, 8, 1], 10),
        "a row that has room, and a tighter one that has too": args([6, 5, 3, 2, 4, 7], 10),
        "200 documents": _case_200_documents,
    },
    mistakes={
        "you took the documents as they came: begin with the longest": _as_they_come,
        (
            "you took the shortest documents first: the long ones then find no room beside them"
        ): _shortest_first,
        (
            "that is first fit, the first row with room: take the one with the least room"
        ): lambda lengths, seq_len: _fill(
            lengths, seq_len, _longest_first(lengths), lambda fits, free: fits[0]
        ),
        "that is worst fit, the row with the most room: take the one with the least": _worst_fit,
        "you looked only at the latest row: earlier ones may still have room": _next_fit,
    },
)
