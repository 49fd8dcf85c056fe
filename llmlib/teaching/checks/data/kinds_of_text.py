"""Checks of the exercises of chapters/03_data/10_dialogue_and_code.ipynb."""

from functools import partial

import torch
from torch import Tensor

from llmlib.teaching.authoring import Exercise, args, uniform

NOTEBOOK = "03_data/10_dialogue_and_code"

_doubles = partial(torch.tensor, dtype=torch.float64)


def _positive(n: int, seed: int) -> Tensor:
    return 0.1 + uniform(n, seed=seed, dtype=torch.float64)


def _shares(n: int, seed: int) -> Tensor:
    values = _positive(n, seed)
    return values / values.sum()


# From shares of the tokens to shares of the documents


def _document_shares(token_shares: Tensor, mean_lengths: Tensor) -> Tensor:
    documents = token_shares / mean_lengths
    return documents / documents.sum()


documents = Exercise(
    "document_shares",
    title="how often to draw each kind of document",
    reference=_document_shares,
    hints=(
        "Of a kind whose documents are long, few documents make many tokens.",
        "In N tokens, kind k has N * share tokens: how many documents is that?",
        "Divide shares by lengths, then divide by the sum.",
    ),
    cases={
        "equal shares, 10 and 30 tokens long": args(_doubles([0.5, 0.5]), _doubles([10.0, 30.0])),
        "a kind without any share": args(_doubles([0.25, 0, 0.75]), _doubles([34.0, 54, 31])),
        "7 kinds": args(_shares(7, 0), 100 * _positive(7, 1)),
    },
    mistakes={
        "these are the tokens' shares: long documents are drawn less often": lambda p, n: p.clone(),
        "you multiplied by the lengths: that turns documents into tokens, divide": (
            lambda shares, lengths: _document_shares(shares, 1 / lengths)
        ),
        "these are documents a token; divide by their sum for shares": lambda p, n: p / n,
    },
)


# What a bare question is the opening of


def _ratio(part: Tensor, whole: Tensor) -> float:
    return (part.sum() / whole.sum()).item()


def _talk_after(documents: Tensor, asks: Tensor, talks: Tensor) -> float:
    return _ratio(documents * asks * talks, documents * asks)


opening = Exercise(
    "talk_after",
    title="how often talk follows a question, by counting documents",
    points=2,
    reference=_talk_after,
    hints=(
        "Only documents that open with a question count.",
        "Of kind k, documents[k] * asks[k] open with a question.",
        "Divide those that talk follows by all that open with a question.",
    ),
    cases={
        "200 pages of instructions, 300 dialogues of which half ask": args(
            _doubles([200.0, 300]), _doubles([1, 0.5]), _doubles([0, 0.8])
        ),
        "stories, which never ask": args(
            _doubles([70.0, 900, 30]), _doubles([1, 0, 0.4]), _doubles([0.1, 0, 0.9])
        ),
        "5 kinds": args(1000 * _positive(5, 2), _shares(5, 3), _shares(5, 4)),
    },
    mistakes={
        "you divided by all documents; only those that open with a question count": (
            lambda documents, asks, talks: _ratio(documents * asks * talks, documents)
        ),
        "a kind counts by how many of its documents ask, not by all of them: "
        "weigh by `asks` too": lambda documents, _, talks: _ratio(documents * talks, documents),
        "that is the share of questions that open a kind that talks; some of those get their "
        "answer: weigh by `talks`": (
            lambda documents, asks, talks: _talk_after(documents, asks, talks > 0)
        ),
        "you averaged over the kinds; "
        "a kind with more documents weighs more": lambda _, asks, talks: _ratio(asks * talks, asks),
        "that is the share of answers; asked is that of talk": lambda *x: 1 - _talk_after(*x),
    },
)


# The comments of a program


def _trace(lines: list[str]) -> list[str]:
    holds: dict[str, str] = {}
    values = []
    for line in lines:
        name, operator, right = line.split()
        value = holds.get(right, right.strip("'"))
        if operator != "=":
            sign = 1 if operator == "+=" else -1
            value = str(int(holds[name]) + sign * int(value))
        holds[name] = value
        values.append(value)
    return values


def _strips_first(lines: list[str]) -> list[str]:
    """Look a text up as if it were a name."""
    return _trace([line.replace("'", "") for line in lines])


def _before(lines: list[str]) -> list[str]:
    after = _trace(lines)
    names = [line.split()[0] for line in lines]
    return [
        next((after[j] for j in reversed(range(i)) if names[j] == name), after[i])
        for i, name in enumerate(names)
    ]


def _names_left(lines: list[str]) -> list[str]:
    values = _trace(lines)
    last = {line.split()[0]: value for line, value in zip(lines, values, strict=True)}
    return [
        last.get(line.split()[2], value) if line.split()[1] == "=" else value
        for line, value in zip(lines, values, strict=True)
    ]


def _quoted(lines: list[str]) -> list[str]:
    quoted = {line.split()[2].strip("'"): line.split()[2] for line in lines if "'" in line}
    return [quoted.get(value, value) for value in _trace(lines)]


tracing = Exercise(
    "trace_program",
    title="the comments that a small program would bear",
    points=3,
    reference=_trace,
    hints=(
        "`line.split()` gives three pieces: a name, an operator, and what is on the right.",
        "Keep a dictionary of what each name holds *now*. On the right stands a name, a number or "
        'a text in quotation marks: `holds.get(right, right.strip("\'"))`.',
        "For `+=` and `-=` compute with `int`, and store the text of the result.",
    ),
    cases={
        "n goes up and down": args(["n = 4", "n += 9", "n -= 6"]),
        "a change taken from another name": args(["n = 4", "k = 3", "n += k", "k -= n", "n = k"]),
        "the key moves on after the map was put where it lay": args(
            ["key = 'box'", "map = key", "key = 'jar'", "ring = map", "map = ring"]
        ),
        "a text that is also a name": args(["n = 4", "key = 'n'", "n += 3", "map = key"]),
        "numbers below zero, and a text of digits": args(
            ["n = -4", "n += 1", "k = '7'", "n -= -5", "n -= 9"]
        ),
        "no lines": args([]),
    },
    mistakes={
        "you added where the program takes away: `-=`": (
            lambda lines: _trace([line.replace("-=", "+=") for line in lines])
        ),
        "the comment gives the value after the line; you gave the one before": _before,
        "a name on the right stands for what it holds at that line; "
        "yours is left as a name or follows later moves": _names_left,
        "a text in quotation marks is a text, also where a name reads like it": _strips_first,
        "quotation marks belong to the program, not to the value: strip them": _quoted,
        "return texts, as comments hold them, not numbers": lambda lines: [
            int(value) if value.lstrip("-").isdigit() else value for value in _trace(lines)
        ],
    },
)
