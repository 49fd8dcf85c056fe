"""Checks of the exercises of chapters/03_data/03_deduplication.ipynb."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llmlib.teaching.authoring import Args, Exercise, args

NOTEBOOK = "03_data/03_deduplication"

# Jaccard similarity of shingles


def _shingles(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))]


def _jaccard(a: str, b: str, n: int, some: slice = slice(None)) -> float:
    first, second = (set(_shingles(text, n)[some]) for text in (a, b))
    return len(first & second) / max(1, len(first | second))


_CAT, _HAT = "the cat sat on the mat", "a cat sat on the red hat again"
_TO_BE = "to be or not to be or not to be that is the question"


def _containment(a: str, b: str, n: int) -> float:
    first, second = set(_shingles(a, n)), set(_shingles(b, n))
    return len(first & second) / min(len(first), len(second))


def _dice(a: str, b: str, n: int) -> float:
    first, second = set(_shingles(a, n)), set(_shingles(b, n))
    return 2 * len(first & second) / (len(first) + len(second))


def _as_lists(a: str, b: str, n: int) -> float:
    first, second = _shingles(a, n), _shingles(b, n)
    shared = sum(gram in second for gram in first)
    return shared / (len(first) + len(second) - shared)


def _overlap(first: set[Any], second: set[Any]) -> float:
    return len(first & second) / len(first | second)


def _joined(a: str, b: str, n: int, by: str = "") -> float:
    return _overlap(*({by.join(gram) for gram in _shingles(text, n)} for text in (a, b)))


def _of_characters(a: str, b: str, n: int) -> float:
    return _overlap(*({text[i : i + n] for i in range(len(text) - n + 1)} for text in (a, b)))


def _sorted(a: str, b: str, n: int) -> float:
    return _overlap(*({tuple(sorted(gram)) for gram in _shingles(text, n)} for text in (a, b)))


similarity = Exercise(
    "shingle_jaccard",
    title="the Jaccard similarity of two texts",
    reference=_jaccard,
    hints=(
        "A set of tuples does it: `set` forgets how often a shingle occurs.",
        "`{tuple(words[i : i + n]) for i in range(len(words) - n + 1)}` are the shingles.",
        "`len(a & b) / len(a | b)`.",
    ),
    cases={
        "a cat on a mat and on a red hat, pairs": args(_CAT, _HAT, 2),
        "a text and itself": args(_CAT, _CAT, 3),
        "a text and a part of it, single words": args("a b c d e f", "a b c", 1),
        "a text that repeats its shingles": args(_TO_BE, "to be or not to sleep", 2),
        "the same words in another order": args("a b c d e", "e d c b a", 2),
        "nothing in common": args("a b c", "d e f", 2),
        "white space of several kinds": args("a  b\nc\td ", "a b c d e", 2),
        "the same letters, cut into words elsewhere": [
            args(f"a{mark}b c d e", f"a b{mark}c d e", 2) for mark in ("", *"-_,.;:|/+#")
        ],
    },
    mistakes={
        "divide by the size of the union; you divided by the smaller set, which says how much of "
        "one text the other contains": _containment,
        "that is Dice's coefficient, twice the shared over the sum of sizes; "
        "Jaccard's divides by the union": _dice,
        "a shingle is a run of words; you took runs of n characters": _of_characters,
        "the order of the words in a shingle counts: keep tuples, neither sorted nor sets": _sorted,
        "compare runs of n words: you compared single words": lambda a, b, n: _jaccard(a, b, 1),
        "two shingles are equal if their words are: keep tuples, or join words by a space": _joined,
        "words are apart by any white space, and two spaces hold no word between them: `split()`": (
            lambda a, b, n: _overlap(
                *(
                    {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
                    for words in (a.split(" "), b.split(" "))
                )
            )
        ),
        "you counted each occurrence of a shingle; in a set it counts once": _as_lists,
        "the last shingle is missing: there are len(words) - n + 1 places to begin": (
            lambda a, b, n: _jaccard(a, b, n, slice(-1))
        ),
        "shingles overlap: begin one at every word, not at every n-th": (
            lambda a, b, n: _jaccard(a, b, n, slice(None, None, n))
        ),
    },
)


# The MinHash signature

_MODULUS = 1 << 31


def _unreduced(elements: Tensor, factors: Tensor, shifts: Tensor | int) -> Tensor:
    return factors[:, None] * elements + torch.as_tensor(shifts)[..., None]


def _table(elements: Tensor, factors: Tensor, shifts: Tensor | int) -> Tensor:
    return _unreduced(elements, factors, shifts) % _MODULUS


def _drawn(n_elements: int, n_functions: int, seed: int) -> Args:
    def numbers(n: int, seed: int, high: int = _MODULUS) -> Tensor:
        return torch.randint(high, (n,), generator=torch.Generator().manual_seed(seed))

    factors = numbers(n_functions, seed + 1, 1 << 15) | 1
    return args(numbers(n_elements, seed), factors, numbers(n_functions, seed + 2))


signature = Exercise(
    "minhash",
    title="a MinHash signature without a loop",
    points=2,
    reference=lambda elements, factors, shifts: _table(elements, factors, shifts).amin(dim=1),
    hints=(
        "Make a table with a row for each function and a column for each element.",
        "`factors[:, None] * elements + shifts[:, None]` is that table, before the modulus.",
        "Take it modulo 2 ** 31, then the minimum of each row: `.amin(dim=1)`.",
    ),
    cases={
        "three elements, two functions, small numbers": args(
            torch.tensor([3, 1, 2]), torch.tensor([5, 3]), torch.tensor([1, 7])
        ),
        "97 elements, 13 functions": _drawn(97, 13, seed=0),
        "one element": _drawn(1, 7, seed=3),
        "as many elements as functions": _drawn(11, 11, seed=6),
        "elements below zero, of which the modulus is not": args(
            torch.tensor([-3, 40, -700]), torch.tensor([5, 3]), torch.tensor([1, 7])
        ),
    },
    mistakes={
        "you took the largest; MinHash keeps the smallest": lambda x, a, b: _table(x, a, b).amax(1),
        "that is one number for each element: the minimum runs over the elements, with one number "
        "left for each function": lambda x, a, b: _table(x, a, b).amin(0),
        "take the modulus before the minimum: without it the smallest element wins under every "
        "function, and all components say the same": lambda x, a, b: _unreduced(x, a, b).amin(1),
        "you took the modulus of the minimum: first the modulus, then the minimum": (
            lambda x, a, b: _unreduced(x, a, b).amin(dim=1) % _MODULUS
        ),
        "that is the element with the smallest value; "
        "the signature keeps the value": lambda x, a, b: x[_table(x, a, b).argmin(dim=1)],
        "the shifts are missing: h(x) = a x + b": lambda x, a, b: _table(x, a, 0).amin(dim=1),
    },
)


# Clusters

Pairs = Sequence[tuple[int, int]]


def _first_of_cluster(n_items: int, pairs: Pairs) -> list[int]:
    names = list(range(n_items))
    changed = True
    while changed:
        changed = False
        for a, b in pairs:
            low = min(names[a], names[b])
            changed = changed or names[a] != low or names[b] != low
            names[a] = names[b] = low
    return names


def _random_pairs() -> Pairs:
    ends = torch.randint(101, (80, 2), generator=torch.Generator().manual_seed(0))
    return [(a, b) for a, b in ends.tolist()]


def _one_pass(n_items: int, pairs: Pairs) -> list[int]:
    names = list(range(n_items))
    for a, b in pairs:
        names[a] = names[b] = min(names[a], names[b])
    return names


def _partners(n_items: int, pairs: Pairs) -> list[int]:
    names = list(range(n_items))
    for a, b in pairs:
        names[a], names[b] = min(names[a], b), min(names[b], a)
    return names


def _largest_member(n_items: int, pairs: Pairs) -> list[int]:
    first = _first_of_cluster(n_items, pairs)
    largest = {name: item for item, name in enumerate(first)}
    return [largest[name] for name in first]


def _numbered(n_items: int, pairs: Pairs) -> list[int]:
    first = _first_of_cluster(n_items, pairs)
    order = {name: number for number, name in enumerate(dict.fromkeys(first))}
    return [order[name] for name in first]


def _paired_only(n_items: int, pairs: Pairs) -> list[int]:
    paired = {item for pair in pairs for item in pair}
    return [x for item, x in enumerate(_first_of_cluster(n_items, pairs)) if item in paired]


cluster = Exercise(
    "first_of_cluster",
    title="the clusters that pairs hang together in",
    points=3,
    reference=_first_of_cluster,
    hints=(
        "Two items of one cluster need not be a pair: a chain of pairs is enough.",
        "Keep a parent for each item; `root(i)` follows parents until one is its own.",
        "For each pair find both roots, then make the smaller one the parent of the larger; at the "
        "end every item's name is its root.",
    ),
    cases={
        "6 items, the pairs (4, 1) and (1, 3)": args(6, [(4, 1), (1, 3)]),
        "no pairs": args(3, []),
        "a chain in an awkward order": args(7, [(5, 6), (3, 4), (4, 5), (1, 2), (2, 3)]),
        "two clusters that the last pair joins": args(8, [(2, 3), (6, 7), (3, 5), (7, 4), (5, 4)]),
        "an item paired with itself, and one pair twice": args(4, [(2, 2), (3, 1), (1, 3)]),
        "101 items, 80 random pairs": args(101, _random_pairs()),
    },
    mistakes={
        "one pass over the pairs is too few: what is joined later must be renamed, too. "
        "Keep roots, or go on until nothing changes": _one_pass,
        "you named each item by its smallest direct partner; follow the chain on": _partners,
        "a cluster is called by its smallest member; you took the largest": _largest_member,
        "you numbered the clusters 0, 1, 2 ...; name each by its smallest member": _numbered,
        "items without a pair are clusters of their own: name every item": _paired_only,
    },
)
