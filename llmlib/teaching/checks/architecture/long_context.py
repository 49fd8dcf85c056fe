"""Checks of the exercises of chapters/04_architecture/09_long_context.ipynb."""

import math

import torch
from torch import Tensor

from llmlib.architecture.positions.rope import rope_frequencies
from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "04_architecture/09_long_context"

# Interpolation by parts


def _turns(frequencies: Tensor, trained: int) -> Tensor:
    return trained * frequencies / (2 * math.pi)


def _ramp(turns: Tensor) -> Tensor:
    return (turns - 1) / 31


def _blend(frequencies: Tensor, factor: float, kept: Tensor) -> Tensor:
    return kept * frequencies + (1 - kept) * frequencies / factor


def _by_parts(frequencies: Tensor, factor: float, trained: int) -> Tensor:
    return _blend(frequencies, factor, _ramp(_turns(frequencies, trained)).clamp(0, 1))


parts = Exercise(
    "interpolate_by_parts",
    title="slow pairs interpolated, fast pairs kept, a ramp between",
    points=2,
    reference=_by_parts,
    hints=(
        "First say how often each pair turns over the trained length: angle over 2 pi.",
        "The share that is kept runs from 0 at one turn to 1 at 32 turns; `clamp` does the ends.",
        "`kept * frequencies + (1 - kept) * frequencies / factor`, kept = (turns - 1) / 31.",
    ),
    cases={
        "one pair that turns 8.75 times, one that turns 40 times, one that turns half": args(
            2 * math.pi * torch.tensor([8.75, 40.0, 0.5]) / 100, 4.0, 100
        ),
        "a head of 64 numbers, 2,048 tokens, 16 times": args(rope_frequencies(64), 16.0, 2048),
        "a factor of 1 changes nothing": args(rope_frequencies(26), 1.0, 211),
    },
    mistakes={
        "the ramp is upside down: it is the slow pairs that must be interpolated": (
            lambda w, s, n: _blend(w, s, 1 - _ramp(_turns(w, n)).clamp(0, 1))
        ),
        "the share leaves the range 0 to 1: below 1 turn and above 32 it has to stop": (
            lambda w, s, n: _blend(w, s, _ramp(_turns(w, n)))
        ),
        "you counted radians; a turn is 2 pi of them": (
            lambda w, s, n: _blend(w, s, _ramp(n * w).clamp(0, 1))
        ),
        "stretching slows pairs: divide by the factor": lambda w, s, n: _by_parts(w, 1 / s, n),
        "this is plain interpolation: pairs that turn often are kept": lambda w, s, n: w / s,
        "there is a step where the ramp should be: between 1 and 32 turns, blend": (
            lambda w, s, n: _blend(w, s, (_turns(w, n) >= 1).float())
        ),
    },
)


# What a rolling cache holds


def _kept(n_read: int, n_sinks: int, window: int) -> tuple[list[int], list[int]]:
    first = min(n_sinks, n_read)
    last = max(first, n_read - window)
    tokens = [*range(first), *range(last, n_read)]
    return tokens, list(range(len(tokens)))


def _twice(n_read: int, n_sinks: int, window: int) -> tuple[list[int], list[int]]:
    tokens = [*range(min(n_sinks, n_read)), *range(max(0, n_read - window), n_read)]
    return tokens, list(range(len(tokens)))


kept = Exercise(
    "kept_tokens",
    title="which tokens a rolling cache holds, and where they stand",
    points=2,
    reference=_kept,
    hints=(
        "Two ranges: from the start, and up to `n_read`. When do they touch?",
        "The second range starts at `n_read - window`, but never before the first one's end.",
        "Positions are counted inside the cache: 0, 1, 2, ... as many as there are tokens.",
    ),
    cases={
        "20 tokens read, 2 sinks and a window of 4": args(20, 2, 4),
        "a text that fits": args(5, 2, 4),
        "a text shorter than the sinks": args(3, 4, 8),
        "no sinks": args(11, 0, 3),
        "a text that just fits, and one that has not begun": [args(6, 2, 4), args(0, 2, 4)],
    },
    mistakes={
        "the tokens are right; their positions are counted inside the cache, "
        "0, 1, 2, ...": lambda *sizes: (_kept(*sizes)[0],) * 2,
        "some tokens are held twice: in a short text the window reaches into the sinks": _twice,
        "the window is one too short: the newest token counts": lambda n, s, w: _kept(n, s, w - 1),
        "this is the window alone: the sinks are kept for ever": lambda n, s, w: _kept(n, 0, w),
        "the sinks come out of the window here; "
        "they are kept besides `window` last tokens": lambda n, s, w: _kept(n, s, max(0, w - s)),
    },
)


# Choosing blocks from a memory


def _block_scores(query: Tensor, keys: Tensor, block: int) -> Tensor:
    return keys.unflatten(0, (-1, block)).mean(dim=1) @ query


def _best(scores: Tensor, n: int) -> Tensor:
    return scores.topk(n).indices.sort().values


def _tokens_of(blocks: Tensor, block: int) -> Tensor:
    return (blocks[:, None] * block + torch.arange(block)).flatten()


def _choose_blocks(query: Tensor, keys: Tensor, block: int, n_blocks: int) -> Tensor:
    return _tokens_of(_best(_block_scores(query, keys, block), n_blocks), block)


def _best_key(query: Tensor, keys: Tensor, block: int, n_blocks: int) -> Tensor:
    scores = (keys @ query).unflatten(0, (-1, block)).amax(dim=1)
    return _tokens_of(_best(scores, n_blocks), block)


def _strided(query: Tensor, keys: Tensor, block: int, n_blocks: int) -> Tensor:
    scores = keys.unflatten(0, (block, -1)).mean(dim=0) @ query
    return _tokens_of(_best(scores, n_blocks), block)


def _memory(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, generator=generator), torch.randn(n, 8, generator=generator)


block_choice = Exercise(
    "choose_blocks",
    title="the tokens of the blocks that a query agrees with most",
    points=3,
    reference=_choose_blocks,
    hints=(
        "`keys.unflatten(0, (-1, block))` has the shape [blocks, block, K].",
        "One number a block: the query's product with the mean key. Then `topk`.",
        "Block b holds the tokens b * block + 0 ... block - 1; sort the blocks first.",
    ),
    cases={
        # No two of the ways below to choose one block of six choose the same one.
        "18 tokens in blocks of 3, one of them chosen": args(*_memory(18, 420), 3, 1),
        "20 tokens in blocks of 4, three of them chosen": [
            args(*_memory(20, seed), 4, 3) for seed in range(5)
        ],
        "every block chosen": args(*_memory(10, 1), 2, 5),
    },
    mistakes={
        "the right blocks, in the order of their scores: a text must keep its order": (
            lambda q, keys, block, n: _tokens_of(_block_scores(q, keys, block).topk(n)[1], block)
        ),
        "these are the numbers of the blocks; asked for are the tokens in them": (
            lambda q, keys, block, n: _best(_block_scores(q, keys, block), n)
        ),
        "you chose single tokens, the best ones; whole blocks are chosen by their mean key": (
            lambda q, keys, block, n: _best(keys @ q, block * n)
        ),
        "you judged a block by its best key; judge it by the mean of its keys": _best_key,
        "you judged a block by its first key; judge it by the mean of its keys": (
            lambda q, keys, block, n: _tokens_of(_best(keys[::block] @ q, n), block)
        ),
        "the blocks with the largest scores agree with the query; you took the smallest": (
            lambda q, keys, block, n: _choose_blocks(-q, keys, block, n)
        ),
        "a block is `block` neighbors, not every n-th token": _strided,
    },
)
