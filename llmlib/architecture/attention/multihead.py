"""Scaled dot-product attention, first as the equation says it, then as the decoder runs it."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture.attention.blocked import causal_attention
from llmlib.architecture.caches.base import AttentionCache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Angles, Context
from llmlib.architecture.exact import wide, wide_type
from llmlib.architecture.kernels.fused import rotate
from llmlib.architecture.norms import RMSNorm
from llmlib.architecture.positions.relative import RelativeScores


def causal_mask(
    n_queries: int, n_keys: int | None = None, device: torch.device | None = None
) -> Bool[Tensor, "T S"]:
    """Return which keys each query may see: itself and what came before.

    With more keys than queries the queries are the last tokens, as when decoding with a cache.

    Returns:
        True where the query (row) may attend to the key (column).

    Raises:
        ValueError: When there are fewer keys than queries.

    Example:
        >>> causal_mask(2, 3).int().tolist()
        [[1, 1, 0], [1, 1, 1]]
    """
    n_keys = n_queries if n_keys is None else n_keys
    if n_keys < n_queries:
        raise ValueError(f"{n_keys} keys for {n_queries} queries: a query attends to itself too")
    mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    return mask.tril(diagonal=n_keys - n_queries)


def attention_weights(
    queries: Float[Tensor, "*batch T K"],
    keys: Float[Tensor, "*batch S K"],
    mask: Bool[Tensor, "*#batch T S"] | None = None,
) -> Float[Tensor, "*batch T S"]:
    r"""Return how much each query attends to each key.

    $A = \mathrm{softmax}(Q K^\top / \sqrt{K} + M)$, with $M = -\infty$ where the mask is False.

    Args:
        mask: True where attention is allowed; every query needs at least one key.

    Example:
        >>> attention_weights(torch.zeros(1, 4), torch.zeros(2, 4))
        tensor([[0.5000, 0.5000]])

    References:
        Vaswani et al. (2017), Attention Is All You Need, equation 1 (there $d_k$ is our K).
    """
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])  # [*batch, T, S]
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1)


def scaled_dot_product_attention(
    queries: Float[Tensor, "*batch T K"],
    keys: Float[Tensor, "*batch S K"],
    values: Float[Tensor, "*batch S Kv"],
    mask: Bool[Tensor, "*#batch T S"] | None = None,
) -> Float[Tensor, "*batch T Kv"]:
    r"""Return for each query the mean of the values, weighted by attention.

    $Y = \mathrm{softmax}(Q K^\top / \sqrt{K} + M)\,V$

    This is the definition, which holds all T x S weights in memory. The decoder calls PyTorch's
    fused kernel, which computes the same without them.

    Args:
        mask: True where attention is allowed; every query needs at least one key.

    Example:
        >>> values = torch.tensor([[1.0], [3.0]])
        >>> scaled_dot_product_attention(torch.zeros(1, 4), torch.zeros(2, 4), values)
        tensor([[2.]])

    References:
        Vaswani et al. (2017), Attention Is All You Need, equation 1.
    """
    return attention_weights(queries, keys, mask) @ values


class Attention(nn.Module):
    """Multi-head, grouped-query or multi-query self-attention.

    The three projections are one matrix product. Key/value head g serves the query heads
    `g H/G ... (g + 1) H/G - 1`.

    With `full_every` some layers are full, others sparse, by their index from 0.

    References:
        Vaswani et al. (2017), section 3.2.2 (multi-head); Shazeer (2019), Fast Transformer
        Decoding (multi-query); Ainslie et al. (2023), GQA (grouped-query).
    """

    def __init__(self, config: ModelConfig, layer: int = 0) -> None:
        super().__init__()
        self.config = config
        self.is_local = config.is_local(layer)
        self.n_rotated = config.n_heads + config.n_kv_heads  # queries and keys, not values
        heads = self.n_rotated + config.n_kv_heads
        self.qkv = nn.Linear(config.d_model, heads * config.head_dim, bias=bool(config.qkv_bias))
        self.out = nn.Linear(config.n_heads * config.head_dim, config.d_model, bias=config.bias)
        # The kernels divide by the root of the head's width by themselves.
        scale = config.attention_scale
        self.rescale = scale * math.sqrt(config.head_dim) if scale else 1.0
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.norm_eps)
        if config.position == "relative":
            self.relative = RelativeScores(config.d_model, config.n_heads, config.head_dim)

    @property
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        """Parameters that are several matrices on top of each other, with the rows of each."""
        shared = self.config.n_kv_heads * self.config.head_dim
        return {"qkv.weight": (self.config.n_heads * self.config.head_dim, shared, shared)}

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Context | None = None,
        cache: AttentionCache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "B T D"]:
        """Mix information between the tokens of each row.

        Args:
            context: Positions and masks; None: causal, without positions.
            cache: Keys and values of earlier tokens; extended in place.
            layer: Index of this layer in the cache.
        """
        if context is None:
            positions = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
            context = Context(positions, positions)
        is_late = cache is not None and not cache.rotated
        queries, keys, values = self.read(x, None if is_late else context.angles, cache, layer)
        if is_late and context.angles is not None and context.key_angles is not None:
            queries = rotate(queries.transpose(1, 2), *context.angles).transpose(1, 2)
            keys = rotate(keys.transpose(1, 2), *context.key_angles).transpose(1, 2)
        return self.join(self.mix(queries, keys, values, context))

    def read(
        self,
        x: Float[Tensor, "B T D"],
        angles: Angles | None,
        cache: AttentionCache | None,
        layer: int,
    ) -> tuple[Float[Tensor, "B H T K"], Float[Tensor, "B G S K"], Float[Tensor, "B G S K"]]:
        """Return the new queries, and all keys and values that they may see."""
        queries, keys, values = self.project(x, angles)
        if cache is not None:
            keys, values = cache.extend(layer, keys, values)
            if cache.selects:
                keys, values = cache.recall(layer, queries)
        return queries, keys, values

    def join(self, mixed: Float[Tensor, "B H T K"]) -> Float[Tensor, "B T D"]:
        """Return what all heads together add to the residual stream."""
        return self.out(mixed.transpose(1, 2).flatten(2))

    def mix(
        self,
        queries: Float[Tensor, "B H T K"],
        keys: Float[Tensor, "B G S K"],
        values: Float[Tensor, "B G S K"],
        context: Context,
    ) -> Float[Tensor, "B H T K"]:
        """Return each query's weighted mean of the values; queries and keys come in rotated."""
        mask = context.layer_mask(is_local=self.is_local)
        if self.config.position == "relative":
            queries, scores = self.relative(queries, context.queries, context.keys)
            scores = scores * self.config.score_scale
            mask = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
        if self.rescale != 1:
            queries = queries * self.rescale
        dropout = self.config.dropout if self.training else 0.0
        if mask is None and context.is_causal and keys.shape[2] == queries.shape[2]:
            return causal_attention(queries, keys, values, dropout)
        if mask is not None and mask.dtype != torch.bool:
            return self._mix_biased(queries, keys, values, mask, dropout)
        return F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            dropout_p=dropout,
            enable_gqa=self.config.group_size > 1,
        )

    def _mix_biased(
        self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, dropout: float
    ) -> Tensor:
        """Add a bias to the scores in float32 at least: 16 bits would make far distances equal."""
        with torch.autocast(queries.device.type, enabled=False):
            mixed = F.scaled_dot_product_attention(
                wide(queries),
                wide(keys),
                wide(values),
                attn_mask=bias.to(wide_type(queries.dtype)),
                dropout_p=dropout,
                enable_gqa=self.config.group_size > 1,
            )
        return mixed.to(queries.dtype)

    def project(
        self,
        x: Float[Tensor, "B T D"],
        angles: Angles | None = None,
    ) -> tuple[Float[Tensor, "B H T K"], Float[Tensor, "B G T K"], Float[Tensor, "B G T K"]]:
        """Return the tokens' own queries, keys and values, RoPE's rotation applied."""
        n_heads, n_kv_heads = self.config.n_heads, self.config.n_kv_heads
        heads = self.qkv(x).unflatten(-1, (-1, self.config.head_dim))  # [B, T, H + 2G, K]
        rotated, values = heads.split((self.n_rotated, n_kv_heads), dim=2)
        if self.config.qk_norm:
            queries, keys = rotated.split((n_heads, n_kv_heads), dim=2)
            rotated = torch.cat((self.q_norm(queries), self.k_norm(keys)), dim=2)
        if angles is not None:
            rotated = rotate(rotated, *angles)
        queries, keys = rotated.split((n_heads, n_kv_heads), dim=2)
        return queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)
