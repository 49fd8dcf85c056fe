"""The encoder-decoder: one stack reads a text whole, another writes while it looks at the first."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import override

from llmlib.architecture.attention.cross_attention import CrossAttention, Memory
from llmlib.architecture.block import Block
from llmlib.architecture.caches.base import Cache
from llmlib.architecture.caches.kv_cache import KVCache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context, Layout
from llmlib.architecture.counts import forward_flops
from llmlib.architecture.norms import make_norm
from llmlib.architecture.transformer import Transformer


class DecoderBlock(Block):
    """A decoder layer that also looks at the encoded text: between mixer and feed-forward layer.

    The norms are placed before or after the sublayers.

    References:
        Vaswani et al. (2017), section 3.1 and figure 1, right half.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.cross_norm = make_norm(config)
        self.cross = CrossAttention(config)

    @override
    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Context,
        cache: Cache | None = None,
        memory: Memory | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Apply the block; context and cache are of the decoder's tokens."""
        assert memory is not None
        keys, values = memory.keys[self.layer], memory.values[self.layer]
        if self.config.norm_placement == "pre":
            x = x + self.dropout(self.mixer(self.mixer_norm(x), context, cache, self.layer))
            x = x + self.dropout(self.cross(self.cross_norm(x), keys, values, memory.mask))
            return x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        x = self.mixer_norm(x + self.dropout(self.mixer(x, context, cache, self.layer)))
        x = self.cross_norm(x + self.dropout(self.cross(x, keys, values, memory.mask)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))

    @override
    def reset_parameters(self) -> None:
        """Draw new weights as in `Block`; cross-attention's output too feeds the residual."""
        super().reset_parameters()
        std = self.config.init_std / (3 * self.config.n_layers) ** 0.5
        for module in (self.mixer, self.cross, self.feedforward):
            for name, parameter in module.named_parameters():
                if name.endswith("out.weight") and parameter.dim() == 2:
                    nn.init.normal_(parameter, std=std)


class EncoderDecoder(nn.Module):
    """A model with two stacks: a bidirectional encoder, and a causal decoder that looks at it.

    Both read with the same embedding matrix. All other choices are the configuration's; it
    describes the decoder, and the encoder differs from it by its mask and number of layers.

    Args:
        config: The decoder's configuration: attention with a causal mask, pre-norm or post-norm.
        n_encoder_layers: Blocks of the encoder. Default: as many as the decoder's.
        logit_scale: Factor of the last hidden state. The first T5, whose output matrix is its
            embedding matrix, takes `d_model ** -0.5`; others 1.

    Raises:
        ValueError: When the configuration asks for what has no meaning with two stacks.

    Example:
        >>> config = ModelConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=2, max_seq_len=8)
        >>> model = EncoderDecoder(config, n_encoder_layers=3)
        >>> model(torch.tensor([[3, 1, 4, 1]]), torch.tensor([[5, 9]])).shape
        torch.Size([1, 2, 11])

    References:
        Vaswani et al. (2017), section 3.1; Raffel et al. (2020), Exploring the Limits of Transfer
        Learning with a Unified Text-to-Text Transformer, section 2.1.
    """

    def __init__(
        self,
        config: ModelConfig,
        n_encoder_layers: int | None = None,
        *,
        logit_scale: int | float = 1.0,
    ) -> None:
        super().__init__()
        _require_two_stacks(config)
        self.config = config
        self.logit_scale = logit_scale
        self.encoder_config = config.replace(
            mask="bidirectional",
            n_layers=config.n_layers if n_encoder_layers is None else n_encoder_layers,
            tie_embeddings=True,  # an encoder has no output matrix
        )
        self.decoder = Transformer(config)
        self.decoder.blocks = nn.ModuleList(
            DecoderBlock(config, layer) for layer in range(config.n_layers)
        )
        self.encoder = Transformer(self.encoder_config)
        # One embedding matrix, registered once, so that a checkpoint holds it once.
        del self.encoder.embedding
        object.__setattr__(self.encoder, "embedding", self.decoder.embedding)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights for both stacks."""
        self.encoder.reset_parameters()
        self.decoder.reset_parameters()

    @property
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        """Parameters that are several matrices on top of each other, with the rows of each."""
        return {
            f"{name}.{inner}": rows
            for name, stack in (("encoder", self.encoder), ("decoder", self.decoder))
            for inner, rows in stack.stacked_rows.items()
        }

    @property
    def output_weight(self) -> Float[Tensor, "V D"]:
        """The matrix that turns the last hidden state into logits."""
        return self.decoder.output_weight

    @property
    def decoder_blocks(self) -> list[DecoderBlock]:
        """The decoder's layers, which have a cross-attention each."""
        return [block for block in self.decoder.blocks if isinstance(block, DecoderBlock)]

    def encode(
        self, tokens: Int[Tensor, "B S"], lengths: Int[Tensor, " B"] | None = None
    ) -> Memory:
        """Read texts, and make the keys and values that every decoder layer will look at.

        Args:
            tokens: Token ids, padded on the right.
            lengths: Tokens of each row before the padding, at least 1. Default: no padding.

        Raises:
            ValueError: When the text is longer than `max_seq_len`, or a length does not fit.
        """
        n_tokens = tokens.shape[1]
        mask, texts = None, None
        if lengths is not None:
            if int(lengths.min()) < 1 or int(lengths.max()) > n_tokens:
                raise ValueError(f"lengths must lie between 1 and the {n_tokens} tokens of a row")
            is_text = torch.arange(n_tokens, device=tokens.device) < lengths[:, None]  # [B, S]
            mask = is_text[:, None, None]
            texts = (~is_text).long()  # padding is a text of its own: neither sees the other
        encoded = self.encoder.hidden(tokens, layout=Layout(documents=texts))
        pairs = [block.cross.project(encoded) for block in self.decoder_blocks]
        return Memory([keys for keys, _ in pairs], [values for _, values in pairs], mask)

    def decode(
        self, tokens: Int[Tensor, "B T"], memory: Memory, *, cache: KVCache | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return the decoder's last hidden states.

        Args:
            tokens: What has been written so far, behind a start token; with a cache, the tokens
                that it does not hold yet.

        Raises:
            ValueError: When the sequence is longer than `max_seq_len`.
        """
        context = self.decoder.context(tokens, cache=cache)
        x = self.decoder.embed(tokens, context)
        for block in self.decoder_blocks:
            x = block(x, context, cache, memory)
        if cache is not None:
            cache.advance(tokens.shape[1])
        x = self.decoder.norm(x)
        return x if self.logit_scale == 1 else x * self.logit_scale

    def hidden(
        self,
        encoder_tokens: Int[Tensor, "B S"],
        decoder_tokens: Int[Tensor, "B T"],
        encoder_lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the last hidden states of both stacks' pass, one vector a decoder token."""
        return self.decode(decoder_tokens, self.encode(encoder_tokens, encoder_lengths))

    def forward(
        self,
        encoder_tokens: Int[Tensor, "B S"],
        decoder_tokens: Int[Tensor, "B T"],
        encoder_lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Return the logits of the token that follows each beginning of the decoder's text."""
        return self.unembed(self.hidden(encoder_tokens, decoder_tokens, encoder_lengths))

    def unembed(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """Turn hidden states, or any of their rows, into logits."""
        return self.decoder.unembed(hidden)

    def new_cache(self, batch_size: int, max_len: int) -> KVCache:
        """Return an empty cache of the decoder's own keys and values; `Memory` holds the others.

        `max_len` tokens can be decoded, the start token included.
        """
        cache = self.decoder.new_cache(batch_size, max_len)
        assert isinstance(cache, KVCache)
        return cache


def _require_two_stacks(config: ModelConfig) -> None:
    if config.mixer != "attention" or config.mask != "causal" or config.attention != "full":
        raise ValueError(
            "an encoder-decoder takes mixer='attention', attention='full' and mask='causal': the "
            "encoder's mask is made bidirectional by itself"
        )
    if config.norm_placement not in ("pre", "post") or config.parallel:
        raise ValueError(
            f"norm_placement={config.norm_placement!r} with parallel={config.parallel} has no "
            "place for cross-attention: choose 'pre' or 'post' without parallel"
        )


def encoder_decoder_flops(
    config: ModelConfig, n_encoder_layers: int, batch_size: int, n_encoded: int, n_decoded: int
) -> int:
    r"""Count the floating-point operations of an encoder-decoder's forward pass.

    Both stacks as `counts.forward_flops` counts them, the encoder without an output matrix, and
    for each decoder layer the cross-attention: its projections and $4 H K T S$.

    Args:
        n_encoded: Tokens a row that the encoder reads, S.
        n_decoded: Tokens a row that the decoder reads, T.

    Returns:
        Multiplications and additions; a training step has three times as many.

    Example:
        >>> config = ModelConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=2, max_seq_len=8)
        >>> encoder_decoder_flops(config, 2, 1, 8, 4)
        236928
    """
    encoder = config.replace(mask="bidirectional", n_layers=n_encoder_layers)
    unused = 2 * config.vocab_size * config.d_model * n_encoded * batch_size
    width, shared = (n * config.head_dim for n in (config.n_heads, config.n_kv_heads))
    queries_and_out = 2 * n_decoded * 2 * config.d_model * width
    keys_and_values = 2 * n_encoded * 2 * config.d_model * shared
    cross = queries_and_out + keys_and_values + 4 * width * n_decoded * n_encoded
    return (
        forward_flops(encoder, batch_size, n_encoded)
        - unused
        + forward_flops(config, batch_size, n_decoded)
        + batch_size * config.n_layers * cross
    )
