"""The bytes of a training step, from a configuration alone: what is held, and the peak."""

from dataclasses import dataclass
from typing import Literal, get_args

from llmlib.architecture.attention.blocked import BLOCK, LONGEST
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import parameters
from llmlib.training.memory.chunked_loss import rows_at_once
from llmlib.training.memory.recomputation import Recomputed
from llmlib.training.memory.trace import require_step, traced_step

Bytes = int
StepPrecision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Where the bytes of a training step are."""

    parameters: Bytes
    gradients: Bytes
    """All of them, as they are between the backward pass and the update."""
    optimizer: Bytes
    """The optimizer's state."""
    activations: Bytes
    """What the forward pass and the loss keep for the backward pass."""
    peak: Bytes
    """The most that is held at once. Gradients grow while activations go, so that it may be less
    than the sum; what the backward pass works with for a moment comes on top."""


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """The bytes of one half of a block, or of a part of it."""

    kept: Bytes
    """For the backward pass."""
    working: Bytes
    """What its backward pass holds at most, beyond what was kept when it began."""


def estimate_memory(
    config: ModelConfig,
    batch_size: int,
    seq_len: int,
    *,
    precision: StepPrecision = "float32",
    recomputed: Recomputed | None = None,
    segment: int = 1,
    state_numbers: int = 2,
) -> MemoryEstimate:
    r"""Estimate the bytes of a training step with the loss of `llmlib.training`, on a processor.

    Parameters, gradients and each number of the optimizer's state take 4 bytes, also under
    autocast. For the plain decoder (causal attention over the whole text; RoPE, absolute positions
    or none; any norm, activation and experts; no dropout) activations and peak are a formula,
    `plain_decoder_activations`; for all others a few layers go through the motions of a step
    without numbers and without memory, which takes about a second.

    Args:
        recomputed: What `recompute` was asked to forget.
        segment: Blocks that it runs as one.
        state_numbers: Numbers that the optimizer keeps a parameter: 2 for AdamW, 1 for momentum.

    Raises:
        ValueError: If the configuration can be neither computed nor traced, or a setting is out of
            its range.

    Example:
        >>> config = ModelConfig(
        ...     vocab_size=4096, d_model=256, n_layers=6, n_heads=8, max_seq_len=256
        ... )
        >>> estimate = estimate_memory(config, 16, 256)
        >>> estimate.parameters // 10**6, estimate.optimizer // 10**6, estimate.peak // 10**6
        (23, 46, 594)

    References:
        Korthikanti et al. (2022), Reducing Activation Recomputation in Large Transformer Models,
        section 4.1, for another decoder in 16 bits; Rajbhandari et al. (2020), ZeRO, section 3.
    """
    require_step(batch_size, seq_len, recomputed, segment)
    if precision not in get_args(StepPrecision):
        raise ValueError(f"precision={precision!r} is unknown: one of {get_args(StepPrecision)}")
    if state_numbers < 0:
        raise ValueError(f"state_numbers={state_numbers} must be 0 or more")
    counts = parameters(config)
    state = 4 * state_numbers * counts.total
    held = 4 * counts.total + state
    if is_plain(config):
        step = _Plain(config, batch_size, seq_len, precision, recomputed, segment)
        activations, beside = step.kept, step.most_beside()
    else:
        activations, beside = traced_step(
            config, batch_size, seq_len, bfloat16=precision == "bfloat16", recomputed=recomputed,
            segment=segment,
        )  # fmt: skip
    return MemoryEstimate(
        parameters=4 * counts.total,
        gradients=4 * counts.total,
        optimizer=state,
        activations=activations,
        peak=held + max(beside, 4 * counts.total),
    )


def is_plain(config: ModelConfig) -> bool:
    """Whether the closed formula holds for a configuration.

    Example:
        >>> config = ModelConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=2, max_seq_len=8)
        >>> is_plain(config), is_plain(config.replace(position="alibi"))
        (True, False)
    """
    return (
        config.mixer == "attention"
        and config.channel_mixer == "feedforward"
        and config.attention == "full"
        and config.mask == "causal"
        and config.position in ("rope", "learned", "sinusoidal", "none")
        and config.rope_scaling != "rerope"
        and not config.attention_scale
        and not config.expert_capacity
        and not config.dropout
    )


def plain_decoder_activations(
    config: ModelConfig, batch_size: int, seq_len: int, *, precision: StepPrecision = "float32"
) -> Bytes:
    r"""Return the bytes that the forward pass of a plain decoder and its loss keep.

    In float32, with pre-norm RMSNorm, RoPE and SwiGLU, each of the N tokens keeps in each layer

    - two inputs of norms, their outputs and a scale each: $4 D + 2$ numbers
    - queries, keys and values as projected, and rotated queries and keys: $(2H + 3G) K$
    - the mixed heads, and the normalizers of their softmax: $H K + H$
    - gate and values of the feed-forward layer, and their product: $3 F$

    and once in all the angles of RoPE, the final norm's input and scale, and the loss's gradients
    by the hidden states and by the output matrix: $T K + 2 N D + N + V D$ numbers. Under autocast
    products keep their inputs in 16 bits, and the matrices a second time in 16 bits; on a processor
    attention in 16 bits keeps its weights, up to T of 1024.

    Example:
        >>> config = ModelConfig(
        ...     vocab_size=11, d_model=16, n_layers=1, n_heads=2, max_seq_len=8, d_ff=10
        ... )
        >>> a_token = 4 * 16 + 2 + 5 * 2 * 8 + 2 * 8 + 2 + 3 * 10
        >>> once = 8 * 8 + 2 * 8 * 16 + 8 + 11 * 16
        >>> plain_decoder_activations(config, 1, 8) == 4 * (8 * a_token + once)
        True

    References:
        Korthikanti et al. (2022), section 4.1, equation 1: $34 s b h + 5 a s^2 b$ bytes a layer
        for GPT's, its $5 a s^2 b$ without a fused kernel.
    """
    return _Plain(config, batch_size, seq_len, precision, None, 1).kept


class _Plain:
    """The formula for one configuration and batch: everything in bytes."""

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        seq_len: int,
        precision: StepPrecision,
        recomputed: Recomputed | None,
        segment: int,
    ) -> None:
        self.config, self.batch_size, self.seq_len = config, batch_size, seq_len
        self.tokens = batch_size * seq_len
        self.half = precision == "bfloat16"
        self.width = 2 if self.half else 4  # of what the products read and write
        self.recomputed, self.segment = recomputed, segment
        counts = parameters(config)
        self.block_parameters = (counts.attention + counts.feedforward) // config.n_layers
        self.output_matrix = config.vocab_size * config.d_model
        self.stream = 4 * self.tokens * config.d_model
        self.mixer, self.channel = self._mixer(), self._channel()

    @property
    def kept(self) -> Bytes:
        return self.kept_by_blocks + self._outside()

    @property
    def kept_by_blocks(self) -> Bytes:
        config = self.config
        if self.recomputed == "blocks":
            return -(-config.n_layers // self.segment) * self.stream
        return config.n_layers * (self._norms() + self.mixer.kept + self.channel.kept)

    def _outside(self) -> Bytes:
        """Keep the final norm's input, positions' angles, and the gradients that the loss made."""
        config = self.config
        angles = 4 * self.seq_len * config.head_dim if config.position == "rope" else 0
        final = self.stream + 4 * self.tokens if config.has_final_norm else 0
        return final + angles + self.width * self.tokens * config.d_model + 4 * self.output_matrix

    def most_beside(self) -> Bytes:
        """Return the most bytes beside parameters and optimizer state, over a step's moments."""
        config, loss_by_matrix = self.config, 4 * self.output_matrix
        block = self._norms() + self.mixer.kept + self.channel.kept
        again = self.recomputed == "blocks"
        remade = self.segment * block - self.stream if again else 0
        gradients = 4 * self.block_parameters
        first = self.kept_by_blocks / config.n_layers
        moments = {
            "the loss": self.kept + self._loss(),
            "the last feed-forward layer": self.kept + remade + self.channel.working,
            "the last mixer": self.kept + remade - self.channel.kept + self.mixer.working,
            "the first block": (
                first + remade + (config.n_layers - 1) * gradients + loss_by_matrix
                + max(self.channel.working, self.mixer.working - self.channel.kept)
            ),
            # A tied matrix has a gradient from each end, and their sum before they go.
            "the embeddings": (
                config.n_layers * gradients + (2 + config.tie_embeddings) * loss_by_matrix
            ),
        }  # fmt: skip
        return int(max(moments.values()))

    def _loss(self) -> Bytes:
        """Return what the loss works with: a chunk of logits, or its gradients' second copies."""
        config, n, width = self.config, self.tokens, self.width
        chunk = min(n, rows_at_once(n, config.vocab_size, config.d_model, on_processor=True))
        logits = chunk * config.vocab_size * (width + 4 * self.half)
        casts = self.half * 2 * (n * config.d_model + self.output_matrix)
        scaled = (4 + 2 * self.half) * self.output_matrix + width * n * config.d_model
        return max(logits + casts + self.stream, scaled)

    def _norms(self) -> Bytes:
        """Keep each norm's input and statistics, and its output for the product that follows."""
        config, d = self.config, self.config.d_model
        statistics = 4 if config.norm == "rms" else 8
        n_norms = 1 if config.parallel else 2
        reads = 1 if config.parallel and not self.half else 2  # each cast is one of its own
        a_token = n_norms * (4 * d + statistics) + reads * self.width * d
        if config.norm_placement == "sandwich":
            a_token += 2 * (self.width * d + statistics)
        return self.tokens * a_token

    def _mixer(self) -> _Layer:
        config, n = self.config, self.tokens
        queries, keys = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
        projected, turned = queries + 2 * keys, queries + keys
        matrices = config.d_model * (projected + queries)
        scales = 4 * n * (config.n_heads + config.n_kv_heads) * config.qk_norm
        if self.half and self.seq_len <= LONGEST:
            weights = 2 * self.batch_size * config.n_heads * _blocked_pairs(self.seq_len)
            kept = n * 2 * (4 * queries + config.qk_norm * projected) + weights
            a_block = min(self.seq_len, BLOCK) * self.seq_len
            working = 2 * (4 * n * queries + 2 * self.batch_size * config.n_heads * a_block)
        else:
            is_new = config.position == "rope" or config.qk_norm
            kept = n * self.width * (projected + is_new * turned + queries) + 4 * n * config.n_heads
            working = n * self.width * (queries + projected + turned)
        return self._layer("mixer", kept + scales, working + self.stream, matrices)

    def _channel(self) -> _Layer:
        config, n = self.config, self.tokens
        if not config.n_experts:
            return self._dense(config.d_ff, "feedforward")
        rows, d, experts = n * config.experts_per_token, config.d_model, config.n_experts
        up, kept, working = _feedforward_numbers(config)
        kept = rows * self.width * (2 * d + kept) + n * 4 * 3 * experts + rows * 8 * 4
        matrices = experts * d * (up + config.d_ff)
        working = rows * self.width * (working + d) + 2 * self.stream
        routed = self._layer("feedforward", kept, working, matrices)
        if not config.n_shared_experts:
            return routed
        shared = self._dense(config.n_shared_experts * config.d_ff, "feedforward")
        return _Layer(
            kept=max(routed.kept, shared.kept)
            if self.recomputed == "feedforward"
            else routed.kept + shared.kept + self.half * 2 * n * d,
            working=max(routed.working, shared.working),
        )

    def _dense(self, d_ff: int, name: Recomputed) -> _Layer:
        up, kept, working = _feedforward_numbers(self.config.replace(d_ff=d_ff))
        a_number = self.tokens * self.width
        matrices = self.config.d_model * (up + d_ff)
        return self._layer(name, a_number * kept, a_number * working + self.stream, matrices)

    def _layer(self, name: Recomputed, kept: Bytes, working: Bytes, matrices: int) -> _Layer:
        """Add the matrices' copies in 16 bits and their gradients; forget what is recomputed."""
        kept += self.half * 2 * matrices
        working += (4 + 2 * self.half) * matrices // 2  # the gradient of one of them
        if self.recomputed == name:  # the input stays, before it is cast
            return _Layer(kept=self.half * self.stream // 2, working=kept + working)
        return _Layer(kept=kept, working=working)


def _feedforward_numbers(config: ModelConfig) -> tuple[int, int, int]:
    """Return a layer's wide product, the numbers a token that it keeps, and those it works with."""
    d_ff = config.d_ff
    match config.activation:
        case "swiglu":
            return 2 * d_ff, 3 * d_ff, 4 * d_ff
        case "geglu" | "geglu_tanh":
            return 2 * d_ff, 4 * d_ff, 2 * d_ff
        case "relu":
            return d_ff, d_ff, d_ff
        case _:
            return d_ff, 2 * d_ff, d_ff


def _blocked_pairs(seq_len: int) -> int:
    """Count the pairs of query and key whose weights attention in blocks of queries keeps."""
    starts = range(0, seq_len, BLOCK)
    return sum((min(s + BLOCK, seq_len) - s) * min(s + BLOCK, seq_len) for s in starts)
