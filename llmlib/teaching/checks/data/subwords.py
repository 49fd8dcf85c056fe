"""Checks of the exercises of chapters/03_data/06_wordpiece_and_unigram.ipynb."""

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial

import torch

from llmlib.data.tokenizers.unigram.unigram import Unigram
from llmlib.data.tokenizers.wordpiece import WordPiece
from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "03_data/06_wordpiece_and_unigram"

Scores = Mapping[str, float]
_Cut = tuple[list[str], float]

# Longest match


def _longest_match(word: str, vocabulary: Collection[str]) -> list[str]:
    tokens = ["[UNK]", *(piece for piece in vocabulary if piece != "[UNK]")]
    pieces = WordPiece(tokens, ["[UNK]"], cut="whitespace")
    return [pieces.tokens[i] for i in pieces.encode(word)]


_GOATS = ["g", "go", "goat", "##oat", "##he", "##her", "##herd", "##d", "##s"]


def _match(
    word: str,
    vocabulary: Collection[str],
    *,
    mark: str = "##",
    shortest: bool = False,
    forgets: bool = True,
) -> list[str]:
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
            return ["[UNK]"] if forgets else [*pieces, "[UNK]"]
    return pieces


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


longest = Exercise(
    "longest_match",
    title="a word cut as WordPiece cuts it",
    reference=_longest_match,
    hints=(
        "Keep a place `start`; try the ends from len(word) down to start + 1.",
        "Behind the first piece every candidate is `'##' + word[start:end]`.",
        "If no end fits, the whole word is unknown, whatever was found before.",
    ),
    cases={
        "goat": args("goat", _GOATS),
        "goatherd": args("goatherd", _GOATS),
        "pieces that fit only at the beginning of a word, and only inside one": args(
            "herherd", ["her", "herd", "##he", "##r", "##d"]
        ),
        "a word that only pieces from inside would fit": args("oat", _GOATS),
        "a dead end behind the longest": args("goat", ["g", "go", "##oat", "##o", "##he", "##s"]),
        "a word whose end fits nothing": args("goatherdess", _GOATS),
        "a word with a cut of fewer pieces": args("goatee", ["go", "goat", "g", "##oatee", "##e"]),
    },
    mistakes={
        "a piece inside the word begins with ##: look up `'##' + word[start:end]`": (
            lambda word, pieces: _match(word, {p.removeprefix("##") for p in pieces}, mark="")
        ),
        "a piece with ## stands inside a word only: it cannot begin one": (
            lambda word, pieces: _match(word, {*pieces, *(p.removeprefix("##") for p in pieces)})
        ),
        "you took the shortest piece: try the longest end first": partial(_match, shortest=True),
        "the word is unknown as a whole: forget the pieces before": partial(_match, forgets=False),
        "WordPiece takes nothing back: after a dead end the word is unknown": _goes_back,
    },
)


# The best cut


def _unigram(scores: Scores) -> Unigram:
    return Unigram(scores.items(), ["<unk>"], byte_fallback=False, cut="none")


def _best_cut(word: str, scores: Scores) -> _Cut:
    unigram = _unigram(scores)
    ids, value = unigram.n_best(word, 1)[0]
    return [unigram.tokens[i] for i in ids], value


def _logs(**p: float) -> dict[str, float]:
    return {piece: math.log(q) for piece, q in p.items()}


_SING = _logs(s=0.2, i=0.1, n=0.1, g=0.1, ng=0.2, ing=0.1, si=0.2)
_SHEEP = _logs(sheep=0.05, she=0.3, ep=0.25, sh=0.1, eep=0.06, e=0.05, p=0.04, s=0.08, h=0.07)
_FOLD = _logs(sheepf=0.2, sheep=0.1, fold=0.2, old=0.01, o=0.1, l=0.1, d=0.1, f=0.19)
_BANANA = _logs(a=0.2, b=0.1, n=0.1, an=0.2, ana=0.1, ban=0.1, na=0.1, x=0.1)


def _from_the_left(word: str, scores: Scores, by: Callable[[str, Scores], float]) -> _Cut:
    pieces: list[str] = []
    while rest := word[sum(map(len, pieces)) :]:
        fits = [rest[:end] for end in range(1, len(rest) + 1) if rest[:end] in scores]
        pieces.append(max(fits, key=lambda piece: by(piece, scores)))
    return pieces, sum(scores[piece] for piece in pieces)


likeliest_cut = Exercise(
    "best_cut",
    title="the likeliest way of cutting a word",
    points=2,
    reference=_best_cut,
    hints=(
        "Let best[t] be the log-probability of the best way to cut the first t letters; best[0] "
        "is 0.",
        "best[end] is the maximum over start of best[start] + scores[word[start:end]].",
        "Note for each end which start won, and walk back from the end of the word.",
    ),
    cases={
        "the word of the section": args("sing", _SING),
        "two likely pieces against one less likely": args("sheep", _SHEEP),
        "a word whose likeliest beginning leads nowhere good": args("sheepfold", _FOLD),
        "scores so low that probabilities are 0": args(
            "sheepfold", {piece: score - 400 for piece, score in _FOLD.items()}
        ),
        "40 letters": args(
            "ab" * 19 + "ba", _logs(a=0.2, b=0.2, aba=0.01, ab=0.07, bab=0.021, ba=0.03)
        ),
    },
    mistakes={
        "that is the longest match of WordPiece: compare sums of log-probabilities": partial(
            _from_the_left, by=lambda piece, scores: len(piece)
        ),
        "you took the likeliest piece at each place: the best sum may begin with another": partial(
            _from_the_left, by=lambda piece, scores: scores[piece]
        ),
        "the pieces come out last first: turn the list round": (
            lambda *inputs: (_best_cut(*inputs)[0][::-1], _best_cut(*inputs)[1])
        ),
        "return the log-probability, the sum of the scores, not its exponential": (
            lambda *inputs: (_best_cut(*inputs)[0], math.exp(_best_cut(*inputs)[1]))
        ),
        "that number sums over all ways; it should be the best way's own": (
            lambda word, p: (_best_cut(word, p)[0], _unigram(p).log_probability(word))
        ),
    },
)


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


def _scaled_counts(word: str, scores: Scores, factor: float) -> dict[str, float]:
    return {piece: factor * n for piece, n in _piece_counts(word, scores).items()}


def _of_the_best(word: str, scores: Scores) -> dict[str, float]:
    pieces = _best_cut(word, scores)[0]
    return {piece: float(pieces.count(piece)) for piece in scores}


counts = Exercise(
    "piece_counts",
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
    cases={
        "the word of the section": args("sing", _SING),
        "a piece at several places, and one that does not occur": args("banana", _BANANA),
        "40 letters": args("ab" * 20, _logs(a=0.2, b=0.2, ab=0.3, ba=0.1, aba=0.2)),
    },
    mistakes={
        "you counted the best way alone; each way counts with its share": _of_the_best,
        "divide by the word's probability: "
        "the shares of its ways add up to 1": lambda word, scores: _scaled_counts(
            word, scores, math.exp(_unigram(scores).log_probability(word))
        ),
        "you took all ways for equally likely: weigh each by its probability": (
            lambda word, scores: _piece_counts(word, dict.fromkeys(scores, 0.0))
        ),
        "those are the new probabilities, which the M-step makes; return the counts": (
            lambda word, scores: _scaled_counts(
                word, scores, 1 / sum(_piece_counts(word, scores).values())
            )
        ),
        "a piece that the word does not hold has the count 0; keep its key": lambda word, scores: {
            piece: n for piece, n in _piece_counts(word, scores).items() if n > 0
        },
    },
)
