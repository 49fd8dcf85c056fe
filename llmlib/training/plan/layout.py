"""A layout: how a model is cut over GPUs, the bytes that each then holds and sends."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Literal

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import parameters
from llmlib.training.memory.estimate import plain_decoder_activations
from llmlib.training.parallel.mesh import Mesh

Axis = Literal["data", "pipeline", "tensor"]

PARAMETER_BYTES = 2
"""A weight in 16 bits, as it multiplies and travels."""
GRADIENT_BYTES = 4
"""Gradients are added up in float32 over micro-batches, as Megatron-LM does."""
SENT_GRADIENT_BYTES = 4
"""And added up over processes as they are held."""
OPTIMIZER_BYTES = 12
"""AdamW's two means and the float32 weights (Rajbhandari et al. 2020, section 3.1)."""
NUMBER_BYTES = 2
"""An activation in 16 bits."""
LOGIT_BYTES = 6
"""A logit in 16 bits, and its gradient in float32: this planner's loss makes all of them."""


@dataclass(frozen=True, kw_only=True)
class ParallelLayout:
    """Data x pipeline x tensor parallel GPUs, and how each works.

    Example:
        >>> bloom = ParallelLayout(data=8, pipeline=12, tensor=4, micro_batch=2, zero=1)
        >>> bloom.gpus, bloom.micro_batches(2048)
        (384, 128)
    """

    data: int = 1
    pipeline: int = 1
    """Stages, in the order 1F1B."""
    tensor: int = 1
    micro_batch: int = 1
    """Rows that a GPU computes at once."""
    zero: Literal[0, 1, 2, 3] = 0
    recompute: bool = False
    """Whether blocks keep their input alone and run again in the backward pass."""
    sequence_parallel: bool = False
    """Whether tensor-parallel GPUs also share the tokens between their products."""
    chunks: int = 1
    """Chunks of layers a stage; more than one: the interleaved order."""

    def __post_init__(self) -> None:
        numbers = (self.data, self.pipeline, self.tensor, self.micro_batch, self.chunks)
        if min(numbers) < 1 or self.zero not in (0, 1, 2, 3):
            raise ValueError(f"{self}: lengths are at least 1, ZeRO's stages 0 to 3")

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return self.data * self.pipeline * self.tensor

    @property
    def mesh(self) -> Mesh:
        """Who stands where: tensor groups are neighbours."""
        return Mesh({"data": self.data, "pipeline": self.pipeline, "tensor": self.tensor})

    def micro_batches(self, batch_size: int) -> int:
        """Return how many micro-batches a pipeline works on in a step.

        Raises:
            ValueError: When the rows cannot be shared equally.
        """
        if batch_size % (self.data * self.micro_batch):
            raise ValueError(
                f"{batch_size} rows are no multiple of {self.data} x {self.micro_batch}: change "
                "the batch, or the micro-batch"
            )
        return batch_size // (self.data * self.micro_batch)

    def layers(self, config: ModelConfig) -> int:
        """Return the layers of the fullest stage."""
        return ceil(config.n_layers / self.pipeline)

    def check(self, config: ModelConfig) -> None:
        """Refuse what cannot be cut so.

        Raises:
            ValueError: When heads, widths or layers are too few, or the decoder is not a dense one.
        """
        if config.mixer != "attention" or config.n_experts:
            raise ValueError("the planner knows dense decoders with attention")
        heads, width = config.n_kv_heads, config.d_ff
        if heads % self.tensor or config.n_heads % self.tensor or width % self.tensor:
            raise ValueError(f"tensor={self.tensor} does not divide heads {heads} and {width}")
        if self.pipeline * self.chunks > config.n_layers:
            raise ValueError(f"{config.n_layers} layers are fewer than the pipeline's chunks")


@lru_cache(maxsize=64)
def _sizes(config: ModelConfig, seq_len: int) -> tuple[int, int, int, int]:
    """Return a block's parameters, those of the words, and the numbers that a block keeps of a row.

    The last two are those that tensor parallelism divides, and those of norms and residuals.
    """
    counts = parameters(config)
    block = (counts.attention + counts.feedforward + counts.norms) // config.n_layers
    plain = config.replace(position="none", attention="full", mask="causal", dropout=0.0)
    two, one = (
        plain_decoder_activations(plain.replace(n_layers=n), 1, seq_len) // 4 for n in (2, 1)
    )
    undivided = 4 * seq_len * config.d_model
    return block, counts.embedding, two - one - undivided, undivided


@dataclass(frozen=True, kw_only=True)
class GPUMemory:
    """The bytes of one GPU."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    """What the backward pass waits for, and one block's while it runs again."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.parameters + self.gradients + self.optimizer + self.activations


def own_parameters(config: ModelConfig, layout: ParallelLayout) -> float:
    """Return the parameters of a GPU of the first stage, before ZeRO shares them."""
    block, words, _, _ = _sizes(config, config.max_seq_len)
    is_whole_and_untied = layout.pipeline == 1 and not config.tie_embeddings
    return (layout.layers(config) * block + words * (1 + is_whole_and_untied)) / layout.tensor


def memory_per_gpu(
    config: ModelConfig, layout: ParallelLayout, batch_size: int, seq_len: int | None = None
) -> GPUMemory:
    r"""Return the bytes of a GPU of the pipeline's first stage, which holds the most.

    Of its n parameters it holds 2 bytes each, of gradients 4, of the optimizer 12; stages 1, 2 and
    3 of ZeRO divide the last, the last two, and all three by the data-parallel GPUs. In the order
    1F1B it keeps the activations of P micro-batches; v chunks in turn keep
    $1 + \tfrac{P - 1}{P v}$ times as much. What a block keeps follows from `estimate_memory`'s
    formula, two bytes a number.

    References:
        Rajbhandari et al. (2020), ZeRO, section 5; Korthikanti et al. (2022), sections 4.2.3 and 5.
    """
    layout.check(config)
    tokens = config.max_seq_len if seq_len is None else seq_len
    own = own_parameters(config, layout)
    _, _, divided, undivided = _sizes(config, tokens)
    between = layout.tensor if layout.sequence_parallel else 1
    block = layout.micro_batch * (divided / layout.tensor + undivided / between)
    entry = layout.micro_batch * tokens * config.d_model / between
    in_flight: float = min(layout.pipeline, layout.micro_batches(batch_size))
    if layout.chunks > 1:
        in_flight *= 1 + (layout.pipeline - 1) / (layout.pipeline * layout.chunks)
    kept = in_flight * layout.layers(config) * (entry if layout.recompute else block)
    working = block * layout.recompute
    logits = layout.micro_batch * tokens * config.vocab_size / layout.tensor
    loss = LOGIT_BYTES * logits if layout.pipeline == 1 else 0.0
    shared = [layout.data if layout.zero >= stage else 1 for stage in (3, 2, 1)]
    return GPUMemory(
        parameters=PARAMETER_BYTES * own / shared[0],
        gradients=GRADIENT_BYTES * own / shared[1],
        optimizer=OPTIMIZER_BYTES * own / shared[2],
        activations=NUMBER_BYTES * (kept + working) + loss,
    )


def sent_per_gpu(
    config: ModelConfig, layout: ParallelLayout, batch_size: int, seq_len: int | None = None
) -> dict[Axis, float]:
    r"""Return the bytes that a GPU sends in a step along each axis.

    With d, p, t GPUs on the axes, m micro-batches of N tokens, L/p layers and n own parameters:

    - data: of the gradients $\tfrac{d-1}{d}$ twice (without ZeRO, and in its stage 1), or once a
      micro-batch and once for new parameters (stage 2), or three times a micro-batch (stage 3)
    - pipeline: m times N D numbers forward and as many back, a chunk; a middle stage's
    - tensor: $4 m \tfrac{L}{p}$ sums of N D numbers over t GPUs, $2 \tfrac{t-1}{t}$ of each sent;
      blocks that run again make two more

    References:
        Rajbhandari et al. (2020), section 7; Narayanan et al. (2021), sections 3.2 and 3.3; Shoeybi
        et al. (2019), section 3.
    """
    layout.check(config)
    tokens = layout.micro_batch * (config.max_seq_len if seq_len is None else seq_len)
    m, d, t = layout.micro_batches(batch_size), layout.data, layout.tensor
    stream = NUMBER_BYTES * tokens * config.d_model
    gradients, weights = {
        0: (1, 1 * SENT_GRADIENT_BYTES), 1: (1, PARAMETER_BYTES), 2: (m, PARAMETER_BYTES),
        3: (m, 2 * m * PARAMETER_BYTES),
    }[layout.zero]  # fmt: skip
    a_parameter = gradients * SENT_GRADIENT_BYTES + weights
    sums = (6 if layout.recompute else 4) * layout.layers(config) * m
    return {
        "data": (d - 1) / d * own_parameters(config, layout) * a_parameter,
        "pipeline": 2.0 * m * stream * layout.chunks * (layout.pipeline > 1),
        "tensor": sums * stream * 2 * (t - 1) / t,
    }
