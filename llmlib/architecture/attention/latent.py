"""Multi-head latent attention: the cache keeps one narrow vector a token, shared by all heads."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture.attention.blocked import causal_attention
from llmlib.architecture.attention.multihead import causal_mask
from llmlib.architecture.caches.base import AttentionCache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Angles, Context
from llmlib.architecture.kernels.fused import rotate
from llmlib.architecture.norms import RMSNorm


class LatentAttention(nn.Module):
    r"""Attention whose keys and values are rebuilt from a latent vector $c_t$ of each token.

    With C the latent's width, R the rotated width and h a head:

    $c_t = \mathrm{n}(W^{DKV} x_t)$, $k_t^R = \mathrm{RoPE}(W^{KR} x_t)$,
    $k_{t,h} = [W_h^{UK} c_t;\, k_t^R]$, $v_{t,h} = W_h^{UV} c_t$,
    $q_{t,h} = [W_h^{UQ} c_t^Q;\, \mathrm{RoPE}(W_h^{QR} c_t^Q)]$

    where $c_t^Q$ is a normalized latent of the queries, or $x_t$ itself where `query_latent_dim`
    is 0. The cache holds $c_t$ and $k_t^R$: C + R numbers a token and layer, for any number of
    heads. RoPE cannot act on the keys made from $c_t$: the rotation would stand between $W^{UK}$
    and the query, and neither could be moved to the other side. Hence the key part of its own.

    Two ways give the same result. To train and to read a long prompt, keys and values are built:
    attention as usual. To decode, $q^\top W^{UK} c = (W^{UK\top} q)^\top c$ carries the query into
    the latent space instead, where one key and value serve all heads.

    The configuration's `head_dim` is the width of a head without its rotated part.

    References:
        DeepSeek-AI (2024), DeepSeek-V2, section 2.1 and appendix C. The norms on the latents are
        section 3.1.2's. The two down-projections from x are one matrix here, as are keys' and
        values' up-projections.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.qk_norm:
            raise ValueError("latent attention normalizes its latents: set qk_norm=False")
        if config.rope_scaling == "rerope":
            raise ValueError("latent attention has no rope_scaling='rerope': choose another")
        self.config = config
        heads, width = config.n_heads, config.head_dim
        from_stream = bool(config.qkv_bias)
        self.down = nn.Linear(
            config.d_model, config.latent_dim + config.rope_head_dim, bias=from_stream
        )
        self.latent_norm = RMSNorm(config.latent_dim, config.norm_eps)
        self.up = nn.Linear(config.latent_dim, 2 * heads * width, bias=False)
        query_width = heads * (width + config.rope_head_dim)
        if config.query_latent_dim:
            self.query_down = nn.Linear(config.d_model, config.query_latent_dim, bias=from_stream)
            self.query_norm = RMSNorm(config.query_latent_dim, config.norm_eps)
            self.query = nn.Linear(config.query_latent_dim, query_width, bias=False)
        else:
            self.query = nn.Linear(config.d_model, query_width, bias=from_stream)
        self.out = nn.Linear(heads * width, config.d_model, bias=config.bias)
        # The kernels divide by the root of the width they see, which differs between the forms.
        self.scale = config.score_scale

    @property
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        """Parameters that are several matrices on top of each other, with the rows of each."""
        config = self.config
        heads = config.n_heads * config.head_dim
        rows = {"up.weight": (heads, heads)}
        if config.rope_head_dim:
            rows["down.weight"] = (config.latent_dim, config.rope_head_dim)
            rows["query.weight"] = (heads, config.n_heads * config.rope_head_dim)
        return rows

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Context,
        cache: AttentionCache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "B T D"]:
        """Mix information between the tokens of each row; a cache keeps latents, rotated keys."""
        is_late = cache is not None and not cache.rotated
        queries, turned = self.project_queries(x, context.angles)
        latents, keys = self.compress(x, None if is_late else context.angles)
        if cache is not None:
            all_keys, all_latents = cache.extend(layer, keys.unsqueeze(1), latents.unsqueeze(1))
            keys, latents = all_keys.squeeze(1), all_latents.squeeze(1)  # [B, S, R], [B, S, C]
        if is_late and context.key_angles is not None:
            keys = rotate(keys.unsqueeze(2), *context.key_angles).squeeze(2)
        mask = context.layer_mask(is_local=self.config.is_local(layer))
        is_causal = mask is None and context.is_causal and keys.shape[1] == x.shape[1]
        mix = self.mix_absorbed if self._absorbs(x.shape[1], cache) else self.mix_expanded
        mixed = mix(queries, turned, latents, keys, mask, is_causal=is_causal)
        return self.out(mixed.transpose(1, 2).flatten(2))  # [B, T, D]

    def _absorbs(self, n_queries: int, cache: AttentionCache | None) -> bool:
        """Choose the form with fewer products, but in training the one with fewer activations.

        Per head and key, building costs 2 C K products and the absorbed scores and mix cost
        2 T (C - K) more than the usual ones.
        """
        latent, width = self.config.latent_dim, self.config.head_dim
        return cache is not None and n_queries * (latent - width) < latent * width

    def project_queries(
        self,
        x: Float[Tensor, "B T D"],
        angles: Angles | None,
    ) -> tuple[Float[Tensor, "B H T K"], Float[Tensor, "B H T R"]]:
        """Return the queries' part for the keys built from latents, and their rotated part."""
        config = self.config
        source = self.query_norm(self.query_down(x)) if config.query_latent_dim else x
        content, turned = self.query(source).split(
            (config.n_heads * config.head_dim, config.n_heads * config.rope_head_dim), dim=-1
        )
        content, turned = (
            part.unflatten(-1, (config.n_heads, -1)) if part.shape[-1] else part.unsqueeze(2)
            for part in (content, turned)
        )  # [B, T, H, K], [B, T, H, R]
        if turned.shape[-1] == 0:
            turned = turned.expand(-1, -1, config.n_heads, -1)
        elif angles is not None:
            turned = rotate(turned, *angles)
        return content.transpose(1, 2), turned.transpose(1, 2)

    def compress(
        self,
        x: Float[Tensor, "B T D"],
        angles: Angles | None,
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B T R"]]:
        """Return a normalized latent of each token, and the rotated key that all heads share."""
        config = self.config
        latents, keys = self.down(x).split((config.latent_dim, config.rope_head_dim), dim=-1)
        if angles is not None and config.rope_head_dim:
            keys = rotate(keys.unsqueeze(2), *angles).squeeze(2)
        return self.latent_norm(latents), keys

    def mix_expanded(
        self,
        queries: Float[Tensor, "B H T K"],
        turned: Float[Tensor, "B H T R"],
        latents: Float[Tensor, "B S C"],
        keys: Float[Tensor, "B S R"],
        mask: Tensor | None,
        *,
        is_causal: bool,
    ) -> Float[Tensor, "B H T K"]:
        """Build every head's keys and values, then attend as usual.

        Args:
            queries: The queries' part for the built keys.
            turned: Their rotated part.
            latents: Latents of all tokens.
            keys: Rotated keys of all tokens.
            mask: True where a query may see a key, or a number to add to the score.
            is_causal: Whether, without a mask, a token sees only itself and what came before.
        """
        heads, rotated = self.config.n_heads, self.config.rope_head_dim
        built = self.up(latents).unflatten(-1, (2 * heads, -1)).transpose(1, 2)  # [B, 2H, S, K]
        content, values = built.chunk(2, dim=1)
        shared = keys.unsqueeze(1).expand(-1, heads, -1, -1)  # [B, H, S, R]
        full_queries = torch.cat((queries, turned), dim=-1)  # [B, H, T, K + R]
        # The fused kernels want keys and values of one width.
        mixed = self._attend(
            full_queries,
            torch.cat((content, shared), dim=-1),
            F.pad(values, (0, rotated)),
            mask,
            is_causal=is_causal,
        )
        return mixed[..., : self.config.head_dim]

    def mix_absorbed(
        self,
        queries: Float[Tensor, "B H T K"],
        turned: Float[Tensor, "B H T R"],
        latents: Float[Tensor, "B S C"],
        keys: Float[Tensor, "B S R"],
        mask: Tensor | None,
        *,
        is_causal: bool,
    ) -> Float[Tensor, "B H T K"]:
        """Do the same in the latent space: every head queries the same narrow keys and values."""
        heads, n_queries = self.config.n_heads, queries.shape[2]
        up = self.up.weight.unflatten(0, (2, heads, -1))  # [2, H, K, C]
        absorbed = torch.cat((queries @ up[0], turned), dim=-1)  # [B, H, T, C + R]
        shared = torch.cat((latents, keys), dim=-1).unsqueeze(1)  # [B, 1, S, C + R]
        if is_causal and n_queries > 1:
            mask = causal_mask(n_queries, device=queries.device)[None, None]
        if mask is not None:
            mask = mask.expand(-1, heads, -1, -1).flatten(1, 2).unsqueeze(1)
        # All heads' queries are one head's: the kernels would repeat the keys for each head.
        stacked = absorbed.flatten(1, 2).unsqueeze(1)  # [B, 1, H T, C + R]
        mixed = self._attend(stacked, shared, shared, mask, is_causal=False).squeeze(1)
        mixed = mixed[..., : self.config.latent_dim].unflatten(1, (heads, n_queries))
        return mixed @ up[1].mT  # [B, H, T, K]

    def _attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        *,
        is_causal: bool,
    ) -> Tensor:
        queries = queries * (self.scale * math.sqrt(queries.shape[-1]))
        dropout = self.config.dropout if self.training else 0.0
        if is_causal:
            return causal_attention(queries, keys, values, dropout)
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.to(queries.dtype)
        return F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, dropout_p=dropout
        )
