"""The decoder: token ids in, a distribution over the next token out."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture.attention import Attention, causal_mask
from llmlib.architecture.cache import KVCache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.feedforward import FeedForward
from llmlib.architecture.norms import make_norm
from llmlib.architecture.rope import rope_angles, rope_frequencies


class Block(nn.Module):
    r"""One layer: attention between the tokens, then a feed-forward layer on each.

    Pre-norm: $x \leftarrow x + \mathrm{sub}(\mathrm{norm}(x))$.
    Post-norm: $x \leftarrow \mathrm{norm}(x + \mathrm{sub}(x))$.

    Args:
        config: The model's configuration.
        layer: Index of the block, from 0.

    References:
        Vaswani et al. (2017), figure 1 (post-norm); Xiong et al. (2020), On Layer Normalization
        in the Transformer Architecture (pre-norm).
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.is_pre_norm = config.norm_placement == "pre"
        self.attention_norm = make_norm(config)
        self.attention = Attention(config)
        self.feedforward_norm = make_norm(config)
        self.feedforward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        *,
        angles: tuple[Float[Tensor, "#B T half"], Float[Tensor, "#B T half"]] | None = None,
        mask: Bool[Tensor, "#B 1 T S"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Apply the block.

        Args:
            x: Residual stream.
            angles: Cosine and sine for RoPE, or None.
            mask: True where attention is allowed; see `Attention.forward`.
            cache: Keys and values of earlier tokens; extended in place.

        Returns:
            The residual stream after the block.
        """
        if self.is_pre_norm:
            attended = self.attention(
                self.attention_norm(x), angles=angles, mask=mask, cache=cache, layer=self.layer
            )
            x = x + self.dropout(attended)
            return x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        attended = self.attention(x, angles=angles, mask=mask, cache=cache, layer=self.layer)
        x = self.attention_norm(x + self.dropout(attended))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class Transformer(nn.Module):
    """A decoder-only language model, every design choice taken from its configuration.

    Args:
        config: The model's configuration.

    Example:
        >>> config = ModelConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=2, max_seq_len=8)
        >>> Transformer(config)(torch.tensor([[3, 1, 4]])).shape
        torch.Size([1, 3, 11])

    References:
        Radford et al. (2019), Language Models are Unsupervised Multitask Learners (the causal
        decoder); Touvron et al. (2023), LLaMA, section 2.2 (the default choices).
    """

    frequencies: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        if config.position == "learned":
            self.position_embedding = nn.Embedding(config.max_seq_len, config.d_model)
        if config.position == "rope":
            frequencies = rope_frequencies(config.head_dim, config.rope_theta)
            self.register_buffer("frequencies", frequencies, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        # A post-norm block already ends with a norm.
        self.norm = make_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.head = (
            None
            if config.tie_embeddings
            else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: normal, smaller where they feed the residual stream, biases zero."""
        std = self.config.init_std
        into_residual = std / math.sqrt(2 * self.config.n_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.constant_(parameter, 1.0 if name.endswith("norm.weight") else 0.0)
            else:
                is_output = name.endswith((".attention.out.weight", ".feedforward.out.weight"))
                nn.init.normal_(parameter, std=into_residual if is_output else std)

    @property
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        """Parameters that are several matrices on top of each other, with the rows of each.

        Keyed by the end of the parameter's name. Optimizers that treat a matrix as a whole need
        to know where one ends.
        """
        config = self.config
        shared = config.n_kv_heads * config.head_dim
        qkv = (config.n_heads * config.head_dim, shared, shared)
        rows: dict[str, tuple[int, ...]] = {"attention.qkv.weight": qkv}
        if config.is_gated:
            rows["feedforward.up.weight"] = (config.d_ff, config.d_ff)
        return rows

    @property
    def output_weight(self) -> Float[Tensor, "V D"]:
        """The matrix that turns the last hidden state into logits."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        cache: KVCache | None = None,
        left_padding: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Return the logits of the token that follows each prefix.

        Args:
            tokens: Token ids.
            cache: What the model has read before; extended in place by these tokens.
            left_padding: Number of padding tokens at the start of each row, so that prompts of
                unequal length end together. With a cache, give it to `new_cache` instead.

        Returns:
            Unnormalized log-probabilities.

        Raises:
            ValueError: When the sequence is longer than `max_seq_len`, or padding is given twice.
        """
        return self.unembed(self.hidden(tokens, cache=cache, left_padding=left_padding))

    def hidden(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        cache: KVCache | None = None,
        left_padding: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the last hidden states, normalized: the logits before the output matrix.

        Args:
            tokens: Token ids.
            cache: See `forward`.
            left_padding: See `forward`.

        Returns:
            One vector a token.

        Raises:
            ValueError: See `forward`.
        """
        if cache is not None:
            if left_padding is not None:
                raise ValueError("give left_padding to new_cache: the cache keeps it")
            left_padding = cache.left_padding
        start = 0 if cache is None else cache.length
        positions = self._positions(tokens, start, left_padding)
        x = self.embedding(tokens)  # [B, T, D]
        if self.config.position == "learned":
            x = x + self.position_embedding(positions)
        angles = (
            rope_angles(positions, self.frequencies) if self.config.position == "rope" else None
        )
        mask = _mask(tokens.shape[1], start, left_padding, tokens.device)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, angles=angles, mask=mask, cache=cache)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return self.norm(x)

    def unembed(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """Turn hidden states into logits.

        Args:
            hidden: Output of `hidden`, or any of its rows.

        Returns:
            Unnormalized log-probabilities.
        """
        return F.linear(hidden, self.output_weight)

    def new_cache(
        self,
        batch_size: int,
        max_len: int,
        *,
        left_padding: Int[Tensor, " B"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> KVCache:
        """Return an empty key/value cache that fits this model.

        Args:
            batch_size: Number of rows, B.
            max_len: Number of tokens there is room for, prompt and continuation together.
            left_padding: Number of padding tokens at the start of each row.
            dtype: Type of the keys and values. Default: that of the weights.

        Returns:
            The cache.
        """
        weight = self.embedding.weight
        return KVCache.allocate(
            self.config,
            batch_size,
            max_len,
            left_padding=left_padding,
            device=weight.device,
            dtype=dtype or weight.dtype,
        )

    def _positions(
        self, tokens: Tensor, start: int, left_padding: Tensor | None
    ) -> Int[Tensor, "#B T"]:
        end = start + tokens.shape[1]
        if end > self.config.max_seq_len:
            raise ValueError(
                f"{end} tokens are more than max_seq_len={self.config.max_seq_len}: shorten the "
                "text or build the model with a larger max_seq_len"
            )
        positions = torch.arange(start, end, device=tokens.device).unsqueeze(0)
        if left_padding is not None:
            positions = (positions - left_padding.unsqueeze(1)).clamp_min(0)
        return positions


def _mask(
    n_tokens: int, start: int, left_padding: Tensor | None, device: torch.device
) -> Bool[Tensor, "#B 1 T S"] | None:
    """Return the attention mask, or None where the fused kernel needs none.

    Padding tokens attend to themselves alone: a row without any key has no softmax.
    """
    n_keys = start + n_tokens
    if left_padding is None:
        if start == 0 or n_tokens == 1:
            return None
        return causal_mask(n_tokens, n_keys, device)[None, None]
    keys = torch.arange(n_keys, device=device)
    queries = keys[start:, None]
    allowed = (keys <= queries) & (keys >= left_padding[:, None, None])  # [B, T, S]
    return (allowed | (keys == queries)).unsqueeze(1)
