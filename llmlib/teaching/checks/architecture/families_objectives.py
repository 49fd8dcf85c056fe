"""Checks of the exercises on objectives in chapter 4's 06_families_and_objectives.ipynb."""

import torch
from torch import Tensor

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "04_architecture/06_families_and_objectives"

IGNORE = -100


def _tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(rows * length + 3, generator=generator)[: rows * length].view(rows, -1)


# The targets of a prefix language model


def _prefix_targets(tokens: Tensor, prefix_lengths: Tensor) -> Tensor:
    targets = tokens[:, 1:]
    in_prefix = torch.arange(1, tokens.shape[1]) < prefix_lengths[:, None]
    return targets.masked_fill(in_prefix, IGNORE)


def _first_ignored(tokens: Tensor, prefix_lengths: Tensor) -> Tensor:
    places = torch.arange(tokens.shape[1] - 1)
    return tokens[:, 1:].masked_fill(places < prefix_lengths[:, None], IGNORE)


def _not_shifted(tokens: Tensor, prefix_lengths: Tensor) -> Tensor:
    places = torch.arange(tokens.shape[1] - 1)
    return tokens[:, :-1].masked_fill(places < prefix_lengths[:, None], IGNORE)


def _inverted(tokens: Tensor, prefix_lengths: Tensor) -> Tensor:
    in_prefix = torch.arange(1, tokens.shape[1]) < prefix_lengths[:, None]
    return tokens[:, 1:].masked_fill(~in_prefix, IGNORE)


def _zeros(tokens: Tensor, prefix_lengths: Tensor) -> Tensor:
    found = _prefix_targets(tokens, prefix_lengths)
    return found.where(found != IGNORE, 0)


targets = Exercise(
    "prefix_targets",
    title="which tokens a prefix language model must predict",
    points=2,
    reference=_prefix_targets,
    hints=(
        "First without a prefix: the target at place t is token t + 1, so there is one less.",
        "The target at place t counts if token t + 1 is not in the prefix: t + 1 >= P.",
        "`tokens[:, 1:].masked_fill(torch.arange(1, T + 1) < prefix_lengths[:, None], -100)`.",
    ),
    cases={
        "one text of 6 tokens, a prefix of 3": args(_tokens(1, 6), torch.tensor([3])),
        "three texts, each with a prefix of its own": args(_tokens(3, 7), torch.tensor([2, 6, 4])),
        "a prefix of 1: a language model": args(_tokens(2, 5), torch.tensor([1, 1])),
    },
    mistakes={
        (
            "nothing is ignored: the targets whose token is in the prefix do not count"
        ): lambda tokens, prefix_lengths: tokens[:, 1:].clone(),
        (
            "the last token of the prefix predicts the first one behind it, and that one "
            "must count: your mask is one place too long"
        ): _first_ignored,
        "the target at place t is token t + 1; yours are the inputs themselves": _not_shifted,
        "you ignore what comes behind the prefix, and count what is in it": _inverted,
        "0 is a token like any other: what does not count is marked with -100": _zeros,
        (
            "every text has its own prefix: compare with `prefix_lengths[:, None]`"
        ): lambda tokens, prefix_lengths: _prefix_targets(
            tokens, prefix_lengths[:1].expand(len(tokens))
        ),
    },
)


# Span corruption


def _cut_spans(
    tokens: list[int], cut: list[bool], first_sentinel: int
) -> tuple[list[int], list[int]]:
    inputs: list[int] = []
    said: list[int] = []
    sentinel = first_sentinel - 1
    for place, (token, is_cut) in enumerate(zip(tokens, cut, strict=True)):
        if not is_cut:
            inputs.append(token)
            continue
        if place == 0 or not cut[place - 1]:
            sentinel += 1
            inputs.append(sentinel)
            said.append(sentinel)
        said.append(token)
    return inputs, [*said, sentinel + 1]


def _example(cut: list[int], length: int = 9) -> tuple[list[int], list[bool], int]:
    return list(range(20, 20 + length)), [place in cut for place in range(length)], 100


def _parts(cut: list[bool], first: int, *, each: bool = False, same: bool = False) -> list[int]:
    """Return the sentinel of each cut place, by one of two wrong rules."""
    found, sentinel = [], first - 1
    for place, is_cut in enumerate(cut):
        starts = is_cut and (place == 0 or not cut[place - 1])
        if (is_cut and each) or starts:
            sentinel = first if same else sentinel + 1
        found.append(sentinel)
    return found


def _one_each(
    tokens: list[int], cut: list[bool], first_sentinel: int
) -> tuple[list[int], list[int]]:
    marks = _parts(cut, first_sentinel, each=True)
    inputs = [m if c else t for t, c, m in zip(tokens, cut, marks, strict=True)]
    pairs = [(m, t) for t, c, m in zip(tokens, cut, marks, strict=True) if c]
    end = max(marks, default=first_sentinel - 1) + 1
    return inputs, [*(x for pair in pairs for x in pair), end]


def _same_sentinel(
    tokens: list[int], cut: list[bool], first_sentinel: int
) -> tuple[list[int], list[int]]:
    inputs, said = _cut_spans(tokens, cut, first_sentinel)
    return (
        [min(x, first_sentinel) for x in inputs],
        [*(min(x, first_sentinel) for x in said[:-1]), said[-1]],
    )


def _no_end(tokens: list[int], cut: list[bool], first_sentinel: int) -> tuple[list[int], list[int]]:
    inputs, said = _cut_spans(tokens, cut, first_sentinel)
    return inputs, said[:-1]


def _no_hole(
    tokens: list[int], cut: list[bool], first_sentinel: int
) -> tuple[list[int], list[int]]:
    inputs, said = _cut_spans(tokens, cut, first_sentinel)
    return [x for x in inputs if x < first_sentinel], said


def _spans_alone(
    tokens: list[int], cut: list[bool], first_sentinel: int
) -> tuple[list[int], list[int]]:
    inputs, said = _cut_spans(tokens, cut, first_sentinel)
    return inputs, [*(x for x in said[:-1] if x < first_sentinel), said[-1]]


spans = Exercise(
    "cut_spans",
    title="a text with holes, and what was in them",
    points=3,
    reference=_cut_spans,
    hints=(
        "Go through the text once. A kept token goes to the inputs, a cut one to the targets.",
        "A span begins where a token is cut and the one before it is not: a new sentinel there.",
        "The sentinel goes to both lists. At the end the targets get one more, which closes them.",
    ),
    cases={
        "9 tokens, one span of 2": args(*_example([3, 4])),
        "two spans": args(*_example([1, 2, 3, 6])),
        "spans at both ends": args(*_example([0, 1, 4, 7, 8])),
        "nothing cut out": args(*_example([])),
    },
    mistakes={
        "you put a sentinel for each token: neighbors that are cut out share one": _one_each,
        (
            "every span needs a sentinel of its own, or no one knows which hole it fills"
        ): _same_sentinel,
        "the targets lack their end: one more sentinel behind the last span": _no_end,
        "the inputs show no hole: the span's sentinel must stand in its place there": _no_hole,
        (
            "in the targets each span stands behind its sentinel; yours has the spans alone"
        ): _spans_alone,
    },
)
