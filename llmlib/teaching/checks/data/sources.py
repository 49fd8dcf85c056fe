"""Checks of the exercises of chapters/03_data/01_sources.ipynb."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "03_data/01_sources"

# How often each source is read


def _epochs(weights: Tensor, sizes: Tensor, budget: float) -> Tensor:
    return weights / weights.sum() * budget / sizes


def _gpt_3_s(answer: Any) -> None:
    percent, sizes = [60.0, 22.0, 8.0, 8.0, 3.0], [410.0, 19.0, 12.0, 55.0, 3.0]
    passes.agree(answer, torch.tensor(percent), torch.tensor(sizes), 300.0)


passes = Exercise(
    "epochs_read",
    title="how often a mixture reads each source",
    reference=_epochs,
    hints=(
        "Weights are relative: divide them by their sum to have shares.",
        "A source gets its share times the budget in tokens.",
        "Tokens read over tokens there are: `weights / weights.sum() * budget / sizes`.",
    ),
    cases={
        "two sources, shares of a half": args(
            torch.tensor([0.5, 0.5]), torch.tensor([100.0, 25.0]), 100.0
        ),
        "GPT-3's five sources, in percent that sum to 101": _gpt_3_s,
        "a source of weight 0": args(
            torch.tensor([3.0, 0.0, 2.0]), torch.tensor([7.0, 11.0, 13.0]), 17.0
        ),
    },
    mistakes={
        (
            "weights need not sum to one: divide them by their sum first"
        ): lambda weights, sizes, budget: weights * budget / sizes,
        "you left the budget out": lambda weights, sizes, budget: weights / weights.sum() / sizes,
        (
            "those are the tokens read of each source; divide by how many it has"
        ): lambda weights, sizes, budget: weights / weights.sum() * budget,
        "upside down: tokens read over tokens there are": lambda weights, sizes, budget: (
            sizes / (weights / weights.sum() * budget)
        ),
        (
            "you divided by the size of all sources together; each is read from its own tokens"
        ): lambda weights, sizes, budget: weights / weights.sum() * budget / sizes.sum(),
        (
            "the weights are shares of what is read, whatever the sizes: do not weigh them "
            "by size again"
        ): lambda weights, sizes, budget: weights * budget / (weights * sizes).sum(),
    },
)


# What can be seen of a page

Event = tuple[str, str]


def _seen(events: Sequence[Event], hidden: Collection[str]) -> str:
    depth, parts = 0, []
    for kind, value in events:
        if kind == "start":
            depth += value in hidden
        elif kind == "end":
            depth -= value in hidden
        elif depth == 0:
            parts.append(value)
    return "".join(parts)


_PAGE = [
    ("start", "p"), ("text", "Leaves at "), ("start", "b"), ("text", "9"), ("end", "b"),
    ("text", "."), ("end", "p"), ("start", "script"), ("text", "track()"), ("end", "script"),
    ("text", " Bring a coat."),
]  # fmt: skip
_MENU = [
    ("start", "nav"), ("text", "Home"), ("start", "p"), ("text", "Boats"), ("end", "p"),
    ("text", "Shop"), ("end", "nav"), ("text", "Tides"),
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


def _flag(events: Sequence[Event], hidden: Collection[str]) -> str:
    closed, parts = False, []
    for kind, value in events:
        if kind == "start" and value in hidden:
            closed = True
        elif kind == "end" and value in hidden:
            closed = False
        elif kind == "text" and not closed:
            parts.append(value)
    return "".join(parts)


def _any_end(events: Sequence[Event], hidden: Collection[str]) -> str:
    closed, parts = False, []
    for kind, value in events:
        if kind == "start" and value in hidden:
            closed = True
        elif kind == "end":
            closed = False
        elif kind == "text" and not closed:
            parts.append(value)
    return "".join(parts)


def _never_again(events: Sequence[Event], hidden: Collection[str]) -> str:
    parts = []
    for kind, value in events:
        if kind == "start" and value in hidden:
            break
        if kind == "text":
            parts.append(value)
    return "".join(parts)


def _hidden_text(events: Sequence[Event], hidden: Collection[str]) -> str:
    depth, parts = 0, []
    for kind, value in events:
        depth += (kind == "start" and value in hidden) - (kind == "end" and value in hidden)
        if kind == "text" and depth:
            parts.append(value)
    return "".join(parts)


def _with_spaces(events: Sequence[Event], hidden: Collection[str]) -> str:
    depth, parts = 0, []
    for kind, value in events:
        depth += (kind == "start" and value in hidden) - (kind == "end" and value in hidden)
        if kind == "text" and not depth:
            parts.append(value)
    return " ".join(parts)


seen = Exercise(
    "seen_text",
    title="the text of a page outside hidden elements",
    points=2,
    reference=_seen,
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
        "no events": args([], {"nav"}),
    },
    mistakes={
        (
            "the first end of a hidden element opened your eyes again, though another was "
            "still open: count them"
        ): _flag,
        "any end of an element made text visible again; only the end of a hidden one may": _any_end,
        "you kept all text, also what no reader sees": lambda events, hidden: "".join(
            value for kind, value in events if kind == "text"
        ),
        (
            "after the first hidden element nothing came back: its end makes text visible again"
        ): _never_again,
        "you kept what is hidden and dropped the rest": _hidden_text,
        (
            "do not put spaces between the pieces: text is cut in the middle of words, too"
        ): _with_spaces,
    },
)


# How often a message is read


def _leaves_below(parents: Tensor) -> Tensor:
    counts = torch.zeros_like(parents)
    has_child = torch.zeros_like(parents, dtype=torch.bool)
    has_child[parents[parents >= 0]] = True
    counts[~has_child] = 1
    for node in range(len(parents) - 1, -1, -1):
        if parents[node] >= 0:
            counts[parents[node]] += counts[node]
    return counts


def _case_53_messages_at_random(answer: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [int(torch.randint(i, (1,), generator=generator)) for i in range(1, 53)]
    reads.agree(answer, torch.tensor([-1, *drawn]))


def _children(parents: Tensor) -> Tensor:
    return torch.bincount(parents[parents >= 0], minlength=len(parents))


def _descendants(parents: Tensor) -> Tensor:
    counts = torch.zeros_like(parents)
    for node in range(len(parents) - 1, -1, -1):
        if parents[node] >= 0:
            counts[parents[node]] += counts[node] + 1
    return counts


def _forwards(parents: Tensor) -> Tensor:
    counts = (_children(parents) == 0).long()
    for node in range(len(parents)):
        if parents[node] >= 0:
            counts[parents[node]] += counts[node]
    return counts


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
        "the seven messages of the notebook: q a b c d e f": args(
            torch.tensor([-1, 0, 1, 2, 1, 0, 5])
        ),
        "one message": args(torch.tensor([-1])),
        "a chain": args(torch.tensor([-1, 0, 1, 2, 3])),
        "two trees": args(torch.tensor([-1, -1, 0, 1, 0, 3, 3, 2])),
        "53 messages at random": _case_53_messages_at_random,
    },
    mistakes={
        (
            "you counted the direct replies: a message is read once for each path through it"
        ): _children,
        "you counted all messages below; only leaves end a path": _descendants,
        "you counted the message and all below it; only leaves end a path": lambda parents: (
            _descendants(parents) + 1
        ),
        "a leaf is read too: its own path ends there, so it counts 1": lambda parents: (
            _leaves_below(parents) - (_children(parents) == 0).long()
        ),
        (
            "go from the last message to the first: a count must be complete before it is "
            "added to the parent's"
        ): _forwards,
        "that is the depth of each message, the length of the path above it": _depth,
    },
)
