"""Learning a unigram vocabulary: start with too many pieces, refit, drop the least useful.

The corpus's likelihood sums over every way of cutting it. Expectation-maximization raises it with
the pieces fixed; pruning then removes the pieces whose loss lowers it least, until as many are
left as are wanted.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from llmlib.data.tokenizers.unigram.lattice import Lattices, find_substrings

_LONGEST_WORD = 128  # characters; in training longer words are cut, so that few steps serve all


@dataclass(frozen=True)
class EMStep:
    """One step of expectation-maximization."""

    n_pieces: int
    """Size of the vocabulary it was done with."""

    log_likelihood: float
    """Of the corpus before the step, in nats."""


@dataclass(frozen=True)
class LearntPieces:
    """What training gives."""

    pieces: list[tuple[str, float]]
    """Pieces with their log-probabilities in nats, likeliest first."""

    history: list[EMStep]
    """The steps; as long as `n_pieces` stays, the likelihood rises."""


def learn_pieces(
    words: Mapping[str, int],
    n_pieces: int,
    *,
    coverage: float = 1.0,
    seed_size: int = 100_000,
    max_length: int = 16,
    shrink: float = 0.75,
    em_steps: int = 2,
) -> LearntPieces:
    """Learn pieces and their probabilities from words and how often each occurs.

    Args:
        n_pieces: Number of pieces wanted, single characters included.
        coverage: Share of the corpus's characters that must be pieces, in (0, 1]; the rarest ones
            beyond it are left to the byte tokens.
        seed_size: Number of substrings to start from: those with the highest count times length.
        max_length: Longest piece, in characters.
        shrink: Share of the pieces that each pruning keeps, in (0, 1).
        em_steps: Steps between prunings, at least 1; twice as many at the end.

    Raises:
        ValueError: If there are more characters than pieces wanted, or fewer substrings.

    References:
        Kudo (2018), Subword Regularization, section 3.2. There, and here, the loss of a piece is
        estimated by giving its occurrences to its own best cut into other pieces.
    """
    _check_options(coverage, shrink, em_steps)
    counted = _covered(words, coverage)
    if not counted:
        raise ValueError("the texts hold no words to learn from")
    texts, weights = list(counted), list(counted.values())
    substrings = find_substrings(texts, weights, max_length)
    names, counts = substrings.texts, substrings.counts
    single = np.array([len(name) == 1 for name in names])
    if single.sum() > n_pieces:
        raise ValueError(
            f"{int(single.sum())} characters do not fit into {n_pieces} pieces: take a larger "
            "vocabulary or a lower coverage"
        )
    if len(names) < n_pieces:
        raise ValueError(
            f"the texts hold only {len(names)} repeated substrings, fewer than the {n_pieces} "
            "pieces wanted: take a smaller vocabulary or more text"
        )
    length = np.array([len(name) for name in names])
    kept = _highest(counts * length, max(seed_size, n_pieces), single)
    lattices = Lattices(texts, weights, substrings)
    history: list[EMStep] = []
    lattices.keep(kept)
    names = [name for name, keep in zip(names, kept, strict=True) if keep]
    scores = _log_probabilities((counts * length)[kept])
    while True:
        last = len(names) <= n_pieces
        for _ in range(em_steps * (1 + last)):
            scores, step = em_step(lattices, scores)
            history.append(step)
        if last:
            break
        kept = _prune(names, scores, lattices, max(n_pieces, int(shrink * len(names))))
        lattices.keep(kept)
        names = [name for name, keep in zip(names, kept, strict=True) if keep]
        scores = scores[kept]
        scores = scores - np.log(np.exp(scores).sum())
    ordered = sorted(zip(names, scores.tolist(), strict=True), key=lambda p: (-p[1], p[0]))
    return LearntPieces(ordered, history)


def em_step(lattices: Lattices, scores: np.ndarray) -> tuple[np.ndarray, EMStep]:
    r"""Do one step: expected counts under the old probabilities are the new ones, normalized.

    $p'(x) = \sum_w n_w \mathrm{E}_{p}[n_x(w)] / \sum_{y,w} n_w \mathrm{E}_{p}[n_y(w)]$

    Log-probabilities are in nats; the step says how likely the words were under the old ones.
    """
    counts, log_likelihood = lattices.expected_counts(scores)
    return _log_probabilities(counts), EMStep(scores.size, log_likelihood)


def _log_probabilities(counts: np.ndarray) -> np.ndarray:
    # A piece that is never used keeps a probability that is next to nothing, not -inf.
    floored = np.maximum(counts, 1e-12)
    return np.log(floored) - np.log(floored.sum())


def _highest(values: np.ndarray, n: int, always: np.ndarray) -> np.ndarray:
    """Mark the `always` entries and the highest of the others, `n` in all."""
    kept = always.copy()
    others = np.flatnonzero(~always)
    order = np.argsort(-values[others], kind="stable")
    kept[others[order[: n - int(always.sum())]]] = True
    return kept


def _prune(names: list[str], scores: np.ndarray, lattices: Lattices, n: int) -> np.ndarray:
    """Mark the pieces to keep: all single characters, and those whose loss would cost most."""
    single = np.array([len(name) == 1 for name in names])
    words, used, _ = lattices.best(scores)
    counts = np.bincount(used, weights=lattices.weights[words], minlength=len(names))
    total = counts.sum()
    longer = np.flatnonzero(~single)
    parts_of, parts = _alternatives(names, scores, longer)
    n_parts = np.bincount(parts_of, minlength=longer.size)
    count = counts[longer]
    # If the piece went, each of its occurrences would become one of every part.
    logs = np.log(np.maximum(counts[parts] + count[parts_of], 1e-12))
    alternative = np.bincount(parts_of, weights=logs, minlength=longer.size)
    alternative -= n_parts * np.log(total + count * (n_parts - 1))
    loss = np.zeros(len(names))
    loss[longer] = count * (np.log(np.maximum(count, 1e-12) / total) - alternative)
    return _highest(loss, n, single)


def _alternatives(
    names: list[str], scores: np.ndarray, longer: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cut each longer piece the likeliest way into others: which piece, and each part of it."""
    words = [names[i] for i in longer]
    if not words:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    substrings = find_substrings(words, [1] * len(words), max(map(len, words)), min_count=1)
    lattices = Lattices(words, [1] * len(words), substrings, {n: i for i, n in enumerate(names)})
    lattices.drop_whole_words()
    parts_of, parts, _ = lattices.best(scores)
    return parts_of, parts


def _covered(words: Mapping[str, int], coverage: float) -> Counter[str]:
    """The words without their rarest characters, cut where one stood or where too long."""
    characters: Counter[str] = Counter()
    for word, weight in words.items():
        for character in word:
            characters[character] += weight
    rare = set(characters)
    wanted, seen = coverage * characters.total(), 0
    for character, count in sorted(characters.items(), key=lambda item: (-item[1], item[0])):
        if seen >= wanted:
            break
        seen += count
        rare.discard(character)
    marks = "".join(sorted(rare))
    as_one = dict.fromkeys(map(ord, marks), marks[:1])
    counted: Counter[str] = Counter()
    for word, weight in words.items():
        for part in word.translate(as_one).split(marks[0]) if marks else [word]:
            for start in range(0, len(part), _LONGEST_WORD):
                counted[part[start : start + _LONGEST_WORD]] += weight
    return counted


def _check_options(coverage: float, shrink: float, em_steps: int) -> None:
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage={coverage} must lie in (0, 1]")
    if not 0 < shrink < 1:
        raise ValueError(f"shrink={shrink} must lie between 0 and 1")
    if em_steps < 1:
        raise ValueError(f"em_steps={em_steps} must be at least 1")
