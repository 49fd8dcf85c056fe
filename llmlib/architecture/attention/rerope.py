"""Position truncation: no relative position larger than a window is ever seen."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from llmlib.architecture.attention.multihead import Attention, causal_mask
from llmlib.architecture.caches.base import AttentionCache
from llmlib.architecture.context import Angles, Context
from llmlib.architecture.exact import wide
from llmlib.architecture.kernels.fused import rotate


class TruncatedAttention(Attention):
    """Attention in which every key farther than `rope_window` stands at the window's edge.

    All scores are in memory: no fused kernel knows two rotations of one pair.

    References:
        Su (2023), ReRoPE (kexue.fm/archives/9708); the survey calls it position truncation.
    """

    @override
    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Context | None = None,
        cache: AttentionCache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "B T D"]:
        """Mix as `Attention` does; the context is needed, for its angles."""
        assert context is not None
        return self.join(self.mix(*self.read(x, None, cache, layer), context))

    @override
    def mix(
        self,
        queries: Float[Tensor, "B H T K"],
        keys: Float[Tensor, "B G S K"],
        values: Float[Tensor, "B G S K"],
        context: Context,
    ) -> Float[Tensor, "B H T K"]:
        """Return each query's weighted mean of the values; nothing comes in rotated."""
        assert context.angles is not None and context.key_angles is not None
        assert context.window_angles is not None
        keys, values = (x.repeat_interleave(self.config.group_size, 1) for x in (keys, values))
        with torch.autocast(queries.device.type, enabled=False):  # as the fused kernels sum
            scores = truncated_scores(
                wide(queries),
                wide(keys),
                context.queries.unsqueeze(-1) - context.keys.unsqueeze(-2),
                self.config.rope_window,
                context.angles,
                context.key_angles,
                context.window_angles,
            )
        mask = context.layer_mask(is_local=self.is_local)
        if mask is None:
            mask = causal_mask(queries.shape[2], keys.shape[2], queries.device)
        scores = (scores * self.config.score_scale).masked_fill(~mask, -torch.inf)
        weights = F.dropout(scores.softmax(-1), self.config.dropout, self.training)
        return weights.to(values.dtype) @ values


def truncated_scores(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B H S K"],
    distances: Int[Tensor, "#B T S"],
    window: int,
    query_angles: Angles,
    key_angles: Angles,
    window_angles: Angles,
) -> Float[Tensor, "B H T S"]:
    r"""Return attention scores in which a far key stands at the window's edge.

    $s_{ij} = q_i^\top R_{\min(i - j,\, w)}\, k_j$, not scaled. Rotation by a difference is a
    product of two rotations only without the minimum, so there are two sets of scores: the near
    ones with both sides rotated by their positions, the far ones with the query rotated by w and
    the key not.

    Args:
        queries: Before rotation.
        keys: Before rotation, one head for each query head.
        distances: Position of the query minus position of the key.
        window: The largest relative position w, in tokens.
        window_angles: Those of position w.

    Returns:
        The scores; where the key comes after the query they are meaningless, to be masked.

    References:
        Su (2023), ReRoPE (kexue.fm/archives/9708); the survey calls it position truncation.
    """

    def turned(x: Tensor, angles: Angles) -> Tensor:
        cos, sin = (part.expand(-1, x.shape[2], -1) for part in angles)
        return rotate(x.transpose(1, 2), cos, sin).transpose(1, 2)

    near = turned(queries, query_angles) @ turned(keys, key_angles).transpose(-2, -1)
    far = turned(queries, window_angles) @ keys.transpose(-2, -1)
    return torch.where((distances < window).unsqueeze(1), near, far)
