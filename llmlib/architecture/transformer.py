"""The decoder: token ids in, a distribution over the next token out."""

from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture.block import Block
from llmlib.architecture.caches.base import AttentionCache, Cache, row_positions
from llmlib.architecture.caches.kv_cache import KVCache
from llmlib.architecture.caches.state_cache import StateCache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import (
    PLAIN,
    Angles,
    Context,
    Layout,
    allowed_pairs,
    document_positions,
    text_lengths,
)
from llmlib.architecture.exact import wide_type
from llmlib.architecture.experts.mixture_of_experts import MixtureOfExperts
from llmlib.architecture.norms import make_norm
from llmlib.architecture.positions.alibi import alibi_bias, alibi_slopes
from llmlib.architecture.positions.relative import T5Bias
from llmlib.architecture.positions.rope import rope_angles
from llmlib.architecture.positions.rope_scaling import rope_table
from llmlib.architecture.positions.sinusoidal import sinusoidal_positions


class Transformer(nn.Module):
    """A decoder-only language model, every design choice taken from its configuration.

    Example:
        >>> config = ModelConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=2, max_seq_len=8)
        >>> Transformer(config)(torch.tensor([[3, 1, 4]])).shape
        torch.Size([1, 3, 11])

    References:
        Radford et al. (2019), Language Models are Unsupervised Multitask Learners (the causal
        decoder); Touvron et al. (2023), LLaMA, section 2.2 (the default choices).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        if config.embedding_norm:
            self.embedding_norm = make_norm(config)
        match config.position:
            case "learned":
                self.position_embedding = nn.Embedding(config.max_seq_len, config.d_model)
            case "t5":
                self.position_bias = T5Bias(
                    config.n_heads,
                    config.relative_buckets,
                    config.relative_max_distance,
                    bidirectional=config.mask == "bidirectional",
                )
            case _:
                pass
        self.dropout = nn.Dropout(config.dropout)
        self.layer_kinds = {config.is_local(layer) for layer in range(config.n_layers)}
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = make_norm(config) if config.has_final_norm else nn.Identity()
        self.head = (
            None
            if config.tie_embeddings
            else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, the embeddings and the output matrix normal; see `Block`'s."""
        if self.embedding.weight.is_meta:
            return  # there is nothing to draw into, and torch takes a millisecond to find out
        for name, parameter in self.named_parameters():
            if name.startswith("blocks."):
                continue
            if parameter.dim() == 1:
                nn.init.constant_(parameter, 1.0 if name.endswith("norm.weight") else 0.0)
            else:
                nn.init.normal_(parameter, std=self.config.init_std)
        for block in self.blocks:
            cast("Block", block).reset_parameters()

    @property
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        """Parameters that are several matrices on top of each other, with the rows of each.

        Optimizers that treat a matrix as a whole need to know where one ends.
        """
        return {
            f"{prefix}.{name}": rows
            for prefix, module in self.named_modules()
            if module is not self
            for name, rows in getattr(module, "stacked_rows", {}).items()
        }

    @property
    def frequencies(self) -> Float[Tensor, " half"]:
        """RoPE's radians a position in a text of `max_seq_len` tokens, in float32 at least."""
        return self._rope_table(self.config.max_seq_len)[0]

    @property
    def slopes(self) -> Float[Tensor, " H"]:
        """ALiBi's, in float32."""
        return alibi_slopes(self.config.n_heads, self.embedding.weight.device)

    def _rope_table(self, lengths: int | Tensor) -> tuple[Tensor, float]:
        weight = self.embedding.weight
        frequencies, scale = rope_table(self.config, lengths, weight.device)
        return frequencies.to(wide_type(weight.dtype)), scale

    @property
    def output_weight(self) -> Float[Tensor, "V D"]:
        """The matrix that turns the last hidden state into logits."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        layout: Layout = PLAIN,
        cache: Cache | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Return the logits of the token that follows each prefix.

        Args:
            layout: How texts lie in the rows.
            cache: What the model has read before; extended in place by these tokens.

        Raises:
            ValueError: When the sequence is longer than `max_seq_len`, or the layout does not fit
                the configuration or the cache.
        """
        return self.unembed(self.hidden(tokens, layout=layout, cache=cache))

    def hidden(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        layout: Layout = PLAIN,
        cache: Cache | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the last hidden states, normalized: what `forward` makes its logits of."""
        context = self.context(tokens, layout=layout, cache=cache)
        x = self.embed(tokens, context)
        for block in self.blocks:
            x = block(x, context, cache)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return self.norm(x)

    def embed(self, tokens: Int[Tensor, "B T"], context: Context) -> Float[Tensor, "B T D"]:
        """Return what the first block reads: embeddings, with absolute positions if any."""
        x = self.embedding(tokens)  # [B, T, D]
        if self.config.embedding_scale != 1:
            x = x * self.config.embedding_scale
        if self.config.position == "learned":
            x = x + self.position_embedding(context.queries)
        elif self.config.position == "sinusoidal":
            x = x + sinusoidal_positions(context.queries, self.config.d_model).to(x.dtype)
        if self.config.embedding_norm:
            x = self.embedding_norm(x)
        return self.dropout(x)

    def unembed(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """Turn hidden states, or any of their rows, into logits."""
        return F.linear(hidden, self.output_weight)

    def balance_loss(self) -> Float[Tensor, ""] | None:
        """Return the load-balancing loss of the last training pass: its weight times the mean.

        None without experts or outside training.
        """
        losses = [
            module.balance_loss
            for module in self.modules()
            if isinstance(module, MixtureOfExperts) and module.balance_loss is not None
        ]
        return self.config.balance_weight * torch.stack(losses).mean() if losses else None

    def new_cache(
        self,
        batch_size: int,
        max_len: int,
        *,
        left_padding: Int[Tensor, " B"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> KVCache | StateCache:
        """Return an empty cache that fits this model: keys and values, or states.

        Args:
            max_len: Number of tokens there is room for, prompt and continuation together.
            left_padding: Number of padding tokens at the start of each row.
            dtype: Type of the keys and values. Default: that of the weights.

        Raises:
            ValueError: When a model without attention is given padding.
        """
        if not self.config.is_attention:
            Layout(left_padding).within(self.config, None)
            return StateCache.allocate(self.config.n_layers)
        weight = self.embedding.weight
        return KVCache.allocate(
            self.config,
            batch_size,
            max_len,
            left_padding=left_padding,
            device=weight.device,
            dtype=dtype or weight.dtype,
        )

    def context(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        layout: Layout = PLAIN,
        cache: Cache | None = None,
    ) -> Context:
        """Return the positions and masks of a forward pass, to run the blocks one by one.

        Raises:
            ValueError: See `forward`.
        """
        layout = layout.within(self.config, cache)
        n_new, device = tokens.shape[1], tokens.device
        places = None  # of the new tokens among the keys: at the end
        if layout.documents is not None:
            keys = document_positions(layout.documents)
        elif isinstance(cache, AttentionCache):
            keys = cache.key_positions(n_new, device)
            places = cache.new_places(n_new)
        else:
            start = 0 if cache is None else cache.length
            keys = row_positions(start + n_new, layout.left_padding, device)
        n_keys = keys.shape[1]
        if n_keys > self.config.max_seq_len:
            raise ValueError(
                f"{n_keys} tokens are more than max_seq_len={self.config.max_seq_len}: shorten the "
                "text or build the model with a larger max_seq_len"
            )
        queries = keys[:, n_keys - n_new :] if places is None else keys[:, places]
        if layout.left_padding is not None:
            queries = queries.clamp_min(0)
        context = Context(queries, keys, is_causal=self.config.mask != "bidirectional")
        return replace(
            context,
            **self._rotations(context, layout.documents, cache),
            mask=self._mask(context, layout, places, is_local=False),
            local=self._mask(context, layout, places, is_local=True),
        )

    def _rotations(
        self, context: Context, documents: Tensor | None, cache: Cache | None
    ) -> dict[str, Angles | None]:
        if self.config.position != "rope":
            return {}
        is_dynamic = self.config.rope_scaling == "dynamic"
        lengths = text_lengths(context.keys, documents) if is_dynamic else 0
        frequencies, scale = self._rope_table(lengths)

        def angles(positions: Tensor) -> Angles:
            cos, sin = rope_angles(positions, frequencies)
            return (cos * scale, sin * scale) if scale != 1 else (cos, sin)

        found: dict[str, Angles | None] = {"angles": angles(context.queries)}
        truncates = self.config.rope_scaling == "rerope"
        if truncates or (isinstance(cache, AttentionCache) and not cache.rotated):
            found["key_angles"] = angles(context.keys.clamp_min(0))
        if truncates:
            edge = torch.full((1, 1), self.config.rope_window, device=context.queries.device)
            found["window_angles"] = angles(edge)
        return found

    def _mask(
        self,
        context: Context,
        layout: Layout,
        places: Tensor | None,
        *,
        is_local: bool,
    ) -> Tensor | None:
        """Return the mask of the full or the sparse layers, None where the kernel needs none."""
        config = self.config
        if not config.is_attention or is_local not in self.layer_kinds:
            return None
        n_new, n_keys = context.queries.shape[1], context.keys.shape[1]
        sees_all = n_new == 1 or config.mask == "bidirectional"
        is_plain = (
            not is_local and layout.is_plain and places is None and (sees_all or n_new == n_keys)
        )
        if is_plain and config.position not in ("t5", "alibi", "relative"):
            return None
        allowed = allowed_pairs(
            context.queries, context.keys, config, layout=layout, is_local=is_local, places=places
        ).unsqueeze(1)  # [#B, 1, T, S]
        if config.position == "t5":
            bias = self.position_bias(context.queries, context.keys)
        elif config.position == "alibi":
            bias = alibi_bias(self.slopes, context.queries, context.keys)
        else:
            return allowed
        return bias.masked_fill(~allowed, -torch.inf)
