"""Parameters, floating-point operations and memory of a configuration, without building it."""

from dataclasses import dataclass

from llmlib.architecture.config import ModelConfig


@dataclass(frozen=True)
class ParameterCounts:
    """Where a model's parameters are.

    Attributes:
        embedding: Token embeddings, and learned positions.
        attention: All layers' projections.
        feedforward: All layers' feed-forward matrices.
        norms: All normalization weights and biases.
        head: The output matrix; 0 when tied to the embeddings.
    """

    embedding: int
    attention: int
    feedforward: int
    norms: int
    head: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + self.attention + self.feedforward + self.norms + self.head

    @property
    def non_embedding(self) -> int:
        """All parameters but embeddings and output matrix, the N of Kaplan et al. (2020)."""
        return self.attention + self.feedforward + self.norms


def parameters(config: ModelConfig) -> ParameterCounts:
    """Count a configuration's parameters.

    Args:
        config: The model's configuration.

    Returns:
        The counts, exact.

    Example:
        >>> config = ModelConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=2, max_seq_len=8)
        >>> counts = parameters(config)
        >>> counts.embedding, counts.total
        (176, 8448)
    """
    d_model, d_ff, layers = config.d_model, config.d_ff, config.n_layers
    qkv_width = (config.n_heads + 2 * config.n_kv_heads) * config.head_dim
    mixed_width = config.n_heads * config.head_dim
    up_width = (2 if config.is_gated else 1) * d_ff
    attention = d_model * qkv_width + mixed_width * d_model
    feedforward = d_model * up_width + d_ff * d_model
    if config.bias:
        attention += qkv_width + d_model
        feedforward += up_width + d_model
    norm = d_model * (2 if config.norm == "layer" and config.bias else 1)
    n_norms = 2 * layers + (1 if config.norm_placement == "pre" else 0)
    qk_norms = 2 * config.head_dim * layers if config.qk_norm else 0
    positions = config.max_seq_len if config.position == "learned" else 0
    return ParameterCounts(
        embedding=(config.vocab_size + positions) * d_model,
        attention=layers * attention,
        feedforward=layers * feedforward,
        norms=n_norms * norm + qk_norms,
        head=0 if config.tie_embeddings else config.vocab_size * d_model,
    )


def forward_flops(
    config: ModelConfig, batch_size: int, seq_len: int, *, causal: bool = False
) -> int:
    r"""Count the floating-point operations of the matrix products of a forward pass.

    A product of `m x k` and `k x n` matrices counts `2 m k n`; additions, norms, activations and
    softmax, a few percent of the work, are not counted, as in torch's counter.
    Per token: $2 N_\mathrm{matmul} + 4 L H K S$, with S keys a query, or $(S + 1) / 2$ on average
    when `causal` counts only the keys that a query may see.

    Args:
        config: The model's configuration.
        batch_size: Rows, B.
        seq_len: Tokens a row, T.
        causal: Count only unmasked scores. The default counts all T^2, as torch's counter does
            wherever it knows the kernel.

    Returns:
        Operations (multiplications and additions).

    References:
        Kaplan et al. (2020), Scaling Laws for Neural Language Models, section 2.1 and table 1;
        Hoffmann et al. (2022), appendix F.
    """
    counts = parameters(config.replace(bias=False))
    matrices = counts.attention + counts.feedforward + config.vocab_size * config.d_model
    pairs = seq_len * (seq_len + 1) // 2 if causal else seq_len * seq_len
    scores_and_mix = 4 * config.n_layers * config.n_heads * config.head_dim * pairs
    return batch_size * (2 * matrices * seq_len + scores_and_mix)


def training_flops(
    config: ModelConfig, batch_size: int, seq_len: int, *, causal: bool = False
) -> int:
    """Count the operations of a forward and backward pass: three times the forward pass.

    Each product Y = X W has two more in the backward pass, for the gradients of X and of W.

    Args:
        config: The model's configuration.
        batch_size: Rows, B.
        seq_len: Tokens a row, T.
        causal: See `forward_flops`.

    Returns:
        Operations of one optimizer step without the optimizer's own.
    """
    return 3 * forward_flops(config, batch_size, seq_len, causal=causal)


def training_state_bytes(n_parameters: int, *, mixed: bool = False) -> int:
    """Return the bytes that weights, gradients and AdamW's two moments take.

    In float32 all four take 4 bytes a parameter: 16. In mixed precision with bfloat16 or float16
    weights and gradients and float32 master weights and moments: 2 + 2 + 4 + 4 + 4, again 16.
    Automatic mixed precision keeps float32 weights and gradients and casts the weights for each
    product: 16 and, while the step runs, 2 more.

    Args:
        n_parameters: All parameters.
        mixed: Whether `torch.autocast` casts the weights.

    Returns:
        Bytes; activations come on top.

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
        config: The model's configuration.
        batch_size: Rows, B.
        seq_len: Tokens a row, T.
        bytes_per_number: 4 for float32, 2 where autocast keeps the products' inputs in bfloat16.

    Returns:
        Bytes, a first estimate.

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
    """Return the size of a key/value cache: `2 L B G S K` numbers.

    Args:
        config: The model's configuration.
        batch_size: Rows, B.
        seq_len: Tokens a row, S.
        bytes_per_number: 4 for float32, 2 for bfloat16.

    Returns:
        Bytes.

    Example:
        >>> config = ModelConfig(vocab_size=7, d_model=8, n_layers=3, n_heads=2, max_seq_len=5)
        >>> kv_cache_bytes(config, batch_size=1, seq_len=5)
        960

    References:
        Pope et al. (2022), Efficiently Scaling Transformer Inference, section 2.1.
    """
    numbers = 2 * config.n_layers * config.n_kv_heads * config.head_dim
    return numbers * batch_size * seq_len * bytes_per_number
