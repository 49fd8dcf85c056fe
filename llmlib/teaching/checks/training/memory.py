"""Checks of the exercises on memory of chapters/05_training/05_memory.ipynb."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.teaching.answers.measured import peak_bytes
from llmlib.teaching.authoring import Exercise, args, expect, normal

NOTEBOOK = "05_training/05_memory"

# How many blocks to recompute


def _blocks_to_forget(
    n_blocks: int,
    kept: int,
    read: int,
    room: int,
    *,
    inputs: bool = True,
    again: bool = True,
    free: bool = True,
    whole: Callable[[float], float] = math.ceil,
) -> int | None:
    # k > 0 blocks forgotten: (L - k) A + k X + A <= room; the A is the one that is being made again
    if free and n_blocks * kept <= room:
        return 0
    left = n_blocks * kept + kept * again - room
    least = max(1, int(whole(left / (kept - read * inputs))))
    return least if least <= n_blocks else None


blocks_to_forget = Exercise(
    "blocks_to_forget",
    title="forget no more than you must",
    reference=_blocks_to_forget,
    hints=(
        "With k blocks forgotten L - k keep everything and k keep what they read.",
        "While a forgotten block goes back, its activations are there again: one block's more.",
        "(L - k) A + k X + A <= room gives k >= ((L + 1) A - room) / (A - X), and k = 0 needs no "
        "extra block.",
    ),
    cases={
        "room to spare": args(7, 100, 10, 750),
        "everything fits, to the last byte": args(7, 100, 10, 700),
        "most of the blocks": args(12, 90, 45, 700),
        "one byte too little": args(7, 100, 10, 699),
        "all of them, exactly": args(5, 100, 20, 200),
        "not even all of them": args(5, 100, 20, 199),
        "LLaMA-7B's blocks and four gigabytes": args(32, 568_000_000, 33_500_000, 4_000_000_000),
    },
    mistakes={
        "a forgotten block still keeps what it reads": lambda *a: _blocks_to_forget(
            *a, inputs=False
        ),
        "when a forgotten block goes back its activations are made again: leave room for one": (
            lambda *a: _blocks_to_forget(*a, again=False)
        ),
        "round up: one block fewer does not fit": (
            lambda *a: _blocks_to_forget(*a, whole=math.floor)
        ),
        "where not even all blocks are enough, return None": (
            lambda n, a, x, room: _blocks_to_forget(n, a, x, room) or (n if n * a > room else 0)
        ),
        "where everything fits, nothing has to be forgotten and no block is made again": (
            lambda *a: _blocks_to_forget(*a, free=False)
        ),
        "what fills the room to the last byte still fits": (
            lambda n, a, x, room: _blocks_to_forget(n, a, x, room - 1)
        ),
    },
)


# Fetches with foresight


def _fetches(uses: Sequence[str], room: int, *, choose: str = "next", free: int = 0) -> int:
    here: list[str] = []
    last: dict[str, int] = {}
    came: list[str] = []
    fetched = 0
    for moment, chunk in enumerate(uses):
        if chunk not in here:
            fetched += len(here) >= free
            if len(here) == room:
                here.remove(_leaver(here, uses[moment + 1 :], last, came, choose))
            here.append(chunk)
            came.append(chunk)
        last[chunk] = moment
    return fetched


def _leaver(
    here: list[str], later: Sequence[str], last: dict[str, int], came: list[str], choose: str
) -> str:
    after = list(later)
    match choose:
        case "next":
            return max(here, key=lambda c: after.index(c) if c in after else len(after))
        case "soonest":
            return min(here, key=lambda c: after.index(c) if c in after else len(after))
        case "last use":
            return min(here, key=lambda c: last[c])
        case "rarest":
            return min(here, key=lambda c: after.count(c))
        case "never last":
            return max(here, key=lambda c: after.index(c) if c in after else -1)
        case _:  # the one that came first
            return min(here, key=lambda c: len(came) - 1 - came[::-1].index(c))


fetches = Exercise(
    "fetches_with_foresight",
    title="count what must be fetched",
    points=2,
    reference=_fetches,
    hints=(
        "Walk through the uses with a set of what is on the device; count when one is missing.",
        "Where there is no room, look ahead in the list: the next use of each of those here.",
        "`max(here, key=next_use)`, where what is never used again has an infinite next use.",
    ),
    cases={
        "four chunks, room for two": args("abacabcbcdb", 2),
        "up and down a model of four chunks": args("abcddcba", 2),
        "two steps of it": args("abcddcbaabcddcba", 3),
        "round and round, where the oldest is always the next": args("abcabcabcabc", 2),
        "one that is used often and one never again": args("abacadaeabacada", 2),
        "room for all": args("abcddcba", 4),
        "room for one": args("aabbaacc", 1),
        "what leaves may come back": args("abcadbecdabcabdae", 3),
    },
    mistakes={
        "this evicts what was used longest ago; look ahead instead": (
            lambda uses, room: _fetches(uses, room, choose="last use")
        ),
        "this evicts what came first; look ahead instead": (
            lambda uses, room: _fetches(uses, room, choose="came")
        ),
        "you evict what is needed soonest: take the furthest next use": (
            lambda uses, room: _fetches(uses, room, choose="soonest")
        ),
        "how often a chunk is still used does not matter, only when next": (
            lambda uses, room: _fetches(uses, room, choose="rarest")
        ),
        "what is never used again has the furthest next use: it leaves first": (
            lambda uses, room: _fetches(uses, room, choose="never last")
        ),
        "what left and comes back is fetched again; you counted the different chunks": (
            lambda uses, room: len(set(uses))
        ),
        "the first visits are fetches too: the device begins empty": (
            lambda uses, room: _fetches(uses, room, free=room)
        ),
        "that is what is used, not what has to be fetched": lambda uses, room: len(uses),
    },
)


# The loss in slices of the vocabulary


def _sliced_losses(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    width: int,
    *,
    rescale: bool = True,
    highest: bool = True,
    first: float = -torch.inf,
    short: bool = True,
    pick: bool = True,
    sign: int = 1,
) -> Tensor:
    top = torch.full((len(hidden),), first if highest else 0.0, dtype=hidden.dtype)
    total, chosen = torch.zeros_like(top), torch.zeros_like(top)
    for start in range(0, len(weight) if short else len(weight) // width * width, width):
        logits = hidden @ weight[start : start + width].T
        new = torch.maximum(top, logits.amax(-1)) if highest else top
        total = total * ((top - new).exp() if rescale else 1)
        total = total + (logits - new.unsqueeze(-1)).exp().sum(-1)
        top = new
        inside = (targets >= start) & (targets < start + width)
        index = (targets - start).clamp(0, logits.shape[1] - 1)
        chosen = chosen + inside * logits.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    losses = total.log() + top - (chosen if pick else 0)
    return sign * losses


def _inputs(rows: int, width: int, vocab: int, scale: float = 1.0) -> Any:
    targets = torch.arange(rows) * 7919 % vocab
    return scale * normal(rows, width).double(), normal(vocab, width, seed=1).double(), targets


_ALL_AT_ONCE = (
    "the result is right, but somewhere you made a tensor as large as all logits; look at `width` "
    "words at a time, for all rows"
)
_LARGE = _inputs(67, 8, 4001) + (64,)

sliced_losses = Exercise(
    "sliced_losses",
    title="cross-entropy in slices of the vocabulary",
    points=3,
    kind=True,  # NumPy's arrays would not be counted as memory
    reference=_sliced_losses,
    hints=(
        "Each slice gives a part of every row's normalizer and, for some rows, the target's logit.",
        "Keep the highest logit so far and the sum of exponentials relative to it.",
        "When the highest rises from m to m', multiply the sum so far by exp(m - m').",
    ),
    cases={
        "two rows, slices of three": args(*_inputs(2, 5, 9), 3),
        "a last slice that is shorter": args(*_inputs(7, 5, 23), 5),
        "one slice for all": args(*_inputs(3, 4, 11), 11),
        "one word at a time": args(*_inputs(3, 4, 11), 1),
        "logits of several hundreds": args(*_inputs(5, 11, 29, 300.0), 4),
        "the highest logit comes last": args(
            torch.ones(2, 1).double(),
            torch.arange(8.0).double().unsqueeze(-1) * 40,
            torch.tensor([0, 7]),
            3,
        ),  # fmt: skip
        "all logits far below 0": args(
            torch.ones(2, 1).double(),
            -1000 - 40 * torch.arange(8.0).double().unsqueeze(-1),
            torch.tensor([0, 7]),
            3,
        ),
        "memory for 67 rows and 4001 words": (
            lambda f: expect(peak_bytes(f, *_LARGE) < 67 * 4001 * 8 / 2, _ALL_AT_ONCE)
        ),
    },
    mistakes={
        "exponentials of large logits overflow: subtract the highest so far": (
            lambda *a: _sliced_losses(*a, highest=False)
        ),
        "when the highest logit rises, the sum so far is relative to the old one: rescale it": (
            lambda *a: _sliced_losses(*a, rescale=False)
        ),
        "these are the log-normalizers; subtract the target's logit": (
            lambda *a: _sliced_losses(*a, pick=False)
        ),
        "these are log-probabilities, the losses' negatives": lambda *a: _sliced_losses(
            *a, sign=-1
        ),
        "the highest logit so far must start at -inf: all logits may lie far below 0": (
            lambda *a: _sliced_losses(*a, first=0.0)
        ),
        "the last slice is missing where it is shorter than the others": (
            lambda *a: _sliced_losses(*a, short=False)
        ),
        _ALL_AT_ONCE: lambda h, w, t, c: F.cross_entropy(h @ w.T, t, reduction="none"),
        "return one loss a row, not their mean": lambda h, w, t, c: F.cross_entropy(h @ w.T, t),
    },
)
