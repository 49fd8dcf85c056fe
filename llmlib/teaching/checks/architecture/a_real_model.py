"""Checks of the exercises of chapters/04_architecture/10_a_real_model.ipynb."""

import numpy as np
import torch
from torch import Tensor

from llmlib.architecture.pretrained.dequantize import dequantize
from llmlib.architecture.pretrained.names import unpair_heads
from llmlib.teaching.authoring import Exercise, args, normal

NOTEBOOK = "04_architecture/10_a_real_model"

# The other 4-bit type


def _blocks(n_blocks: int, seed: int = 0) -> np.ndarray:
    """Return blocks of Q4_0 with scales of 0.5 to 2 and every other one below zero."""
    generator = np.random.default_rng(seed)
    scales = generator.uniform(0.5, 2, (n_blocks, 1)).astype(np.float16)
    scales[1::2] *= -1
    packed = generator.integers(0, 256, (n_blocks, 16), dtype=np.uint8)
    return np.concatenate([scales.view(np.uint8), packed], axis=1)


def _halves(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return blocks[:, 2:] & 15, blocks[:, 2:] >> 4


def _scaled(blocks: np.ndarray, q: np.ndarray) -> Tensor:
    scales = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
    return torch.from_numpy(scales * q.astype(np.float32))


q4_0 = Exercise(
    "decode_q4_0",
    title="blocks of 4-bit weights without a minimum",
    points=2,
    reference=lambda blocks: torch.from_numpy(dequantize(blocks, 2).reshape(-1, 32)),
    hints=(
        "The first two bytes of each row are the scale; the other sixteen hold the integers.",
        "`blocks[:, 2:] & 15` are the low halves, `blocks[:, 2:] >> 4` the high ones.",
        "Convert to float32 before you subtract 8: bytes cannot be negative.",
    ),
    cases={
        "one block": args(_blocks(1)),
        "57 blocks": args(_blocks(57, seed=1)),
    },
    mistakes={
        "subtract 8 from every integer: the levels run from -8 to 7, "
        "not from 0 to 15": lambda blocks: _scaled(blocks, np.hstack(_halves(blocks))),
        "you subtracted 8 from bytes, which wrap round to 248 and more: convert them first": (
            lambda blocks: _scaled(blocks, np.hstack(_halves(blocks)) - np.uint8(8))
        ),
        "the halves of a byte are 16 places apart, not neighbors: first all the low halves": (
            lambda blocks: _scaled(blocks, np.dstack(_halves(blocks)).reshape(-1, 32) - 8.0)
        ),
        "the low half of a byte comes first; yours begins with the high halves": (
            lambda blocks: _scaled(blocks, np.hstack(_halves(blocks)[::-1]) - 8.0)
        ),
    },
)


# Unpairing heads


def _rows(n_heads: int, head_dim: int, width: int) -> Tensor:
    return torch.arange(float(n_heads * head_dim * width)).view(n_heads * head_dim, width)


def _pair_up(rows: Tensor, n_heads: int) -> Tensor:
    return rows.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).reshape(rows.shape)


def _odd_first(rows: Tensor, n_heads: int) -> Tensor:
    heads = rows.unflatten(0, (n_heads, -1))
    return torch.cat((heads[:, 1::2], heads[:, 0::2]), dim=1).reshape(rows.shape)


pairs = Exercise(
    "unpair_heads",
    title="RoPE's pairs from side by side to half a head apart",
    points=3,
    reference=unpair_heads,
    hints=(
        "Cut the rows in three axes first: the head, the pair in it, the place in the pair.",
        "`rows.view(n_heads, K // 2, 2, D)`: which two axes have to change places?",
        "Transpose the second and third axis, then reshape to `[n_heads K, D]` again.",
    ),
    cases={
        "one head of 6 rows": args(_rows(1, 6, 1), 1),
        "3 heads of 8 rows, D = 5": args(_rows(3, 8, 5), 3),
        "heads of 2 rows, which stay": args(_rows(3, 2, 5), 3),
        "heads of 4 rows, whose halves are as long as a pair": args(_rows(5, 4, 3), 5),
    },
    mistakes={
        "this is the way back: it turns halves into pairs. You start from pairs": _pair_up,
        "sort each head by itself, not all rows at once": (
            lambda x, h: torch.cat((x[0::2], x[1::2]))
        ),
        "the rows are still in the file's order": lambda rows, n_heads: rows.clone(),
        "the odd rows of a head come after its even ones; yours come before": _odd_first,
    },
)


# Induction scores


def _induction(maps: Tensor, n: int) -> Tensor:
    return maps.diagonal(-(n - 1), dim1=-2, dim2=-1)[..., 1:].mean(dim=(0, 2))


def _weight_back(maps: Tensor, places: int) -> Tensor:
    return maps.diagonal(-places, dim1=-2, dim2=-1).mean(dim=(0, 2))


def _maps(n: int, heads: int = 3) -> Tensor:
    future = torch.ones(2 * n, 2 * n, dtype=torch.bool).triu(1)
    scores = 3 * normal(2, heads, 2 * n, 2 * n, seed=n)
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1)


induction = Exercise(
    "induction_score",
    title="how much a head looks at what followed last time",
    points=3,
    reference=_induction,
    hints=(
        "Token t of the second round stood at t - n before; what came after it, at t - n + 1.",
        "`maps.diagonal(-k, dim1=-2, dim2=-1)` gives the weights on the key k places back.",
        "That diagonal also holds query n - 1, the last of the first round: leave it out.",
    ),
    cases={
        "2 tokens said twice": args(_maps(2), 2),
        "7 tokens said twice, 5 heads": args(_maps(7, heads=5), 7),
    },
    mistakes={
        "that is the weight on the token's first occurrence; go one place on": _weight_back,
        "the place is right, but the last query of the first round "
        "has nothing to copy": lambda maps, n: _weight_back(maps, n - 1),
        "you looked at the token before the first occurrence; "
        "the one after it is meant": lambda maps, n: _weight_back(maps, n + 1),
        "queries and keys are swapped: rows look at columns": lambda m, n: _induction(m.mT, n),
        "one number a head is asked for: do not average heads": (
            lambda m, n: _induction(m, n).mean()
        ),
    },
)
