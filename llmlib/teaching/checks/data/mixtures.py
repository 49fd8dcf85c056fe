"""Checks of the exercises of chapters/03_data/08_mixtures_and_curricula.ipynb."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from llmlib.data.mixing.doremi_mixture import doremi
from llmlib.data.mixing.mixtures import capped
from llmlib.teaching.authoring import Exercise, args, uniform

NOTEBOOK = "03_data/08_mixtures_and_curricula"

# Caps


def _capped_tokens(sizes: Sequence[float], budget: float, max_epochs: float) -> list[float]:
    spent = min(budget, max_epochs * math.fsum(sizes))
    full = [i for i, size in enumerate(sizes) if size]
    shares = capped([sizes[i] for i in full], budget, max_epochs)
    given = dict(zip(full, shares, strict=True))
    return [float(given.get(i, 0)) * spent for i in range(len(sizes))]


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
        "an empty source, and two of one size": args([50.0, 0.0, 50.0], 60.0, 2.0),
        "less than one reading of each": args([40.0, 100.0], 50.0, 0.5),
        "a budget that all caps together cannot spend": args([10.0, 40.0, 20.0], 500.0, 2.0),
    },
    mistakes={
        "what a full source cannot take is lost: fill the smallest source first and share what is "
        "left of the budget among the others": lambda sizes, budget, max_epochs: [
            min(budget / len(sizes), max_epochs * size) for size in sizes
        ],
        "that spends more than a source may give: the cap is max_epochs * size, and the rest of "
        "the budget stays unspent": _scaled_up,
        "return tokens: a share of the budget times the budget": lambda sizes, budget, epochs: [
            x / budget for x in _capped_tokens(sizes, budget, epochs)
        ],
    },
)


# One step of DoReMi


def _mean_by_domain(values: Tensor, domains: Tensor, n: int) -> Tensor:
    sums = torch.zeros(n).index_add(0, domains, values)
    return sums / torch.bincount(domains, minlength=n).clamp(min=1)


def _excess(weights: Tensor, proxy: Tensor, reference: Tensor, domains: Tensor) -> Tensor:
    return _mean_by_domain((proxy - reference).clamp(min=0), domains, len(weights))


def _reweigh(weights: Tensor, proxy: Tensor, reference: Tensor, domains: Tensor) -> Tensor:
    """One step with eta of 1 and a thousandth of the uniform mixture."""
    excess = _excess(weights, proxy, reference, domains)
    learned = doremi(
        excess.double().numpy, lambda _: None, initial=weights.double().numpy(), steps=1
    )
    return torch.from_numpy(learned.weights).to(weights.dtype)


def _step(weights: Tensor, excess: Tensor, smoothing: float = 1e-3) -> Tensor:
    raised = weights * excess.exp()
    return (1 - smoothing) * raised / raised.sum() + smoothing / len(weights)


def _summed(weights: Tensor, proxy: Tensor, reference: Tensor, domains: Tensor) -> Tensor:
    excess = (proxy - reference).clamp(min=0)
    return _step(weights, torch.zeros(len(weights)).index_add(0, domains, excess))


def _divided_by_none(weights: Tensor, *losses: Tensor) -> Tensor:
    counts = torch.bincount(losses[-1], minlength=len(weights))
    return _step(weights, _excess(weights, *losses) / (counts > 0) * 1.0)


step = Exercise(
    "reweigh",
    title="one step of DoReMi's weights",
    points=2,
    reference=_reweigh,
    hints=(
        "Clip token by token: (proxy - reference).clamp(min=0).",
        "Average by domain: torch.zeros(n).index_add(0, domains, excess), over torch.bincount; a "
        "domain without tokens has an excess of 0.",
        "Multiply the weights by the exponential, divide by their sum, and mix: 0.999 of that and "
        "0.001 / n.",
    ),
    cases={
        "two domains of two tokens": args(
            torch.tensor([0.5, 0.5]),
            torch.tensor([3.0, 2, 1, 1]),
            torch.tensor([1.0, 2, 0.5, 1]),
            torch.tensor([0, 0, 1, 1]),
        ),
        "a domain where the proxy is ahead on some tokens, and domains of unequal length": args(
            torch.tensor([0.2, 0.7, 0.1]),
            *(2 * uniform(2, 11, seed=2)),
            torch.tensor([0, 2, 1, 1, 0, 2, 1, 1, 2, 1, 1]),
        ),
        "a domain without tokens": args(
            torch.tensor([0.25, 0.25, 0.5]),
            torch.tensor([3.0, 2, 1]),
            torch.tensor([1.0, 2, 0.5]),
            torch.tensor([0, 2, 0]),
        ),
        "a domain whose weight had died out": args(
            torch.tensor([0.0, 0.4, 0.6]),
            torch.tensor([3.0, 2, 1]),
            torch.tensor([1.0, 2, 0.5]),
            torch.tensor([0, 1, 2]),
        ),
    },
    mistakes={
        "clip each token's excess before you average: tokens where the proxy is ahead must not pay "
        "for others": lambda w, p, r, d: _step(w, _mean_by_domain(p - r, d, len(w)).clamp(min=0)),
        "you did not clip: where the proxy is ahead of the reference the excess is 0": (
            lambda w, p, r, d: _step(w, _mean_by_domain(p - r, d, len(w)))
        ),
        "a domain without tokens has an excess of 0: 0 / 0 is no number": _divided_by_none,
        "average each domain over its own tokens, so that long domains weigh no more": _summed,
        "mix in a thousandth of the uniform mixture, "
        "or a weight of 0 never comes back": lambda w, *losses: _step(w, _excess(w, *losses), 0.0),
        "the new weights grow from the old ones: multiply them by the exponentials": (
            lambda w, *losses: _step(torch.ones_like(w), _excess(w, *losses))
        ),
    },
)


# Best fit


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda i: -lengths[i])


def _best_fit(fits: list[int], free: list[int]) -> int:
    return min(fits, key=free.__getitem__)


def _pack_rows(
    lengths: Sequence[int],
    seq_len: int,
    *,
    order: Callable[[Sequence[int]], Sequence[int]] = _longest_first,
    pick: Callable[[list[int], list[int]], int] = _best_fit,
    latest_only: bool = False,
) -> list[list[int]]:
    rows: list[list[int]] = []
    free: list[int] = []
    for i in order(lengths):
        open_rows = range(max(0, len(rows) - 1) if latest_only else 0, len(rows))
        fits = [row for row in open_rows if free[row] >= lengths[i]]
        if not fits:
            rows.append([])
            free.append(seq_len)
            fits = [len(rows) - 1]
        row = pick(fits, free)
        rows[row].append(i)
        free[row] -= lengths[i]
    return sorted(sorted(row) for row in rows)


def _drawn_lengths() -> list[int]:
    generator = torch.Generator().manual_seed(4)
    return (torch.randint(1, 98, (200,), generator=generator) ** 2 // 97 + 1).tolist()


best_fit = Exercise(
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
        "no documents, and some as long as a row": [args([], 5), args([5, 2, 5, 3], 5)],
        "documents in an order that best fit must not keep": args([2, 3, 2, 7, 5, 8, 1], 10),
        "a row that has room, and a tighter one that has too": args([6, 5, 3, 2, 4, 7], 10),
        "200 documents": args(_drawn_lengths(), 101),
    },
    mistakes={
        "you took the documents as they came: begin with the longest": partial(
            _pack_rows, order=lambda lengths: range(len(lengths))
        ),
        "you took the shortest documents first: "
        "the long ones then find no room beside them": partial(
            _pack_rows, order=lambda lengths: _longest_first(lengths)[::-1]
        ),
        "that is first fit, the first row with room: take the one with the least room": partial(
            _pack_rows, pick=lambda fits, free: fits[0]
        ),
        "that is worst fit, the row with the most room: take the one with the least": partial(
            _pack_rows, pick=lambda fits, free: max(fits, key=free.__getitem__)
        ),
        "you looked only at the latest row: earlier ones may still have room": partial(
            _pack_rows, latest_only=True
        ),
    },
)
