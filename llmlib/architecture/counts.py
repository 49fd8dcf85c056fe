"""Parameters, floating-point operations and memory of a configuration, without building it."""

import math
from dataclasses import dataclass

import torch

from llmlib.architecture.block import make_channel_mixer, make_mixer
from llmlib.architecture.config import ModelConfig


@dataclass(frozen=True)
class ParameterCounts:
    """Where a model's parameters are."""

    embedding: int
    """Token embeddings, and learned positions."""
    attention: int
    """All layers' mixers of tokens: attention's projections, or what takes their place."""
    feedforward: int
    """All layers' feed-forward matrices, those of all experts included."""
    norms: int
    """All normalization weights and biases."""
    head: int
    """The output matrix; 0 when tied to the embeddings."""
    inactive: int = 0
    """Parameters of experts that a token does not visit."""

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + self.attention + self.feedforward + self.norms + self.head

    @property
    def active(self) -> int:
        """The parameters that work on one token: all, without the experts it does not visit."""
        return self.total - self.inactive

    @property
    def non_embedding(self) -> int:
        """All parameters but embeddings and output matrix, the N of Kaplan et al. (2020)."""
        return self.attention + self.feedforward + self.norms


def parameters(config: ModelConfig) -> ParameterCounts:
    """Count a configuration's parameters, exactly.

    Example:
        >>> config = ModelConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=2, max_seq_len=8)
        >>> counts = parameters(config)
        >>> counts.embedding, counts.total
        (176, 8448)
    """
    d_model, layers = config.d_model, config.n_layers
    norm = d_model * (2 if config.norm == "layer" and config.norm_bias else 1)
    per_layer = {"pre": 2, "post": 2, "deepnorm": 2, "sandwich": 4}[config.norm_placement]
    if config.parallel or config.channel_mixer == "none":
        per_layer //= 2
    n_norms = per_layer * layers + config.has_final_norm + config.embedding_norm
    # The norms of query and key heads are part of the built mixer.
    qk_norms = 2 * config.head_dim * layers if config.qk_norm else 0
    expert = _feedforward_parameters(config.replace(bias=False))
    tables = config.max_seq_len * d_model if config.position == "learned" else 0
    if config.position == "t5":
        tables = config.relative_buckets * config.n_heads
    return ParameterCounts(
        embedding=config.vocab_size * d_model + tables,
        attention=layers * _mixer_parameters(config),
        feedforward=layers * _channel_mixer_parameters(config),
        norms=n_norms * norm + qk_norms,
        head=0 if config.tie_embeddings else config.vocab_size * d_model,
        inactive=layers * max(0, config.n_experts - config.experts_per_token) * expert,
    )


def _mixer_parameters(config: ModelConfig) -> int:
    """Count attention by its formula, and the other mixers by building one without memory."""
    if config.mixer != "attention":
        with torch.device("meta"):
            return sum(p.numel() for p in make_mixer(config, 0).parameters())
    qkv_width = (config.n_heads + 2 * config.n_kv_heads) * config.head_dim
    mixed_width = config.n_heads * config.head_dim
    count = config.d_model * qkv_width + mixed_width * config.d_model
    count += qkv_width if config.qkv_bias else 0
    count += config.d_model if config.bias else 0
    if config.position == "relative":  # one more projection, and a bias a head for what and where
        count += config.d_model * mixed_width + 2 * mixed_width
    return count


def _feedforward_parameters(config: ModelConfig, n_wide: int = 1) -> int:
    """Count one feed-forward layer of `n_wide` times the width F."""
    d_ff = n_wide * config.d_ff
    up_width = (2 if config.is_gated else 1) * d_ff
    biases = up_width + config.d_model if config.bias else 0
    return config.d_model * up_width + d_ff * config.d_model + biases


def _channel_mixer_parameters(config: ModelConfig) -> int:
    if config.channel_mixer == "none":
        return 0
    if config.channel_mixer == "rwkv":
        with torch.device("meta"):
            return sum(p.numel() for p in make_channel_mixer(config, 0).parameters())
    if not config.n_experts:
        return _feedforward_parameters(config)
    experts = config.n_experts * _feedforward_parameters(config.replace(bias=False))
    shared = config.n_shared_experts
    shared_count = _feedforward_parameters(config.replace(bias=False), shared) if shared else 0
    return experts + shared_count + config.n_experts * config.d_model


def forward_flops(
    config: ModelConfig, batch_size: int, seq_len: int, *, causal: bool = False
) -> int:
    r"""Count the floating-point operations of a forward pass.

    A product of `m x k` and `k x n` matrices counts `2 m k n`; additions, norms, activations and
    softmax, a few percent of the work, are not counted, as in torch's counter.
    Per token: $2 N_\mathrm{matmul}$ for the parameters that work on it, and for attention
    $4 L H K S$ with S keys a query, or $(S + 1) / 2$ on average when `causal` counts only the keys
    that a query may see. The mixers without attention count their recurrence or convolution
    instead: see `mixing_flops`.

    Args:
        seq_len: Tokens a row, T.
        causal: Count only unmasked scores. The default counts all T^2, as torch's counter does
            wherever it knows the kernel.

    Returns:
        Multiplications and additions.

    References:
        Kaplan et al. (2020), Scaling Laws for Neural Language Models, section 2.1 and table 1;
        Hoffmann et al. (2022), appendix F.
    """
    plain = config.replace(bias=False, qkv_bias=False, qk_norm=False)
    counts = parameters(plain)
    matrices = counts.attention + counts.feedforward - counts.inactive
    matrices += config.vocab_size * config.d_model
    once = 0
    if config.position == "relative":
        heads = config.n_heads * config.head_dim
        matrices -= config.n_layers * (config.d_model + 2) * heads  # its projection and two biases
        once = config.n_layers * 2 * config.d_model * heads * (2 * seq_len - 1)  # of each distance
    mixing = config.n_layers * mixing_flops(config, seq_len, causal=causal)
    return batch_size * (2 * matrices * seq_len + mixing) + once


def mixing_flops(config: ModelConfig, seq_len: int, *, causal: bool = False) -> int:
    r"""Count the operations by which one layer carries information between a row's tokens.

    - attention: $4 H K T^2$ for scores and mix; Transformer-XL positions $2 H K T (2 T - 1)$
      besides, for each query and distance; latent attention $2 H T^2 (2 K + R)$ with R the
      rotated width
    - S4, H3, Hyena: three FFTs of length 2T a channel, $5 n \log_2 n$ operations each; H3 and
      Hyena have two convolutions
    - Mamba: $9$ operations a state, channel and token; RWKV about 16 a channel and token
    - RetNet: as attention in its parallel form

    Returns:
        Operations for one row of T tokens; `causal` counts only the pairs that the mask allows.

    References:
        Gu and Dao (2023), Mamba, section 3.3.2; Poli et al. (2023), Hyena, section 3.4; Cooley
        and Tukey (1965) for the FFT.
    """
    pairs = seq_len * (seq_len + 1) // 2 if causal else seq_len * seq_len
    heads, width = config.n_heads, config.head_dim
    fft = 3 * 5 * 2 * seq_len * math.ceil(math.log2(2 * seq_len)) * config.d_model
    match config.mixer:
        case "attention":
            distances = 2 * seq_len - 1 if config.position == "relative" else 0
            return 4 * heads * width * pairs + 2 * heads * width * seq_len * distances
        case "latent":
            return 2 * heads * (2 * width + config.rope_head_dim) * pairs
        case "retnet":
            return 4 * heads * width * pairs
        case "s4":
            return fft
        case "h3" | "hyena":
            return 2 * fft
        case "mamba":
            return 9 * config.expand * config.d_model * config.state_dim * seq_len
        case "rwkv":
            return 16 * config.d_model * seq_len


def decoder_training_flops(
    config: ModelConfig, batch_size: int, seq_len: int, *, causal: bool = False
) -> int:
    """Count the operations of a forward and backward pass: three times the forward pass.

    Each product Y = X W has two more in the backward pass, for the gradients of X and of W. The
    optimizer's own operations are not counted.
    """
    return 3 * forward_flops(config, batch_size, seq_len, causal=causal)


def training_state_bytes(n_parameters: int, *, mixed: bool = False) -> int:
    """Return the bytes that weights, gradients and AdamW's two moments take.

    In float32 all four take 4 bytes a parameter: 16. In mixed precision with bfloat16 or float16
    weights and gradients and float32 master weights and moments: 2 + 2 + 4 + 4 + 4, again 16.
    Automatic mixed precision keeps float32 weights and gradients and casts the weights for each
    product: 16 and, while the step runs, 2 more.

    Args:
        mixed: Whether `torch.autocast` casts the weights.

    Example:
        >>> training_state_bytes(1_000_000)
        16000000

    References:
        Rajbhandari et al. (2020), ZeRO, section 3.1.
    """
    return n_parameters * (18 if mixed else 16)


def activation_bytes(
    config: ModelConfig, batch_size: int, seq_len: int, *, bytes_per_number: int = 4
) -> int:
    """Estimate the bytes that a forward pass keeps for the backward pass, without checkpointing.

    Counts what this decoder's pre-norm block saves with the fused attention kernel: the two norms'
    inputs and outputs, the rotated queries and keys, the values, the mixed heads and their
    log-sum-exp, and the feed-forward layer's wide inputs and outputs. The loss of
    `llmlib.training` keeps the last hidden states' gradient and no logits.

    Args:
        bytes_per_number: 4 for float32, 2 where autocast keeps the products' inputs in bfloat16.

    References:
        Korthikanti et al. (2022), Reducing Activation Recomputation, section 4.1.
    """
    heads = config.n_heads * config.head_dim
    kv = 2 * config.n_kv_heads * config.head_dim
    up = (2 if config.is_gated else 1) * config.d_ff
    per_token = 4 * config.d_model + 2 * heads + kv + config.n_heads + up + config.d_ff
    outside = 4 * config.d_model
    return batch_size * seq_len * (config.n_layers * per_token + outside) * bytes_per_number


def kv_cache_bytes(
    config: ModelConfig, batch_size: int, seq_len: int, *, bytes_per_number: int = 4
) -> int:
    """Return the bytes of a key/value cache: `2 L B G S K` numbers; latent attention's is narrower.

    Example:
        >>> config = ModelConfig(vocab_size=7, d_model=8, n_layers=3, n_heads=2, max_seq_len=5)
        >>> kv_cache_bytes(config, batch_size=1, seq_len=5)
        960

    References:
        Pope et al. (2022), Efficiently Scaling Transformer Inference, section 2.1.
    """
    a_token = sum(heads * width for heads, width in config.cache_shapes)
    return config.n_layers * a_token * batch_size * seq_len * bytes_per_number
