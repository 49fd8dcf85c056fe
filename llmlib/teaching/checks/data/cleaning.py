"""Checks of the exercises of chapters/03_data/02_cleaning.ipynb."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from llmlib.data.cleaning.rules.gopher_repetition import top_ngram_share
from llmlib.teaching.authoring import Exercise, args, uniform

NOTEBOOK = "03_data/02_cleaning"

# The commonest n-gram

_HAMLET = ["to", "be", "or", "not", "to", "be", "that", "is", "the", "question"]
_SHOP = ["best", "price", "for", "you", "best", "price", "for", "me", "best", "price"]


def _size(words: Any) -> int:
    return sum(map(len, words))


def _grams(words: list[str], n: int, step: int = 1) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(0, len(words) - n + 1, step))


def _share(
    words: list[str],
    n: int,
    *,
    step: int = 1,
    least: int = 2,
    uncounted: int = 0,
    size: Callable[[Any], int] = _size,
) -> float:
    gram, count = max(_grams(words, n, step).items(), key=lambda item: item[1], default=((), 0))
    return (count - uncounted) * size(gram) / size(words) if count >= least else 0.0


def _of_grams(words: list[str], n: int) -> float:
    grams = _grams(words, n)
    count = max(grams.values(), default=0)
    return count / grams.total() if count > 1 else 0.0


def _greedy(words: list[str], n: int) -> float:
    """Count from the left, going on behind each occurrence."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    counts: Counter[tuple[str, ...]] = Counter()
    free_from: dict[tuple[str, ...], int] = {}
    for place, gram in enumerate(grams):
        if place >= free_from.get(gram, 0):
            counts[gram] += 1
            free_from[gram] = place + n
    gram, count = max(counts.items(), key=lambda item: item[1], default=((), 0))
    return count * _size(gram) / _size(words) if count > 1 else 0.0


def _joined(words: list[str], n: int) -> float:
    counts = Counter("".join(words[i : i + n]) for i in range(len(words) - n + 1))
    gram, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return count * len(gram) / _size(words) if count > 1 else 0.0


def _covered(words: list[str], n: int) -> float:
    """Return the share of the characters that any occurrence covers."""
    counts = _grams(words, n)
    gram = max(counts, key=counts.__getitem__, default=())
    if counts[gram] < 2:
        return 0.0
    places = [i for i in range(len(words) - n + 1) if tuple(words[i : i + n]) == gram]
    covered = {j for i in places for j in range(i, i + n)}
    return _size(words[j] for j in covered) / _size(words)


top_gram = Exercise(
    "top_gram_share",
    title="the share of a page in its commonest n-gram",
    reference=top_ngram_share,
    hints=(
        "There are len(words) - n + 1 n-grams; those at places 0, 1, 2 ... overlap.",
        "`Counter(tuple(words[i : i + n]) for i in ...).most_common(1)` has the one you need.",
        "Its count times the length of its words, over the length of all words; 0 for a count of "
        "1, and for a page of fewer than n words.",
    ),
    cases={
        "an offer that is made three times": args(_SHOP, 2),
        "to be or not to be, pairs": args(_HAMLET, 2),
        "a pair at places 1 and 4": args(["the", "best", "price", "is", "best", "price"], 2),
        "nothing twice": args(_HAMLET, 3),
        "fewer words than n": [args(["to", "be"], 3), args([], 1)],
        "the same letters, cut elsewhere": args(["ab", "c", "or", "a", "bc"], 2),
        "occurrences that overlap, and another word": args(["go", "go", "go", "far"], 2),
        "one word over and over, where occurrences overlap": args(["buy"] * 7, 3),
    },
    mistakes={
        "an n-gram that occurs once is no repetition: return 0": partial(_share, least=1),
        "every occurrence counts here, the first one too": partial(_share, least=1, uncounted=1),
        "you took one occurrence: multiply by how often it occurs": (
            lambda words, n: _share(words, n) / max(1, *_grams(words, n).values(), 1)
        ),
        "you counted words or n-grams; the share is of characters": partial(_share, size=len),
        "occurrences that overlap count each in full; you counted every word once": _covered,
        "occurrences that overlap count each in full; you went on behind each one": _greedy,
        "occurrences that overlap count each in full, so that the share may exceed 1: no cap": (
            lambda words, n: min(1.0, _share(words, n))
        ),
        "two n-grams are equal if their words are: keep tuples, letters can be cut elsewhere": (
            _joined
        ),
        "you counted n-grams: weigh each occurrence by its characters": _of_grams,
        "the spaces are in it: count the characters of the words alone": partial(
            _share, size=lambda ws: len(" ".join(ws))
        ),
        "occurrences that overlap count each in full: "
        "look at every place, not every n-th": lambda words, n: _share(words, n, step=n),
    },
)


# Pareto sampling


def _pareto_keep(scores: Tensor, draws: Tensor, alpha: float) -> Tensor:
    return (1 - draws) ** (-1 / alpha) - 1 > 1 - scores


_doubles = partial(torch.tensor, dtype=torch.float64)
_pages = partial(uniform, 499, dtype=torch.float64)

pareto = Exercise(
    "pareto_keep",
    title="which pages a Pareto draw keeps",
    points=2,
    reference=_pareto_keep,
    hints=(
        "Two steps: turn the uniform numbers into Lomax numbers, then compare them.",
        "`(1 - draws) ** (-1 / alpha) - 1` is 0 at a draw of 0 and grows without bound towards 1.",
        "Keep where that is larger than `1 - scores`.",
    ),
    cases={
        "pages of score 1 stay, whatever is drawn; one of score 0 goes": args(
            _doubles([1.0, 1.0, 1.0, 0.0]), _doubles([0.1, 0.5, 0.999, 0.02]), 9.0
        ),
        "scores 0, 0.3, 0.5 and 0.9, three large draws and a small one": args(
            _doubles([0.0, 0.3, 0.5, 0.9]), _doubles([0.98, 0.98, 0.02, 0.98]), 9.0
        ),
        "numbers that equal 1 - s exactly: those pages go": args(
            _doubles([1.0, 0.0, 0.5]), _doubles([0.0, 0.5, 0.5]), 1.0
        ),
        "499 pages, alpha = 9": args(_pages(seed=0), _pages(seed=1), 9.0),
        "499 pages, alpha = 2": args(_pages(seed=2), _pages(seed=3), 2.0),
    },
    mistakes={
        "that is Pareto's own distribution, which starts at 1 and keeps every page: "
        "subtract 1": lambda s, u, alpha: (1 - u) ** (-1 / alpha) > 1 - s,
        "the draw is compared with 1 - s: "
        "a good page needs a small draw only": lambda s, u, alpha: (1 - u) ** (-1 / alpha) - 1 > s,
        "strictly larger: a number that equals 1 - s does not keep the page": (
            lambda s, u, alpha: (1 - u) ** (-1 / alpha) - 1 >= 1 - s
        ),
        "you kept what should go: pages with draws above 1 - s stay": lambda *x: ~_pareto_keep(*x),
        "right in distribution, but not for these draws: the formula takes 1 - u, so that large u "
        "are large numbers": lambda s, u, alpha: u ** (-1 / alpha) - 1 > 1 - s,
        "you compared uniform draws with 1 - s: "
        "turn them into Lomax numbers first": lambda s, u, alpha: u > 1 - s,
        "the exponent is -1 / alpha: the inverse of the distribution function": (
            lambda s, u, alpha: (1 - u) ** -alpha - 1 > 1 - s
        ),
    },
)


# What would come back


def _alone(objects: Tensor) -> Tensor:
    return objects & (objects.sum(dim=1, keepdim=True) == 1)


def _kept_by_others(objects: Tensor) -> Tensor:
    others = objects.sum(dim=1, keepdim=True) - objects.long()
    return (others == 0).sum(dim=0)


def _never_and_always() -> Tensor:
    objects = uniform(53, 3, seed=1) < 0.2
    objects[:, 0], objects[:, 2] = False, True
    return objects


alone = Exercise(
    "comes_back",
    title="the documents that one filter alone holds back",
    points=3,
    reference=lambda objects: _alone(objects).sum(dim=0),
    hints=(
        "A document comes back if this filter objects to it and no other one does.",
        "`objects.sum(dim=1)` says how many filters object to each document.",
        "`(objects & (objects.sum(dim=1, keepdim=True) == 1)).sum(dim=0)`.",
    ),
    cases={
        "4 documents, 2 filters": args(
            torch.tensor([[True, False], [True, True], [False, True], [True, False]])
        ),
        "211 documents, 5 filters": args(uniform(211, 5) < 0.4),
        "a filter that never objects, and one that always does": args(_never_and_always()),
        "no documents": args(torch.zeros(0, 3, dtype=torch.bool)),
    },
    mistakes={
        "you counted all objections; "
        "where another filter objects too, nothing comes back": lambda x: x.sum(dim=0),
        "that is the blame of the first filter to object; "
        "a later one may object as well": lambda x: (x & (x.cumsum(dim=1) == 1)).sum(dim=0),
        "you counted the documents that the other filters keep, also those that this one keeps "
        "itself: no objection, nothing to come back": _kept_by_others,
        "one number for each filter: sum over the documents (dim=0)": lambda x: _alone(x).sum(1),
        "count documents, not shares of them": lambda x: _alone(x).sum(dim=0) / max(1, len(x)),
    },
)
