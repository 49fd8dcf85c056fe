"""Sparse attention that pays for its own pairs alone, block by block."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture.attention.sparse_masks import window_mask
from llmlib.architecture.config import ModelConfig


def sparse_attention(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B H T K"],
    values: Float[Tensor, "B H T K"],
    config: ModelConfig,
) -> Float[Tensor, "B H T K"]:
    """Attend along a configuration's sparse pattern without scores for the pairs it leaves out.

    A mask alone saves nothing: every score is computed and then thrown away. Here the text is cut
    into blocks of the window or stride, l tokens each. A block of queries meets its own block, the
    one before it (not with `fixed`), and the far keys of the pattern: the sinks, the tokens in the
    same column of earlier blocks, or the last token of each. That makes about `2 l` near keys for
    each query, and `T / l` far ones.

    The result is that of attention with `sparse_mask`.

    Raises:
        ValueError: For full attention, or sinks with a pattern other than `window`.

    Example:
        >>> config = ModelConfig(vocab_size=7, d_model=8, n_layers=1, n_heads=2, max_seq_len=5,
        ...                      attention="window", window=2)
        >>> values = torch.tensor([1.0, 3.0, 5.0]).view(1, 1, 3, 1)
        >>> zeros = torch.zeros(1, 1, 3, 1)
        >>> sparse_attention(zeros, zeros, values, config).flatten().tolist()
        [1.0, 2.0, 4.0]

    References:
        Child et al. (2019), Generating Long Sequences with Sparse Transformers, section 5.5;
        Beltagy et al. (2020), Longformer, section 3.2 and figure 1.
    """
    kind, n_tokens = config.attention, queries.shape[2]
    if kind == "full" or (kind != "window" and config.n_sinks):
        raise ValueError(f"attention={kind!r} with n_sinks={config.n_sinks} has no block form")
    block = min(config.window if kind == "window" else config.stride, n_tokens)
    n_sinks = min(config.n_sinks, n_tokens)
    padding = (0, 0, 0, -n_tokens % block)
    queries, keys, values = (
        F.pad(x, padding).unflatten(2, (-1, block)) for x in (queries, keys, values)
    )  # [B, H, n, l, K]
    near_keys, near_values = (_near(x, kind) for x in (keys, values))
    far_keys, far_values = (_far(x, kind, n_sinks) for x in (keys, values))
    if kind == "strided":  # a column is a batch of its own
        far_scores = (queries.transpose(2, 3) @ far_keys.mT).transpose(2, 3)  # [B, H, n, l, n]
    else:
        far_scores = queries @ far_keys.mT  # [B, H, n, l, far]
    scores = torch.cat((queries @ near_keys.mT, far_scores), dim=-1) / math.sqrt(keys.shape[-1])
    near, far = _allowed(kind, block, queries.shape[2], n_sinks, queries.device)
    weights = scores.masked_fill(~torch.cat((near, far), dim=-1), -torch.inf).softmax(dim=-1)
    near_weights, far_weights = weights.split((near.shape[-1], far.shape[-1]), dim=-1)
    if kind == "strided":
        far_mixed = (far_weights.transpose(2, 3) @ far_values).transpose(2, 3)
    else:
        far_mixed = far_weights @ far_values
    mixed = near_weights @ near_values + far_mixed  # [B, H, n, l, K]
    return mixed.flatten(2, 3)[:, :, :n_tokens]  # [B, H, T, K]


def _near(blocks: Tensor, kind: str) -> Tensor:
    """Return what each block meets nearby: its predecessor (zeros before the first) and itself."""
    if kind == "fixed":
        return blocks  # [B, H, n, l, K]
    previous = F.pad(blocks[:, :, :-1], (0, 0, 0, 0, 1, 0))
    return torch.cat((previous, blocks), dim=3)  # [B, H, n, 2l, K]


def _far(blocks: Tensor, kind: str, n_sinks: int) -> Tensor:
    """Return the keys or values that lie outside the neighbourhood."""
    if kind == "window":
        return blocks.flatten(2, 3)[:, :, None, :n_sinks]  # [B, H, 1, s, K]
    if kind == "fixed":
        return blocks[:, :, None, :, -1]  # [B, H, 1, n, K]
    return blocks.transpose(2, 3)  # [B, H, l, n, K]


def _allowed(
    kind: str, block: int, n_blocks: int, n_sinks: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return which near and which far keys each query may see, [n, l, near] and [n, l, far]."""
    numbers = torch.arange(n_blocks, device=device)
    starts = block * numbers[:, None]  # [n, 1]
    queries = starts + torch.arange(block, device=device)  # [n, l]
    if kind == "fixed":
        near = window_mask(queries, queries, block)
    else:
        keys = starts + torch.arange(-block, block, device=device)  # [n, 2l]
        near = window_mask(queries, keys, block) & (keys >= 0).unsqueeze(1)
    if kind == "window":  # a sink inside the window is among the near keys already
        return near, queries.unsqueeze(-1) - torch.arange(n_sinks, device=device) >= block
    earlier = numbers < numbers[:, None]  # [n, n]
    return near, earlier.unsqueeze(1).expand(-1, block, -1)
