r"""What each operation of a decoder's training step has to compute and to move, by its shapes.

A product of $n \times k$ and $k \times m$ numbers does $2nkm$ FLOPs on $nk + km + nm$ numbers: its
intensity grows with its smallest side. All else does a handful of FLOPs on each number it reads.
"""

from dataclasses import dataclass

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import parameters
from llmlib.training.speed.roofline import Work

STATE_BYTES = 4  # of a number of AdamW's moments and of a weight it updates
INDEX_BYTES = 8  # of a token's id

# Operations on each number, roots, exponentials and divisions counted as one.
NORM, NORM_BACKWARD = 4, 8
ROTATION = 3  # of two numbers: four products, two sums
GATED_ACTIVATION, UNGATED_ACTIVATION = 15, 10
SOFTMAX = 5
CLIP = 3
ADAMW = 14


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One kind of operation of a training step, forward and backward together."""

    work: Work
    """Of one occurrence."""
    times: int
    """Occurrences in a step."""

    @property
    def total(self) -> Work:
        """The work of all occurrences."""
        return self.work * self.times


def product_work(rows: int, inputs: int, outputs: int, bytes_per_number: int = 4) -> Work:
    r"""Return the work of a linear layer's three products: forward, and both gradients.

    $6nkm$ FLOPs on $3(nk + km + nm)$ numbers, for $Y = XW^\top$ with X of n rows and k columns and
    Y of m columns.

    Example:
        >>> product_work(rows=100, inputs=100, outputs=100).intensity  # n / 6 in float32
        16.666666666666668
    """
    numbers = rows * inputs + inputs * outputs + rows * outputs
    return Work(6 * rows * inputs * outputs, 3 * numbers * bytes_per_number)


def step_operations(
    config: ModelConfig, batch_size: int, seq_len: int, *, bytes_per_number: int = 4
) -> dict[str, Operation]:
    r"""Return the least work of each operation of a training step of a decoder.

    Each reads every number that it needs once and writes every result once, as if it were fused
    into one pass; what an implementation moves more than that is its own doing, and
    `counted_work` finds it. Attention computes the causal half of its products and keeps no scores,
    as fused kernels do. The products add up to `decoder_training_flops(..., causal=True)`.

    Args:
        seq_len: Tokens a row, T.
        bytes_per_number: 4 for float32; 2 for bfloat16, whose weights and moments keep four.

    Raises:
        ValueError: When the configuration is another than that of a dense decoder with full
            attention, feed-forward layers, and positions by rotation or none.

    References:
        Williams, Waterman and Patterson (2009), Roofline, section 3; Ivanov et al. (2021), Data
        Movement Is All You Need, table 1 (intensities of a BERT layer's operations).
    """
    _require_plain(config)
    rows, width, heads = batch_size * seq_len, config.d_model, config.n_heads * config.head_dim
    layers, size = config.n_layers, bytes_per_number
    shared = config.n_kv_heads * config.head_dim
    up = (2 if config.is_gated else 1) * config.d_ff
    count, logits = parameters(config).total, rows * config.vocab_size

    def product(inputs: int, outputs: int, times: int = layers) -> Operation:
        return Operation(work=product_work(rows, inputs, outputs, size), times=times)

    def passes(flops: int, numbers: int, times: int = layers) -> Operation:
        return Operation(work=Work(flops, numbers * size), times=times)

    per_layer = {"sandwich": 4}.get(config.norm_placement, 2) // (2 if config.parallel else 1)
    norms = layers * per_layer + config.has_final_norm + config.embedding_norm
    activation = (GATED_ACTIVATION if config.is_gated else UNGATED_ACTIVATION) * config.d_ff
    operations = {
        "embedding": _embedding(config, rows, size),
        "norm": passes((NORM + NORM_BACKWARD) * rows * width, 5 * rows * width, norms),
        "qkv": product(width, heads + 2 * shared),
        "rotation": passes(2 * ROTATION * rows * (heads + shared), 4 * rows * (heads + shared)),
        "attention": _attention(config, batch_size, seq_len, size),
        "attention_out": product(heads, width),
        "feedforward_up": product(width, up),
        "activation": passes(activation * rows, 2 * rows * (up + config.d_ff)),
        "feedforward_down": product(config.d_ff, width),
        "residual": passes(2 * rows * width, 6 * rows * width, 2 * layers),
        "head": product(width, config.vocab_size, 1),
        "cross_entropy": passes(SOFTMAX * logits, 2 * logits, 1),
        "clip": Operation(work=Work(CLIP * count, 3 * count * STATE_BYTES), times=1),
        "adamw": Operation(work=Work(ADAMW * count, 7 * count * STATE_BYTES), times=1),
    }
    if config.position != "rope":
        del operations["rotation"]
    return operations


def _embedding(config: ModelConfig, rows: int, size: int) -> Operation:
    """Read a row a token; backward, add each gradient to its row of a table of zeros."""
    read, table = rows * config.d_model, config.vocab_size * config.d_model
    numbers = 3 * read + table
    return Operation(work=Work(read, numbers * size + 2 * rows * INDEX_BYTES), times=1)


def _attention(config: ModelConfig, batch_size: int, seq_len: int, size: int) -> Operation:
    """Six products of the causal half; queries, keys, values, the result and their gradients."""
    pairs = batch_size * seq_len * (seq_len + 1) // 2
    rows, heads = batch_size * seq_len, config.n_heads
    numbers = rows * config.head_dim * 6 * (heads + config.n_kv_heads)
    sums = 2 * rows * heads * STATE_BYTES  # of each row's exponentials: written, and read again
    return Operation(
        work=Work(12 * heads * config.head_dim * pairs, numbers * size + sums),
        times=config.n_layers,
    )


def _require_plain(config: ModelConfig) -> None:
    is_plain = (
        config.mixer == "attention"
        and config.channel_mixer == "feedforward"
        and not config.n_experts
        and config.attention == "full"
        and config.mask == "causal"
        and not config.qk_norm
        and config.position in ("rope", "none")
    )
    if not is_plain:
        raise ValueError(
            "the work is known for dense decoders with full causal attention without norms of "
            "queries and keys, with feed-forward layers, and with position='rope' or 'none': "
            f"count what {config} does with counted_work"
        )
