"""Checks of the exercises of chapters/03_data/05_byte_pair_encoding.ipynb."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from llmlib.teaching.authoring import Exercise, args, expect

NOTEBOOK = "03_data/05_byte_pair_encoding"

Pair = tuple[str, str]
Ranks = Mapping[Pair, int]
Words = Mapping[str, int]

# One merge


def _merge_pair(symbols: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    merged: list[int] = []
    place = 0
    while place < len(symbols):
        if tuple(symbols[place : place + 2]) == pair:
            merged.append(new)
            place += 2
        else:
            merged.append(symbols[place])
            place += 1
    return merged


def _one_symbol_and(answer: Any) -> None:
    merge.agree(answer, [1], (1, 2), 256)
    merge.agree(answer, [], (1, 2), 256)


def _the_list_that(answer: Any) -> None:
    given = [4, 1, 2]
    answer(given, (1, 2), 256)
    expect(given == [4, 1, 2], "the list you were given has changed: build a new one")


def _once(symbols: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    for place, found in enumerate(pairwise(symbols)):
        if found == pair:
            return [*symbols[:place], new, *symbols[place + 2 :]]
    return list(symbols)


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


def _either_order(symbols: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    merged: list[int] = []
    place = 0
    while place < len(symbols):
        if tuple(symbols[place : place + 2]) in (pair, pair[::-1]):
            merged.append(new)
            place += 2
        else:
            merged.append(symbols[place])
            place += 1
    return merged


merge = Exercise(
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
        "one symbol, and none": _one_symbol_and,
        "the list that was given": _the_list_that,
    },
    mistakes={
        "only the first occurrence is merged: go on behind it": _once,
        (
            "you went from right to left: in a run of odd length the last symbol stays alone"
        ): lambda symbols, pair, new: _merge_pair(symbols[::-1], (pair[1], pair[0]), new)[::-1],
        "a symbol took part in two merges: move by two places after a merge": _overlapping,
        "a new symbol was merged again: look only at the symbols that were given": _again,
        "the order within the pair counts: 2 1 is another pair than 1 2": _either_order,
    },
)


# Encode a word


def _join(symbols: list[str], place: int) -> None:
    symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]


def _encode_piece(word: str, ranks: Ranks) -> list[str]:
    symbols = list(word)
    while True:
        found = [(ranks[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
        if not found:
            return symbols
        _join(symbols, min(found)[1])


_RING: dict[Pair, int] = {("n", "g"): 0, ("i", "ng"): 1, ("o", "ng"): 2, ("s", "ing"): 3}
_OVERLAP: dict[Pair, int] = {("c", "d"): 0, ("a", "b"): 1, ("b", "c"): 2}
_DEAD_END: dict[Pair, int] = {("a", "b"): 0, ("c", "d"): 1, ("b", "c"): 2, ("a", "bc"): 3}
_LATE: dict[Pair, int] = {("b", "c"): 0, ("a", "b"): 1, ("bc", "d"): 2, ("a", "bcd"): 3}


def _the_words_of(answer: Any) -> None:
    for word in ("sing", "wring", "song", "verse", "s", ""):
        encode.agree(answer, word, _RING)


def _a_pair_further(answer: Any) -> None:
    encode.agree(answer, "abcd", _LATE)
    encode.agree(answer, "abab", _LATE)


def _random_merges_learnt(answer: Any) -> None:
    rng = random.Random(3)
    words = {"".join(rng.choices("abc", k=rng.randrange(2, 9))): rng.randrange(1, 9)
             for _ in range(40)}  # fmt: skip
    ranks = {pair: rank for rank, pair in enumerate(_learn_pairs(words, 20))}
    for word in list(words)[:12]:
        encode.agree(answer, word + "ab", ranks)


def _leftmost(word: str, ranks: Ranks) -> list[str]:
    symbols = list(word)
    while True:
        places = [i for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
        if not places:
            return symbols
        _join(symbols, places[0])


def _rightmost(word: str, ranks: Ranks) -> list[str]:
    symbols = list(word)
    while True:
        found = [(ranks[pair], -i) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
        if not found:
            return symbols
        _join(symbols, -min(found)[1])


def _longest(word: str, ranks: Ranks) -> list[str]:
    known = {a + b for a, b in ranks} | set(word)
    pieces: list[str] = []
    while word:
        end = max(n for n in range(1, len(word) + 1) if word[:n] in known)
        pieces.append(word[:end])
        word = word[end:]
    return pieces


def _highest(word: str, ranks: Ranks) -> list[str]:
    symbols = list(word)
    while True:
        found = [(-ranks[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
        if not found:
            return symbols
        _join(symbols, min(found)[1])


def _one_round(word: str, ranks: Ranks) -> list[str]:
    symbols: list[str] = []
    rest = list(word)
    while rest:
        if tuple(rest[:2]) in ranks:
            symbols.append(rest[0] + rest[1])
            rest = rest[2:]
        else:
            symbols.append(rest.pop(0))
    return symbols


encode = Exercise(
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
        "the words of the section": _the_words_of,
        "three pairs that overlap": args("abcd", _OVERLAP),
        "a piece that is in the vocabulary, but that no merges lead to": args("abcd", _DEAD_END),
        "a pair further right that was learnt earlier": _a_pair_further,
        "runs of one letter": args("aaaaaaa", {("a", "a"): 0, ("aa", "aa"): 1, ("aa", "a"): 2}),
        "random merges, learnt as a trainer would": _random_merges_learnt,
    },
    mistakes={
        "you merged the leftmost pair that has a rank; the lowest rank comes first": _leftmost,
        "among equal ranks the leftmost is merged first; you took the rightmost": _rightmost,
        (
            "that is the longest match, as WordPiece cuts: byte-pair encoding makes its merges"
        ): _longest,
        "you took the highest rank first: rank 0 was learnt first and is merged first": _highest,
        "after a merge look again: its result can be merged further": _one_round,
    },
)


# Learn merges


def _count(spelt: Mapping[str, Sequence[str]], words: Words) -> Counter[Pair]:
    counts: Counter[Pair] = Counter()
    for word, symbols in spelt.items():
        for pair in pairwise(symbols):
            counts[pair] += words[word]
    return counts


def _glue(symbols: Sequence[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    place = 0
    while place < len(symbols):
        step = 2 if tuple(symbols[place : place + 2]) == pair else 1
        merged.append("".join(symbols[place : place + step]))
        place += step
    return merged


def _learn(words: Words, n_merges: int, *, weighted: bool = True, first: bool = True,
           frequent: bool = True) -> list[Pair]:  # fmt: skip
    spelt = {word: list(word) for word in words}
    merges: list[Pair] = []
    while len(merges) < n_merges:
        counts = _count(spelt, words if weighted else dict.fromkeys(words, 1))
        if not counts:
            break
        best = max(counts.values()) if frequent else min(counts.values())
        equal = [pair for pair in counts if counts[pair] == best]
        merges.append(min(equal) if first else equal[0])
        spelt = {word: _glue(symbols, merges[-1]) for word, symbols in spelt.items()}
    return merges


def _learn_pairs(words: Words, n_merges: int) -> list[Pair]:
    return _learn(words, n_merges)


def _case_2_000_words(answer: Any) -> None:
    rng = random.Random(7)
    words = {"".join(rng.choices("etaoinshr", k=rng.randrange(1, 9))): rng.randrange(1, 99)
             for _ in range(2000)}  # fmt: skip
    learn.agree(answer, words, 40)


def _counted_once(words: Words, n_merges: int) -> list[Pair]:
    counts = _count({word: list(word) for word in words}, words)
    return sorted(counts, key=lambda pair: (-counts[pair], pair))[:n_merges]


learn = Exercise(
    "learn_pairs",
    title="the trainer of byte-pair encoding",
    points=3,
    reference=_learn_pairs,
    hints=(
        "Keep the symbols of every word; a merge changes them, the counts of the words stay.",
        "min(counts, key=lambda pair: (-counts[pair], pair)) is the commonest, the smallest "
        "among equals.",
        "Replace the pair in every word before you count again, and stop when no pair is left.",
    ),
    cases={
        "the four words of the section": args({"sing": 6, "song": 5, "ring": 3, "wrong": 1}, 6),
        "a rare word full of one pair against a common word": args(
            {"xyxyxyxy": 1, "ab": 7, "abxy": 2}, 3
        ),
        "equal counts": args({"cd": 2, "ab": 2, "bc": 2, "abcd": 1}, 3),
        "runs of one letter": args({"aaaaa": 3, "aaba": 2}, 3),
        "more merges asked for than there are pairs": args({"abc": 1, "d": 4}, 9),
        "2,000 words": _case_2_000_words,
    },
    mistakes={
        (
            "a pair counts as often as its word occurs: add the word's count, not 1"
        ): lambda words, n_merges: _learn(words, n_merges, weighted=False),
        (
            "among equal counts take the smallest pair, not the one that was met first"
        ): lambda words, n_merges: _learn(words, n_merges, first=False),
        "you took the rarest pair; the commonest is merged": lambda words, n_merges: _learn(
            words, n_merges, frequent=False
        ),
        "count again after each merge: new symbols have new neighbors": _counted_once,
        "return pairs of strings, in the order in which they were merged": lambda words, n_merges: [
            a + b for a, b in _learn_pairs(words, n_merges)
        ],
    },
)
