"""Checks of the exercises of chapters/03_data/01_sources.ipynb."""

from collections.abc import Collection, Sequence
from functools import partial

import torch
from torch import Tensor

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "03_data/01_sources"

# How often each source is read


def _read(weights: Tensor, budget: float) -> Tensor:
    return weights / weights.sum() * budget


passes = Exercise(
    "epochs_read",
    title="how often a mixture reads each source",
    reference=lambda weights, sizes, budget: _read(weights, budget) / sizes,
    hints=(
        "Weights are relative: divide them by their sum to have shares.",
        "A source gets its share times the budget in tokens.",
        "Tokens read over tokens there are: `weights / weights.sum() * budget / sizes`.",
    ),
    cases={
        "two sources, half each": args(
            torch.tensor([0.5, 0.5]), torch.tensor([100.0, 25.0]), 100.0
        ),
        "GPT-3's five sources, in percent that sum to 101": args(
            torch.tensor([60.0, 22, 8, 8, 3]), torch.tensor([410.0, 19, 12, 55, 3]), 300.0
        ),
        "a source of weight 0": args(torch.tensor([3.0, 0, 2]), torch.tensor([7.0, 11, 13]), 17.0),
    },
    mistakes={
        "weights need not sum to one: divide by their sum": lambda w, n, budget: w * budget / n,
        "you left the budget out": lambda w, n, budget: _read(w, 1) / n,
        "those are tokens read; divide by those there are": lambda w, n, budget: _read(w, budget),
        "upside down: tokens read over tokens there are": lambda w, n, budget: n / _read(w, budget),
        "you divided by the size of all sources together; each is read from its own tokens": (
            lambda w, n, budget: _read(w, budget) / n.sum()
        ),
        "the weights are shares of what is read, whatever the sizes: "
        "do not weigh them by size again": lambda w, n, budget: w * budget / (w * n).sum(),
    },
)


# What can be seen of a page

Events = Sequence[tuple[str, str]]

_PAGE = [
    ("start", "p"), ("text", "Leaves at "), ("start", "b"), ("text", "9"), ("end", "b"),
    ("text", "."), ("end", "p"), ("start", "script"), ("text", "track()"), ("end", "script"),
    ("text", " Bring a coat."),
]  # fmt: skip
_MENU = [
    ("start", "nav"), ("text", "Home"), ("start", "p"), ("text", "Boats"), ("end", "p"),
    ("text", "Shop"), ("end", "nav"), ("text", "Tides"),
]  # fmt: skip
_NAMED = [
    ("start", "p"), ("text", "nav"), ("end", "p"), ("start", "navigation"), ("text", "Boats"),
    ("end", "navigation"), ("start", "nav"), ("text", "p"), ("end", "nav"), ("text", "Tides"),
]  # fmt: skip
_NESTED = [
    ("text", "one "), ("start", "nav"), ("text", "Home"), ("start", "p"), ("text", "Boats"),
    ("end", "p"), ("start", "nav"), ("text", "deep"), ("end", "nav"), ("text", "Shop"),
    ("end", "nav"), ("text", "two"),
]  # fmt: skip
_CROSSED = [
    ("start", "nav"), ("start", "style"), ("text", "p {}"), ("end", "style"), ("text", "Menu"),
    ("end", "nav"), ("text", "Tides"),
]  # fmt: skip


def _pieces(events: Events, hidden: Collection[str], *, is_hidden: bool = False) -> list[str]:
    depth, parts = 0, []
    for kind, value in events:
        if kind == "text":
            if (depth > 0) == is_hidden:
                parts.append(value)
        elif value in hidden:
            depth += 1 if kind == "start" else -1
    return parts


def _flag(
    events: Events, hidden: Collection[str], *, any_end: bool = False, reopens: bool = True
) -> str:
    closed, parts = False, []
    for kind, value in events:
        if kind == "start" and value in hidden:
            closed = True
        elif kind == "end" and reopens and (any_end or value in hidden):
            closed = False
        elif kind == "text" and not closed:
            parts.append(value)
    return "".join(parts)


seen = Exercise(
    "seen_text",
    title="the text of a page outside hidden elements",
    points=2,
    reference=lambda events, hidden: "".join(_pieces(events, hidden)),
    hints=(
        "Go through the events once and keep count of how many hidden elements are open.",
        "A start of a hidden tag adds one, its end takes one away, text counts where none is open.",
        "A flag is too little: a hidden element may lie in another.",
    ),
    cases={
        "a paragraph, a script, a sentence": args(_PAGE, {"script", "style"}),
        "nothing hidden": args(_PAGE, set()),
        "a menu with a paragraph in it": args(_MENU, {"nav"}),
        "a menu in a menu": args(_NESTED, {"nav"}),
        "a style sheet in a menu": args(_CROSSED, {"nav", "style"}),
        "a text that reads like a hidden tag, and a tag that begins like one": args(
            _NAMED, {"nav"}
        ),
        "no events": args([], {"nav"}),
    },
    mistakes={
        "the first end of a hidden element opened your eyes again, though another was still open: "
        "count them": _flag,
        "only the end of a hidden element makes text visible again": partial(_flag, any_end=True),
        "you kept all text, also what no reader sees": lambda e, h: "".join(_pieces(e, ())),
        "after the first hidden element nothing came back: "
        "its end makes text visible again": partial(_flag, reopens=False),
        "you kept only what is hidden": lambda e, h: "".join(_pieces(e, h, is_hidden=True)),
        "join without spaces: text is cut inside words too": lambda e, h: " ".join(_pieces(e, h)),
    },
)


# How often a message is read


def _children(parents: Tensor) -> Tensor:
    return torch.bincount(parents[parents >= 0], minlength=len(parents))


def _leaves(parents: Tensor) -> Tensor:
    return (_children(parents) == 0).long()


def _added_up(parents: Tensor, counts: Tensor, *, step: int = -1, each: int = 0) -> Tensor:
    """Give each message's count to its parent, from the last message on or from the first."""
    for node in range(len(parents))[::step]:
        if parents[node] >= 0:
            counts[parents[node]] += counts[node] + each
    return counts


def _leaves_below(parents: Tensor) -> Tensor:
    return _added_up(parents, _leaves(parents))


def _descendants(parents: Tensor) -> Tensor:
    return _added_up(parents, torch.zeros_like(parents), each=1)


def _random_tree() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.tensor([-1, *(torch.randint(i, (1,), generator=generator) for i in range(1, 53))])


def _depth(parents: Tensor) -> Tensor:
    depth = torch.ones_like(parents)
    for node in range(len(parents)):
        if parents[node] >= 0:
            depth[node] = depth[parents[node]] + 1
    return depth


reads = Exercise(
    "times_read",
    title="how often each message of a tree is read",
    points=3,
    reference=_leaves_below,
    hints=(
        "A message is read once for each leaf at or below it.",
        "Parents come before their children: go through the messages from the last to the first.",
        "Give each leaf a 1; then, from the last message on, add each count to its parent's.",
    ),
    cases={
        "seven messages: q a b c d e f": args(torch.tensor([-1, 0, 1, 2, 1, 0, 5])),
        "one message": args(torch.tensor([-1])),
        "a chain": args(torch.tensor([-1, 0, 1, 2, 3])),
        "two trees": args(torch.tensor([-1, -1, 0, 1, 0, 3, 3, 2])),
        "53 messages at random": args(_random_tree()),
    },
    mistakes={
        "you counted direct replies: a message is read once for each path through it": _children,
        "you counted all messages below; only leaves end a path": _descendants,
        "you counted it and all below; only leaves end a path": lambda p: _descendants(p) + 1,
        "a leaf is read too, once: its own path ends there": (
            lambda p: _leaves_below(p) - _leaves(p)
        ),
        "go from the last message to the first: a count must be complete before it is added to the "
        "parent's": lambda p: _added_up(p, _leaves(p), step=1),
        "that is the depth of each message, the length of the path above it": _depth,
    },
)
