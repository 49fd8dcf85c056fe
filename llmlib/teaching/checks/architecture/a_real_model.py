"""Checks of the exercises of chapters/04_architecture/10_a_real_model.ipynb."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmlib.architecture.pretrained.dequantize import dequantize
from llmlib.architecture.pretrained.names import unpair_heads
from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "04_architecture/10_a_real_model"


def _blocks(n_blocks: int, seed: int = 0) -> np.ndarray:
    """Return blocks of Q4_0 with scales between 0.5 and 2."""
    generator = np.random.default_rng(seed)
    scales = generator.uniform(0.5, 2, (n_blocks, 1)).astype(np.float16)
    packed = generator.integers(0, 256, (n_blocks, 16), dtype=np.uint8)
    return np.concatenate([scales.view(np.uint8), packed], axis=1)


# The other 4-bit type


def _scales(blocks: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)


def _decode_q4_0(blocks: np.ndarray) -> Tensor:
    return torch.from_numpy(dequantize(blocks, 2).reshape(-1, 32))


def _not_centered(blocks: np.ndarray) -> Tensor:
    q = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    return torch.from_numpy(_scales(blocks) * q)


def _wrapped(blocks: np.ndarray) -> Tensor:
    q = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1) - np.uint8(8)
    return torch.from_numpy(_scales(blocks) * q)


def _interleaved_halves(blocks: np.ndarray) -> Tensor:
    q = np.stack([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=2).reshape(-1, 32)
    return torch.from_numpy(_scales(blocks) * (q.astype(np.float32) - 8))


def _high_first(blocks: np.ndarray) -> Tensor:
    q = np.concatenate([blocks[:, 2:] >> 4, blocks[:, 2:] & 15], axis=1)
    return torch.from_numpy(_scales(blocks) * (q.astype(np.float32) - 8))


q4_0 = Exercise(
    "decode_q4_0",
    title="blocks of 4-bit weights without a minimum",
    points=2,
    reference=_decode_q4_0,
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
        (
            "subtract 8 from every integer: the levels run from -8 to 7, not from 0 to 15"
        ): _not_centered,
        (
            "you subtracted 8 from bytes, which wrap round to 248 and more: convert them first"
        ): _wrapped,
        (
            "the halves of a byte are 16 places apart, not neighbors: first all the low halves"
        ): _interleaved_halves,
        "the low half of a byte comes first; yours begins with the high halves": _high_first,
    },
)


# Unpairing heads


def _unpair(rows: Tensor, n_heads: int) -> Tensor:
    return unpair_heads(rows, n_heads)


def _rows(n_heads: int, head_dim: int, width: int) -> Tensor:
    return torch.arange(float(n_heads * head_dim * width)).view(n_heads * head_dim, width)


def _heads_of_4(answer: Any) -> None:
    pairs.agree(answer, _rows(3, 2, 5), 3)
    pairs.agree(answer, _rows(5, 4, 3), 5)


def _pair_up(rows: Tensor, n_heads: int) -> Tensor:
    halves = rows.unflatten(0, (n_heads, 2, -1))
    return halves.transpose(1, 2).reshape(rows.shape)


def _odd_first(rows: Tensor, n_heads: int) -> Tensor:
    heads = rows.unflatten(0, (n_heads, -1))
    return torch.cat((heads[:, 1::2], heads[:, 0::2]), dim=1).reshape(rows.shape)


pairs = Exercise(
    "unpair_heads",
    title="RoPE's pairs from side by side to half a head apart",
    points=3,
    reference=_unpair,
    hints=(
        "Cut the rows in three axes first: the head, the pair in it, the place in the pair.",
        "`rows.view(n_heads, K // 2, 2, D)`: which two axes have to change places?",
        "Transpose the second and third axis, then reshape to `[n_heads K, D]` again.",
    ),
    cases={
        "one head of 6 rows": args(_rows(1, 6, 1), 1),
        "3 heads of 8 rows, D = 5": args(_rows(3, 8, 5), 3),
        (
            "heads of 4 rows, whose halves are as long as a pair, and then of 2, which stay"
        ): _heads_of_4,
    },
    mistakes={
        "this is the way back: it turns halves into pairs. You start from pairs": _pair_up,
        "you sorted all rows at once; each head is sorted by itself": lambda rows, n_heads: (
            torch.cat((rows[0::2], rows[1::2]))
        ),
        "the rows are still in the file's order": lambda rows, n_heads: rows.clone(),
        "the odd rows of a head come after its even ones; yours come before": _odd_first,
    },
)


# Induction scores


def _induction_score(maps: Tensor, n: int) -> Tensor:
    return maps.diagonal(-(n - 1), dim1=-2, dim2=-1)[..., 1:].mean(dim=(0, 2))


def _maps(n: int, heads: int = 3, rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    scores = 3 * torch.randn(rows, heads, 2 * n, 2 * n, generator=generator)
    future = torch.ones(2 * n, 2 * n, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1)


induction = Exercise(
    "induction_score",
    title="how much a head looks at what followed last time",
    points=3,
    reference=_induction_score,
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
        (
            "that is the weight on the same token's first occurrence; one place further on"
        ): lambda maps, n: maps.diagonal(-n, dim1=-2, dim2=-1).mean(dim=(0, 2)),
        (
            "the place is right, but the last query of the first round has nothing to copy"
        ): lambda maps, n: maps.diagonal(-(n - 1), dim1=-2, dim2=-1).mean(dim=(0, 2)),
        (
            "you looked at the token before the first occurrence; the one after it is meant"
        ): lambda maps, n: maps.diagonal(-(n + 1), dim1=-2, dim2=-1).mean(dim=(0, 2)),
        "queries and keys are swapped: rows look, columns are looked at": lambda maps, n: (
            _induction_score(maps.mT, n)
        ),
        "one number a head is asked for: do not average over the heads": lambda maps, n: (
            _induction_score(maps, n).mean()
        ),
    },
)
