"""Checks of the exercises of chapters/03_data/06_wordpiece_and_unigram.ipynb."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch

from llmlib.data.tokenizers import Unigram, WordPiece
from llmlib.teaching.authoring import Exercise

Scores = Mapping[str, float]
Cut = tuple[list[str], float]

# Longest match


def _longest_match(word: str, vocabulary: Collection[str]) -> list[str]:
    tokens = ["[UNK]", *(piece for piece in vocabulary if piece != "[UNK]")]
    pieces = WordPiece(tokens, ["[UNK]"], cut="whitespace")
    return [pieces.tokens[i] for i in pieces.encode(word)]


longest = Exercise(
    "longest_match",
    chapter="03_data",
    notebook="06_wordpiece_and_unigram",
    title="a word cut as WordPiece cuts it",
    reference=_longest_match,
    hints=(
        "Keep a place `start`; try the ends from len(word) down to start + 1.",
        "Behind the first piece every candidate is `'##' + word[start:end]`.",
        "If no end fits, the whole word is unknown, whatever was found before.",
    ),
)

_GOATS = ["g", "go", "goat", "##oat", "##he", "##her", "##herd", "##d", "##s"]


@longest.check("goat and goatherd")
def _(answer: Any) -> None:
    longest.agree(answer, "goat", _GOATS)
    longest.agree(answer, "goatherd", _GOATS)


@longest.check("pieces that fit only at the beginning of a word, and only inside one")
def _(answer: Any) -> None:
    longest.agree(answer, "herherd", ["her", "herd", "##he", "##r", "##d"])


@longest.check("a dead end behind the longest match")
def _(answer: Any) -> None:
    longest.agree(answer, "goat", ["g", "go", "##oat", "##o", "##he", "##s"])


@longest.check("a word whose end fits nothing")
def _(answer: Any) -> None:
    longest.agree(answer, "goatherdess", _GOATS)


@longest.check("a word whose best cut has fewer pieces")
def _(answer: Any) -> None:
    longest.agree(answer, "goatee", ["go", "goat", "g", "##oatee", "##e"])


def _match(word: str, vocabulary: Collection[str], *, mark: str, shortest: bool) -> list[str]:
    pieces: list[str] = []
    start = 0
    while start < len(word):
        ends = range(start + 1, len(word) + 1)
        for end in ends if shortest else reversed(ends):
            piece = (mark if start else "") + word[start:end]
            if piece in vocabulary:
                pieces.append(piece)
                start = end
                break
        else:
            return [*pieces, "[UNK]"]
    return pieces


@longest.mistake("a piece inside the word begins with ##: look up `'##' + word[start:end]`")
def _unmarked(word: str, vocabulary: Collection[str]) -> list[str]:
    pieces = _match(word, {p.removeprefix("##") for p in vocabulary}, mark="", shortest=False)
    return ["[UNK]"] if "[UNK]" in pieces else pieces


@longest.mistake("you took the shortest piece that fits: try the longest end first")
def _shortest(word: str, vocabulary: Collection[str]) -> list[str]:
    pieces = _match(word, vocabulary, mark="##", shortest=True)
    return ["[UNK]"] if "[UNK]" in pieces else pieces


@longest.mistake("the word is unknown as a whole: forget the pieces that were found before")
def _keeps_the_rest(word: str, vocabulary: Collection[str]) -> list[str]:
    return _match(word, vocabulary, mark="##", shortest=False)


@longest.mistake("WordPiece takes nothing back: where the longest piece leads nowhere, the word is "
                 "unknown")  # fmt: skip
def _goes_back(word: str, vocabulary: Collection[str]) -> list[str]:
    def cut(start: int) -> list[str] | None:
        if start == len(word):
            return []
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary and (rest := cut(end)) is not None:
                return [piece, *rest]
        return None

    return cut(0) or ["[UNK]"]


# The best cut


def _unigram(scores: Scores) -> Unigram:
    return Unigram(scores.items(), ["<unk>"], byte_fallback=False, cut="none")


def _best_cut(word: str, scores: Scores) -> Cut:
    unigram = _unigram(scores)
    ids, value = unigram.n_best(word, 1)[0]
    return [unigram.tokens[i] for i in ids], value


best = Exercise(
    "best_cut",
    chapter="03_data",
    notebook="06_wordpiece_and_unigram",
    title="the likeliest way of cutting a word",
    points=2,
    reference=_best_cut,
    hints=(
        "Let best[t] be the log-probability of the best way to cut the first t letters; best[0] "
        "is 0.",
        "best[end] is the maximum over start of best[start] + scores[word[start:end]].",
        "Note for each end which start won, and walk back from the end of the word.",
    ),
)

SING = {"s": 0.2, "i": 0.1, "n": 0.1, "g": 0.1, "ng": 0.2, "ing": 0.1, "si": 0.2}
SHEEP = {"sheep": 0.05, "she": 0.3, "ep": 0.25, "sh": 0.1, "eep": 0.06, "e": 0.05, "p": 0.04,
         "s": 0.08, "h": 0.07}  # fmt: skip
FOLD = {"sheepf": 0.2, "sheep": 0.1, "fold": 0.2, "old": 0.01, "o": 0.1, "l": 0.1, "d": 0.1,
        "f": 0.19}  # fmt: skip


def _logs(p: Scores) -> dict[str, float]:
    return {piece: math.log(q) for piece, q in p.items()}


@best.check("the word of the section")
def _(answer: Any) -> None:
    best.agree(answer, "sing", _logs(SING))


@best.check("two likely pieces against one less likely")
def _(answer: Any) -> None:
    best.agree(answer, "sheep", _logs(SHEEP))


@best.check("a word whose likeliest beginning leads nowhere good")
def _(answer: Any) -> None:
    best.agree(answer, "sheepfold", _logs(FOLD))


@best.check("40 letters")
def _(answer: Any) -> None:
    best.agree(answer, "ab" * 19 + "ba", _logs({"a": 0.2, "b": 0.2, "aba": 0.01, "ab": 0.07,
                                              "bab": 0.021, "ba": 0.03}))  # fmt: skip


def _greedy(word: str, scores: Scores) -> Cut:
    pieces: list[str] = []
    start = 0
    while start < len(word):
        end = max(e for e in range(start + 1, len(word) + 1) if word[start:e] in scores)
        pieces.append(word[start:end])
        start = end
    return pieces, sum(scores[piece] for piece in pieces)


@best.mistake("that is the longest match of WordPiece: compare sums of log-probabilities")
def _longest_first(word: str, scores: Scores) -> Cut:
    return _greedy(word, scores)


@best.mistake("you took the likeliest piece at each place: the best sum may begin with another")
def _likeliest_first(word: str, scores: Scores) -> Cut:
    pieces: list[str] = []
    start = 0
    while start < len(word):
        ends = [e for e in range(start + 1, len(word) + 1) if word[start:e] in scores]
        end = max(ends, key=lambda e: scores[word[start:e]])
        pieces.append(word[start:end])
        start = end
    return pieces, sum(scores[piece] for piece in pieces)


@best.mistake("the pieces come out last first: turn the list round")
def _backwards(word: str, scores: Scores) -> Cut:
    pieces, value = _best_cut(word, scores)
    return pieces[::-1], value


@best.mistake("return the log-probability, the sum of the scores, not its exponential")
def _as_probability(word: str, scores: Scores) -> Cut:
    pieces, value = _best_cut(word, scores)
    return pieces, math.exp(value)


@best.mistake("that number sums over all ways; it should be the best way's own")
def _of_all_ways(word: str, scores: Scores) -> Cut:
    return _best_cut(word, scores)[0], _unigram(scores).log_probability(word)


# Expected counts


def _piece_counts(word: str, scores: Scores) -> dict[str, float]:
    """Expected counts, as the gradient of the logarithm of the sum over all ways."""
    names = list(scores)
    values = torch.tensor([scores[x] for x in names], dtype=torch.float64, requires_grad=True)
    at = {piece: i for i, piece in enumerate(names)}
    sums = [torch.zeros((), dtype=torch.float64)]
    for end in range(1, len(word) + 1):
        ways = [
            sums[start] + values[at[word[start:end]]]
            for start in range(end)
            if word[start:end] in at
        ]
        sums.append(torch.logsumexp(torch.stack(ways), 0))
    (expected,) = torch.autograd.grad(sums[-1], values)
    return dict(zip(names, expected.tolist(), strict=True))


counts = Exercise(
    "piece_counts",
    chapter="03_data",
    notebook="06_wordpiece_and_unigram",
    title="the E-step by sums forwards and backwards",
    points=3,
    reference=_piece_counts,
    hints=(
        "upto[t]: the sum over all ways to cut the first t letters; after[t]: the same for the "
        "letters from t on. upto[0] and after[n] are 1.",
        "The ways that use the piece from a to b have together the probability "
        "upto[a] * p(piece) * after[b].",
        "Divide by upto[n], the word's probability, and add up where a piece stands twice.",
    ),
)


@counts.check("the word of the section")
def _(answer: Any) -> None:
    counts.agree(answer, "sing", _logs(SING))


@counts.check("a piece that stands at several places, and one that does not occur")
def _(answer: Any) -> None:
    counts.agree(answer, "banana", _logs({"a": 0.2, "b": 0.1, "n": 0.1, "an": 0.2, "ana": 0.1,
                                          "ban": 0.1, "na": 0.1, "x": 0.1}))  # fmt: skip


@counts.check("40 letters")
def _(answer: Any) -> None:
    counts.agree(answer, "ab" * 20, _logs({"a": 0.2, "b": 0.2, "ab": 0.3, "ba": 0.1, "aba": 0.2}))


@counts.mistake("you counted the best way alone; each way counts with its share")
def _of_the_best(word: str, scores: Scores) -> dict[str, float]:
    pieces = _best_cut(word, scores)[0]
    return {piece: float(pieces.count(piece)) for piece in scores}


@counts.mistake("divide by the word's probability: the shares of its ways add up to 1")
def _undivided(word: str, scores: Scores) -> dict[str, float]:
    total = math.exp(_unigram(scores).log_probability(word))
    return {piece: n * total for piece, n in _piece_counts(word, scores).items()}


@counts.mistake("you took all ways for equally likely: weigh each by its probability")
def _all_alike(word: str, scores: Scores) -> dict[str, float]:
    return _piece_counts(word, dict.fromkeys(scores, 0.0))


@counts.mistake("those are the new probabilities, which the M-step makes; return the counts")
def _normalized(word: str, scores: Scores) -> dict[str, float]:
    expected = _piece_counts(word, scores)
    return {piece: n / sum(expected.values()) for piece, n in expected.items()}


@counts.mistake("a piece that the word does not hold has the count 0; keep its key")
def _without_zeros(word: str, scores: Scores) -> dict[str, float]:
    return {piece: n for piece, n in _piece_counts(word, scores).items() if n > 0}
