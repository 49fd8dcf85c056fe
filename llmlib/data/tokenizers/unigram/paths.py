"""One text's lattice: the best way through it, the n best, their sum, and one drawn by chance."""

import heapq
import math
import random
import struct
from collections.abc import Callable, Mapping

Edge = tuple[int, tuple[int, ...], float]
"""Where an edge starts, the ids it stands for, and its log-probability in nats."""

Edges = list[list[Edge]]
"""The edges that end at each place of a text, those that start earliest first; none at place 0."""

KnownPieces = Mapping[str, tuple[tuple[int, ...], float]]
"""Ids and log-probability of each piece."""

UNKNOWN_PENALTY = 10.0
"""How many nats below the rarest piece an unknown character is, as in SentencePiece."""

_FLOAT32 = struct.Struct("<f")


def as_float32(value: float) -> float:
    """Round to single precision."""
    return _FLOAT32.unpack(_FLOAT32.pack(value))[0]


def piece_edges(
    text: str,
    known: KnownPieces,
    longest: int,
    spelt: Callable[[str], tuple[int, ...]],
    unknown_score: float,
) -> Edges:
    """Find where the pieces stand in a text.

    Args:
        longest: No piece has more characters.
        spelt: Ids of a character that no piece spells.
        unknown_score: Log-probability of such a character.

    Example:
        >>> known = {"a": ((1,), -1.0), "ab": ((2,), -3.0)}
        >>> piece_edges("ab", known, 2, lambda character: (0,), -9.0)
        [[], [(0, (1,), -1.0)], [(0, (2,), -3.0), (1, (0,), -9.0)]]
    """
    edges: Edges = [[]]
    for end in range(1, len(text) + 1):
        here = [
            (start, *known[text[start:end]])
            for start in range(max(0, end - longest), end)
            if text[start:end] in known
        ]
        if not here or here[-1][0] != end - 1:
            here.append((end - 1, spelt(text[end - 1]), unknown_score))
        edges.append(here)
    return edges


def best_path(edges: Edges, *, single_precision: bool = False) -> list[int]:
    """Find the path with the highest sum (Viterbi).

    Args:
        single_precision: Round each place's best sum as SentencePiece does. Ways that use the same
            pieces in another order are equally likely, and rounding then decides between them.

    Returns:
        The ids along the path; among equals the one whose last pieces are longer.

    Example:
        >>> best_path([[], [(0, (1,), -1.0)], [(0, (3,), -1.5), (1, (2,), -1.0)]])
        [3]
    """
    best = [0.0]
    back: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    for here in edges[1:]:
        highest, chosen = -math.inf, (0, ())
        for start, ids, score in here:
            value = best[start] + score
            if single_precision:
                value = as_float32(value)
            if value > highest:
                highest, chosen = value, (start, ids)
        best.append(highest)
        back.append(chosen)
    at, parts = len(edges) - 1, []
    while at:
        at, ids = back[at]
        parts.append(ids)
    return [i for ids in reversed(parts) for i in ids]


def best_paths(edges: Edges, n: int) -> list[tuple[list[int], float]]:
    """Find the n paths with the highest sums: at most n pairs of ids and sum, highest first."""
    ways: list[list[tuple[list[int], float]]] = [[([], 0.0)]]
    for here in edges[1:]:
        extended = [
            ([*way, *ids], total + score)
            for start, ids, score in here
            for way, total in ways[start]
        ]
        ways.append(heapq.nlargest(n, extended, key=lambda way: way[1]))
    return ways[-1]


def log_sums(edges: Edges, alpha: float = 1.0) -> list[float]:
    r"""Sum over all paths: $\ln \sum_\text{paths} p(\text{path})^\alpha$ up to each place."""
    sums = [0.0]
    for here in edges[1:]:
        values = [sums[start] + alpha * score for start, _, score in here]
        highest = max(values)
        sums.append(highest + math.log(sum([math.exp(v - highest) for v in values])))
    return sums


def draw_path(edges: Edges, rng: random.Random, alpha: float = 1.0) -> list[int]:
    r"""Draw a path with probability $\propto p(\text{path})^\alpha$.

    Filters forwards, then draws each piece backwards from the end given those after it.

    Args:
        alpha: At least 0; 0 makes all paths equally likely.
    """
    sums = log_sums(edges, alpha)
    at, parts = len(edges) - 1, []
    while at:
        chances = [math.exp(sums[start] + alpha * p - sums[at]) for start, _, p in edges[at]]
        at, ids, _ = rng.choices(edges[at], chances)[0]
        parts.append(ids)
    return [i for ids in reversed(parts) for i in ids]
