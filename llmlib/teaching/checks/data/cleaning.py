"""Checks of the exercises of chapters/03_data/02_cleaning.ipynb."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from llmlib.data.cleaning.repetition import top_ngram_share
from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "03_data/02_cleaning"

# The commonest n-gram


def _top_gram_share(words: list[str], n: int) -> float:
    return top_ngram_share(words, n)


_HAMLET = ["to", "be", "or", "not", "to", "be", "that", "is", "the", "question"]
_SHOP = ["best", "price", "for", "you", "best", "price", "for", "me", "best", "price"]


def _grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _size(words: Any) -> int:
    return sum(map(len, words))


def _once(words: list[str], n: int) -> float:
    grams = _grams(words, n)
    if not grams:
        return 0.0
    gram, count = grams.most_common(1)[0]
    return count * _size(gram) / _size(words)


def _without_the_first(words: list[str], n: int) -> float:
    grams = _grams(words, n)
    if not grams:
        return 0.0
    gram, count = grams.most_common(1)[0]
    return (count - 1) * _size(gram) / _size(words)


def _of_words(words: list[str], n: int) -> float:
    count = max(_grams(words, n).values(), default=0)
    return count * n / len(words) if count > 1 else 0.0


def _of_grams(words: list[str], n: int) -> float:
    count = max(_grams(words, n).values(), default=0)
    return count / (len(words) - n + 1) if count > 1 else 0.0


def _with_spaces(words: list[str], n: int) -> float:
    grams = _grams(words, n)
    gram, count = grams.most_common(1)[0] if grams else ((), 0)
    return count * len(" ".join(gram)) / len(" ".join(words)) if count > 1 else 0.0


def _in_blocks(words: list[str], n: int) -> float:
    blocks = Counter(tuple(words[i : i + n]) for i in range(0, len(words) - n + 1, n))
    gram, count = blocks.most_common(1)[0] if blocks else ((), 0)
    return count * _size(gram) / _size(words) if count > 1 else 0.0


top_gram = Exercise(
    "top_gram_share",
    title="the share of a page in its commonest n-gram",
    reference=_top_gram_share,
    hints=(
        "There are len(words) - n + 1 n-grams; those at places 0, 1, 2 ... overlap.",
        "`Counter(tuple(words[i : i + n]) for i in ...).most_common(1)` has the one you need.",
        "Its count times the length of its words, over the length of all words; 0 for a count of "
        "1, and for a page of fewer than n words.",
    ),
    cases={
        "to be or not to be, pairs": args(_HAMLET, 2),
        "an offer that is made three times": args(_SHOP, 2),
        "nothing twice": args(_HAMLET, 3),
        "fewer words than n": args(["to", "be"], 3),
        "one word over and over, where occurrences overlap": args(["buy"] * 7, 3),
    },
    mistakes={
        "an n-gram that occurs once is no repetition: return 0 if none occurs twice": _once,
        "every occurrence counts here, the first one too": _without_the_first,
        "you counted words or n-grams; the share is of characters": _of_words,
        "you counted n-grams: weigh each occurrence by its characters": _of_grams,
        "the spaces are in it: count the characters of the words alone": _with_spaces,
        (
            "occurrences that overlap count each in full: look at every place, not every n-th"
        ): _in_blocks,
    },
)


# Pareto sampling


def _pareto_keep(scores: Tensor, draws: Tensor, alpha: float) -> Tensor:
    return (1 - draws) ** (-1 / alpha) - 1 > 1 - scores


def _uniform(n: int, seed: int) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _a_page_of(answer: Any) -> None:
    draws = torch.tensor([0.1, 0.5, 0.999], dtype=torch.float64)
    pareto.agree(answer, torch.ones(3, dtype=torch.float64), draws, 9.0)


def _scores_0_0(answer: Any) -> None:
    scores = torch.tensor([0.0, 0.3, 0.5, 0.9], dtype=torch.float64)
    draws = torch.tensor([0.98, 0.98, 0.02, 0.98], dtype=torch.float64)
    pareto.agree(answer, scores, draws, 9.0)


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
        "a page of score 1 stays, whatever is drawn": _a_page_of,
        "scores 0, 0.3, 0.5 and 0.9, three large draws and a small one": _scores_0_0,
        "499 pages, alpha = 9": args(_uniform(499, 0), _uniform(499, 1), 9.0),
        "499 pages, alpha = 2": args(_uniform(499, 2), _uniform(499, 3), 2.0),
    },
    mistakes={
        (
            "that is Pareto's own distribution, which starts at 1 and keeps every page: subtract 1"
        ): lambda scores, draws, alpha: (1 - draws) ** (-1 / alpha) > 1 - scores,
        (
            "the draw is compared with 1 - s: a good page needs a small draw only"
        ): lambda scores, draws, alpha: (1 - draws) ** (-1 / alpha) - 1 > scores,
        (
            "you kept what should go: a page stays where the draw is above 1 - s"
        ): lambda scores, draws, alpha: ~_pareto_keep(scores, draws, alpha),
        (
            "right in distribution, but not for these draws: the formula takes 1 - u, so "
            "that large u are large numbers"
        ): lambda scores, draws, alpha: draws ** (-1 / alpha) - 1 > 1 - scores,
        (
            "you compared uniform draws with 1 - s: turn them into Lomax numbers first"
        ): lambda scores, draws, alpha: draws > 1 - scores,
        (
            "the exponent is -1 / alpha: the inverse of the distribution function"
        ): lambda scores, draws, alpha: (1 - draws) ** -alpha - 1 > 1 - scores,
    },
)


# What would come back


def _comes_back(objects: Tensor) -> Tensor:
    return (objects & (objects.sum(dim=1, keepdim=True) == 1)).sum(dim=0)


def _objections(n: int, n_filters: int, rate: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, n_filters, generator=generator) < rate


def _case_4_documents_2_filters(answer: Any) -> None:
    rows = [[True, False], [True, True], [False, True], [True, False]]
    alone.agree(answer, torch.tensor(rows))


def _a_filter_that(answer: Any) -> None:
    objects = _objections(53, 3, 0.2, 1)
    objects[:, 0], objects[:, 2] = False, True
    alone.agree(answer, objects)


def _kept_by_others(objects: Tensor) -> Tensor:
    others = objects.sum(dim=1, keepdim=True) - objects.long()
    return (others == 0).sum(dim=0)


alone = Exercise(
    "comes_back",
    title="the documents that one filter alone holds back",
    points=3,
    reference=_comes_back,
    hints=(
        "A document comes back if this filter objects to it and no other one does.",
        "`objects.sum(dim=1)` says how many filters object to each document.",
        "`(objects & (objects.sum(dim=1, keepdim=True) == 1)).sum(dim=0)`.",
    ),
    cases={
        "4 documents, 2 filters": _case_4_documents_2_filters,
        "211 documents, 5 filters": args(_objections(211, 5, 0.4, 0)),
        "a filter that never objects, and one that always does": _a_filter_that,
        "no documents": args(torch.zeros(0, 3, dtype=torch.bool)),
    },
    mistakes={
        (
            "you counted all objections; where another filter objects too, nothing comes back"
        ): lambda objects: objects.sum(dim=0),
        (
            "that is the blame of the first filter to object; a later one may object as well"
        ): lambda objects: (objects & (objects.cumsum(dim=1) == 1)).sum(dim=0),
        (
            "you counted the documents that the other filters keep, also those that this "
            "one keeps itself: no objection, nothing to come back"
        ): _kept_by_others,
        "one number for each filter: sum over the documents (dim=0)": lambda objects: (
            objects & (objects.sum(dim=1, keepdim=True) == 1)
        ).sum(dim=1),
        "count documents, not shares of them": lambda objects: (
            _comes_back(objects) / max(1, len(objects))
        ),
    },
)
