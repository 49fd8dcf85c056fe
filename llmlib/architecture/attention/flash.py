"""FlashAttention written out: exact attention, tile by tile, in memory linear in the length."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass
class Traffic:
    """Numbers read from slow memory, which holds the tensors, and written to it."""

    read: int = 0
    written: int = 0

    @property
    def total(self) -> int:
        """All numbers moved."""
        return self.read + self.written


def flash_attention(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B G S K"],
    values: Float[Tensor, "B G S Kv"],
    *,
    causal: bool = False,
    block_queries: int = 64,
    block_keys: int = 64,
    traffic: Traffic | None = None,
) -> Float[Tensor, "B H T Kv"]:
    r"""Attend without ever holding more than one tile of scores.

    A tile of queries meets one tile of keys after the other and carries along, for each query, the
    largest score so far m, the sum of exponentials l and the mixed values o. When a tile brings a
    larger score, what was summed is worth $e^{m - m'}$ as much:

    $m' = \max(m, \max_j s_j)$, $l' = e^{m - m'} l + \sum_j e^{s_j - m'}$,
    $o' = e^{m - m'} o + \sum_j e^{s_j - m'} v_j$, and at the end $y = o / l$.

    Kept for the backward pass are the inputs, the output and the log-sum-exp $L = m + \ln l$ alone;
    the weights $p_{ij} = e^{s_{ij} - L_i}$ are computed again, tile by tile.

    This is the algorithm, not the speed: on a GPU each tile stays in the processor's own fast
    memory, which Python does not command.

    There are as many key heads as query heads, or fewer that each serve a group of them.

    Args:
        causal: Let a query see only itself and what came before; with more keys than queries, the
            queries are the last tokens. Tiles that lie whole above the diagonal are skipped.
        traffic: Counts what the forward pass moves, where given.

    Returns:
        One row a query, in the type of the queries; sums are in float32 at least.

    Raises:
        ValueError: When a tile is empty, when heads do not group evenly, or when there are fewer
            keys than causal queries.

    Example:
        >>> values = torch.tensor([1.0, 3.0, 5.0]).view(1, 1, 3, 1)
        >>> zeros = torch.zeros(1, 1, 3, 1)
        >>> flash_attention(zeros, zeros, values, causal=True, block_keys=2).flatten().tolist()
        [1.0, 2.0, 3.0]

    References:
        Dao et al. (2022), FlashAttention, algorithms 1 and 4; the order of the loops is that of
        Dao (2023), FlashAttention-2, algorithms 1 and 2; Milakov and Gimelshein (2018), Online
        normalizer calculation for softmax.
    """
    n_queries, n_keys = queries.shape[2], keys.shape[2]
    if min(block_queries, block_keys) < 1:
        raise ValueError(f"tiles of {block_queries} by {block_keys} are empty: use 1 or more")
    if queries.shape[1] % keys.shape[1]:
        raise ValueError(f"{keys.shape[1]} key heads cannot serve {queries.shape[1]} query heads")
    if causal and n_keys < n_queries:
        raise ValueError(f"{n_keys} keys for {n_queries} queries: a query attends to itself too")
    tiles = Tiles(n_queries, n_keys, block_queries, block_keys, is_causal=causal)
    grouped = queries.unflatten(1, (keys.shape[1], -1))  # [B, G, H/G, T, K]
    mixed = _FlashAttention.apply(grouped, keys.unsqueeze(2), values.unsqueeze(2), tiles, traffic)
    return mixed.flatten(1, 2)  # pyright: ignore[reportOptionalMemberAccess]


@dataclass(frozen=True)
class Tiles:
    """How the square of queries and keys is cut."""

    n_queries: int
    n_keys: int
    block_queries: int
    block_keys: int
    is_causal: bool
    """Whether pairs above the diagonal are left out."""

    def rows(self) -> list[tuple[int, int]]:
        """Return where each tile of queries begins and ends."""
        return _cut(self.n_queries, self.block_queries)

    def columns(self) -> list[tuple[int, int]]:
        """Return where each tile of keys begins and ends."""
        return _cut(self.n_keys, self.block_keys)

    def meet(self, row: tuple[int, int], column: tuple[int, int]) -> bool:
        """Say whether any query of a tile, between two ends, may see any of its keys."""
        last_seen = row[1] - 1 + self.n_keys - self.n_queries
        return not self.is_causal or column[0] <= last_seen

    def scores(self, queries: Tensor, keys: Tensor, row: int, column: int) -> Tensor:
        """Return a tile's scaled scores, with minus infinity above the diagonal."""
        scores = (queries / math.sqrt(queries.shape[-1])) @ keys.mT
        diagonal = row + self.n_keys - self.n_queries - column
        if not self.is_causal or diagonal >= scores.shape[-1] - 1:
            return scores
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        return scores.masked_fill_(later.triu_(diagonal + 1), -torch.inf)


def _cut(length: int, block: int) -> list[tuple[int, int]]:
    return [(start, min(start + block, length)) for start in range(0, length, block)]


class _Slow:
    """A tensor in slow memory: tiles are loaded and stored, and what moves is counted."""

    def __init__(self, whole: Tensor, dtype: torch.dtype, traffic: Traffic | None = None) -> None:
        self.whole, self.dtype, self.traffic = whole, dtype, traffic

    def load(self, tile: tuple[int, int]) -> Tensor:
        part = self.whole[..., tile[0] : tile[1], :]
        if self.traffic is not None:
            self.traffic.read += part.numel()
        return part.to(self.dtype)

    def store(self, tile: tuple[int, int], part: Tensor) -> None:
        if self.traffic is not None:
            self.traffic.written += part.numel()
        self.whole[..., tile[0] : tile[1], :] = part


class _FlashAttention(torch.autograd.Function):
    """Queries are [B, G, H/G, T, K], keys and values [B, G, 1, S, K]."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        tiles: Tiles,
        traffic: Traffic | None,
    ) -> Tensor:
        exact = torch.promote_types(queries.dtype, torch.float32)
        out = queries.new_empty(*queries.shape[:-1], values.shape[-1])
        lse = queries.new_empty(*queries.shape[:-1], 1, dtype=exact)
        q, k, v, y, logs = (_Slow(x, exact, traffic) for x in (queries, keys, values, out, lse))
        for row in tiles.rows():
            q_tile = q.load(row)
            largest = torch.full_like(q_tile[..., :1], -torch.inf)
            total = torch.zeros_like(largest)
            mixed = q_tile.new_zeros(*q_tile.shape[:-1], values.shape[-1])
            for column in tiles.columns():
                if not tiles.meet(row, column):
                    break  # the keys after these are later still
                scores = tiles.scores(q_tile, k.load(column), row[0], column[0])
                new = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
                shrink = (largest - new).exp_()  # 0 at first, when the largest is minus infinity
                weights = scores.sub_(new).exp_()
                total = total.mul_(shrink).add_(weights.sum(dim=-1, keepdim=True))
                mixed = mixed.mul_(shrink).add_(weights @ v.load(column))
                largest = new
            y.store(row, mixed.div_(total))
            logs.store(row, largest.add_(total.log_()))
        ctx.save_for_backward(queries, keys, values, out, lse)
        ctx.tiles = tiles
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        queries, keys, values, out, lse = ctx.saved_tensors
        tiles: Tiles = ctx.tiles
        exact = lse.dtype
        q, k, v, y, logs, dy = (_Slow(x, exact) for x in (queries, keys, values, out, lse, grad))
        scale = 1 / math.sqrt(queries.shape[-1])
        grad_queries = torch.zeros_like(queries, dtype=exact)
        grad_keys, grad_values = torch.empty_like(keys), torch.empty_like(values)
        dk, dv = _Slow(grad_keys, exact), _Slow(grad_values, exact)
        # The softmax's gradient subtracts sum_j p_ij dp_ij, which is dy . y: no row of p is needed.
        along = torch.empty_like(lse)
        for row in tiles.rows():
            along[..., row[0] : row[1], :] = (dy.load(row) * y.load(row)).sum(-1, keepdim=True)
        for column in tiles.columns():
            k_tile, v_tile = k.load(column), v.load(column)
            dk_tile, dv_tile = torch.zeros_like(k_tile), torch.zeros_like(v_tile)
            for row in tiles.rows():
                if not tiles.meet(row, column):
                    continue
                q_tile, dy_tile = q.load(row), dy.load(row)
                scores = tiles.scores(q_tile, k_tile, row[0], column[0])
                weights = scores.sub_(logs.load(row)).exp_()
                # Query heads of a group add up in the key head that they share.
                dv_tile += (weights.mT @ dy_tile).sum(dim=2, keepdim=True)
                grad_weights = dy_tile @ v_tile.mT
                grad_scores = weights.mul_(grad_weights.sub_(along[..., row[0] : row[1], :]))
                grad_queries[..., row[0] : row[1], :] += (grad_scores @ k_tile).mul_(scale)
                dk_tile += (grad_scores.mT @ q_tile).sum(dim=2, keepdim=True).mul_(scale)
            dk.store(column, dk_tile)
            dv.store(column, dv_tile)
        return grad_queries.to(queries.dtype), grad_keys, grad_values, None, None


def tile_sizes(head_dim: int, fast_memory: int) -> tuple[int, int]:
    r"""Return the largest tiles that fit into fast memory.

    A tile of $b_q$ queries needs their K numbers twice (queries and mixed values), two sums, and
    its scores with $b_k = \min(b_q, K)$ keys, whose keys and values take $2 b_k K$: at most
    $b_q (5 K + 2)$ numbers.

    Args:
        head_dim: Width of a head, K.
        fast_memory: Numbers that fit, M.

    Raises:
        ValueError: When not one query fits.

    Example:
        >>> tile_sizes(64, 50_000)  # 100 KB of bfloat16
        (155, 64)

    References:
        Dao et al. (2022), algorithm 1, line 1, which takes $M / 4K$; the proof of theorem 2 leaves
        the constant open.
    """
    block = fast_memory // (5 * head_dim + 2)
    if block < 1:
        raise ValueError(f"{fast_memory} numbers do not hold one query of {head_dim}: use more")
    return block, min(block, head_dim)


def tiled_traffic(
    n_tokens: int, head_dim: int, fast_memory: int, *, causal: bool = False
) -> Traffic:
    r"""Count what one head of tiled attention moves, forward.

    Queries are read once and outputs with their log-sum-exp written once; keys and values are read
    again for every tile of queries: $T K + 2 T K \lceil T / b_q \rceil$ read and $T (K + 1)$
    written, which is $\Theta(T^2 K^2 / M)$ with M numbers of fast memory. The causal form reads
    keys and values as far as each tile of queries sees.

    Example:
        >>> tiled_traffic(4096, 64, 50_000).total < standard_traffic(4096, 64).total / 4
        True

    References:
        Dao et al. (2022), theorem 2.
    """
    block_queries, block_keys = tile_sizes(head_dim, fast_memory)
    rows = _cut(n_tokens, block_queries)
    if causal:  # whole tiles of keys, up to the one that holds the last query's own
        keys_met = sum(min(n_tokens, -(-end // block_keys) * block_keys) for _, end in rows)
    else:
        keys_met = n_tokens * len(rows)
    return Traffic(
        read=n_tokens * head_dim + 2 * keys_met * head_dim, written=n_tokens * (head_dim + 1)
    )


def standard_traffic(n_tokens: int, head_dim: int) -> Traffic:
    r"""Count what one head of plain attention moves, forward: three kernels, one after the other.

    Scores, softmax and mix read $2 T K$, $T^2$ and $T^2 + T K$ numbers and write $T^2$, $T^2$ and
    $T K$: $\Theta(T K + T^2)$ with any amount of fast memory.

    Example:
        >>> standard_traffic(100, 10)
        Traffic(read=23000, written=21000)

    References:
        Dao et al. (2022), algorithm 0 and theorem 2.
    """
    square, line = n_tokens * n_tokens, n_tokens * head_dim
    return Traffic(read=2 * line + square + square + line, written=2 * square + line)
