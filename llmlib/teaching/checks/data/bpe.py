"""Checks of the exercises of chapters/03_data/05_byte_pair_encoding.ipynb."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from llmlib.teaching.authoring import Args, Exercise, args

NOTEBOOK = "03_data/05_byte_pair_encoding"

Pair = tuple[str, str]
Ranks = Mapping[Pair, int]
Words = Mapping[str, int]

# One merge


def _merged(symbols: Sequence[Any], pairs: Collection[tuple[Any, Any]], new: Any) -> list[Any]:
    merged = []
    place = 0
    while place < len(symbols):
        is_pair = tuple(symbols[place : place + 2]) in pairs
        merged.append(new if is_pair else symbols[place])
        place += 2 if is_pair else 1
    return merged


def _merge_pair(symbols: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    return _merged(symbols, [pair], new)


def _once(symbols: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    for place, found in enumerate(pairwise(symbols)):
        if found == pair:
            return [*symbols[:place], new, *symbols[place + 2 :]]
    return list(symbols)


def _as_text(symbols: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    text = " ".join(map(str, symbols)).replace(f"{pair[0]} {pair[1]}", str(new))
    return [int(symbol) for symbol in text.split()]


def _overlapping(symbols: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    merged: list[int] = []
    for place, symbol in enumerate(symbols):
        if tuple(symbols[place : place + 2]) == pair:
            merged.append(new)
        elif not place or tuple(symbols[place - 1 : place + 1]) != pair:
            merged.append(symbol)
    return merged


def _again(symbols: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    merged: list[int] = []
    for symbol in symbols:
        merged.append(symbol)
        if tuple(merged[-2:]) == pair:
            merged[-2:] = [new]
    return merged


pair_merge = Exercise(
    "merge_pair",
    title="one pair replaced wherever it stands",
    reference=_merge_pair,
    hints=(
        "Walk with a place that moves by two after a merge and by one otherwise.",
        "At the last symbol there is no neighbor to its right: compare only where there is one.",
        "A symbol that was just made does not take part: in 5 5 5 only the first two are merged.",
    ),
    cases={
        "a pair that stands twice": args([3, 1, 2, 7, 1, 2], (1, 2), 256),
        "a pair that does not occur, and its mirror image": args([2, 1, 3, 2, 1], (1, 2), 256),
        "runs of one symbol": args([5, 5, 5, 5, 5, 8, 5, 5], (5, 5), 256),
        "a new symbol that equals a part of the pair": args([1, 2, 2, 1, 2], (1, 2), 1),
        "numbers of several digits": args([11, 2, 1, 25, 31, 2, 1, 2], (1, 2), 256),
        "one symbol": args([1], (1, 2), 256),
        "no symbol": args([], (1, 2), 256),
    },
    mistakes={
        "only the first occurrence is merged: go on behind it": _once,
        "you went from right to left: in a run of odd length the last symbol stays alone": (
            lambda symbols, pair, new: _merge_pair(symbols[::-1], pair[::-1], new)[::-1]
        ),
        "you replaced text: 11 2 holds the text `1 2`, but not the pair": _as_text,
        "a symbol took part in two merges: move by two places after a merge": _overlapping,
        "a new symbol was merged again: look only at the symbols that were given": _again,
        "the order within the pair counts: 2 1 is another pair than 1 2": (
            lambda symbols, pair, new: _merged(symbols, [pair, pair[::-1]], new)
        ),
    },
)


# Encode a word


def _encode_piece(
    word: str, ranks: Ranks, by: Callable[[int, int], Any] = lambda rank, place: (rank, place)
) -> list[str]:
    symbols = list(word)
    while found := [
        (by(ranks[pair], place), place)
        for place, pair in enumerate(pairwise(symbols))
        if pair in ranks
    ]:
        place = min(found)[1]
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
    return symbols


_RING: Ranks = {("n", "g"): 0, ("i", "ng"): 1, ("o", "ng"): 2, ("s", "ing"): 3}
_OVERLAP: Ranks = {("c", "d"): 0, ("a", "b"): 1, ("b", "c"): 2}
_DEAD_END: Ranks = {("a", "b"): 0, ("c", "d"): 1, ("b", "c"): 2, ("a", "bc"): 3}
_ENDINGS: Ranks = {("a", "a"): 0, ("a", "b"): 1}
_OTHER_CUT: Ranks = {("a", "b"): 0, ("a", "bc"): 1}
_LATE: Ranks = {("b", "c"): 0, ("a", "b"): 1, ("bc", "d"): 2, ("a", "bcd"): 3}


def _drawn_words(n: int, letters: str, shortest: int, most: int, seed: int) -> dict[str, int]:
    rng = random.Random(seed)
    return {
        "".join(rng.choices(letters, k=rng.randrange(shortest, 9))): rng.randrange(1, most)
        for _ in range(n)
    }


def _count(spelt: Mapping[str, Sequence[str]], words: Words) -> Counter[Pair]:
    counts: Counter[Pair] = Counter()
    for word, symbols in spelt.items():
        for pair in pairwise(symbols):
            counts[pair] += words[word]
    return counts


def _learn(
    words: Words,
    n_merges: int,
    *,
    weighted: bool = True,
    first: bool = True,
    by: Callable[[Pair], Any] = lambda pair: pair,
    best: Callable[..., int] = max,
) -> list[Pair]:
    spelt = {word: list(word) for word in words}
    merges: list[Pair] = []
    while len(merges) < n_merges:
        counts = _count(spelt, words if weighted else dict.fromkeys(words, 1))
        if not counts:
            break
        chosen = best(counts.values())
        equal = [pair for pair in counts if counts[pair] == chosen]
        pair = min(equal, key=by) if first else equal[0]
        merges.append(pair)
        spelt = {word: _merged(symbols, [pair], "".join(pair)) for word, symbols in spelt.items()}
    return merges


def _learnt_merges() -> list[Args]:
    words = _drawn_words(40, "abc", 2, 9, seed=3)
    ranks = {pair: rank for rank, pair in enumerate(_learn(words, 20))}
    return [args(word + "ab", ranks) for word in list(words)[:12]]


def _longest(word: str, ranks: Ranks) -> list[str]:
    known = {a + b for a, b in ranks} | set(word)
    pieces: list[str] = []
    while word:
        end = max(n for n in range(1, len(word) + 1) if word[:n] in known)
        pieces.append(word[:end])
        word = word[end:]
    return pieces


def _one_round(word: str, ranks: Ranks) -> list[str]:
    symbols: list[str] = []
    rest = list(word)
    while rest:
        width = 2 if tuple(rest[:2]) in ranks else 1
        symbols.append("".join(rest[:width]))
        rest = rest[width:]
    return symbols


piece_encoding = Exercise(
    "encode_piece",
    title="a word cut by merges in their order",
    points=2,
    reference=_encode_piece,
    hints=(
        "Look at all pairs of neighbors and choose the one whose rank is lowest.",
        "After each merge there are new neighbors: begin again with all pairs.",
        "Stop when no pair of neighbors has a rank.",
    ),
    cases={
        "the words of the section": [
            args(word, _RING) for word in ("sing", "wring", "song", "verse", "s", "")
        ],
        "three pairs that overlap": args("abcd", _OVERLAP),
        "a piece that is in the vocabulary, but that no merges lead to": args("abcd", _DEAD_END),
        "a pair further right, learnt earlier": [args("abcd", _LATE), args("abab", _LATE)],
        "a symbol that ends like a pair's first": [args("aab", _ENDINGS), args("aaab", _ENDINGS)],
        "a pair of the same letters, cut elsewhere": args("abc", _OTHER_CUT),
        "runs of one letter": args("aaaaaaa", {("a", "a"): 0, ("aa", "aa"): 1, ("aa", "a"): 2}),
        "random merges, learnt as a trainer would": _learnt_merges(),
    },
    mistakes={
        "you merged the leftmost pair that has a rank; the lowest rank comes first": partial(
            _encode_piece, by=lambda rank, place: place
        ),
        "among equal ranks the leftmost is merged first; you took the rightmost": partial(
            _encode_piece, by=lambda rank, place: (rank, -place)
        ),
        "that is the longest match, as WordPiece cuts: BPE makes its merges": _longest,
        "you took the highest rank first: rank 0 was learnt first and is merged first": partial(
            _encode_piece, by=lambda rank, place: -rank
        ),
        "after a merge look again: its result can be merged further": _one_round,
    },
)


# Learn merges


def _counted_once(words: Words, n_merges: int) -> list[Pair]:
    counts = _count({word: list(word) for word in words}, words)
    return sorted(counts, key=lambda pair: (-counts[pair], pair))[:n_merges]


merge_learning = Exercise(
    "learn_pairs",
    title="the trainer of byte-pair encoding",
    points=3,
    reference=_learn,
    hints=(
        "Keep the symbols of every word; a merge changes them, the counts of the words stay.",
        "min(counts, key=lambda pair: (-counts[pair], pair)) is the commonest, the smallest "
        "among equals.",
        "Replace the pair in every word before you count again, and stop when no pair is left.",
    ),
    cases={
        "the four words of the section": args({"sing": 6, "song": 5, "ring": 3, "wrong": 1}, 6),
        "a rare word full of one pair": args({"xyxyxyxy": 1, "ab": 7, "abxy": 2}, 3),
        "equal counts of symbols of unequal length": args({"aaab": 3}, 2),
        "equal counts": args({"cd": 2, "ab": 2, "bc": 2, "abcd": 1}, 3),
        "runs of one letter": args({"aaaaa": 3, "aaba": 2}, 3),
        "more merges asked for than there are pairs": args({"abc": 1, "d": 4}, 9),
        "2,000 words": args(_drawn_words(2000, "etaoinshr", 1, 99, seed=7), 40),
    },
    mistakes={
        "a pair counts as often as its word: add the word's count": partial(_learn, weighted=False),
        "among equals take the smallest pair, as tuples of strings compare": partial(
            _learn, first=False
        ),
        "among equals compare pairs as tuples, not as the text that they make": partial(
            _learn, by="".join
        ),
        "you took the rarest pair; the commonest is merged": partial(_learn, best=min),
        "count again after each merge: new symbols have new neighbors": _counted_once,
        "return pairs of strings, in the order in which they were merged": lambda *inputs: [
            a + b for a, b in _learn(*inputs)
        ],
    },
)
