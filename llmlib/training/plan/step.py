"""A step's seconds on paper, the layouts worth trying, and where more GPUs stop helping."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import decoder_training_flops
from llmlib.scaling.flops import SECONDS_PER_HOUR
from llmlib.training.plan.layout import (
    Axis,
    GPUMemory,
    ParallelLayout,
    memory_per_gpu,
    sent_per_gpu,
)
from llmlib.training.plan.machine import Machine

OVERLAP = 0.5
"""Share of the backward pass behind which gradients can travel; an assumption: the last layers'
gradients are ready early, the first layers' at the very end."""


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """One layout's step on a machine."""

    layout: ParallelLayout
    memory: GPUMemory
    sent: dict[Axis, float]
    """Bytes that a GPU sends along each axis."""
    compute: float
    """Seconds in which a GPU computes; what it does twice included."""
    bubble: float
    """Seconds in which it waits for the pipeline to fill and to drain."""
    exposed: dict[Axis, float]
    """Seconds in which it waits for what is sent along each axis."""
    model_flops: float
    """FLOPs of the step, over all GPUs, without what is done twice."""
    tokens: int
    """Tokens of the step."""
    machine: Machine

    @property
    def seconds(self) -> float:
        """Seconds of the step."""
        return self.compute + self.bubble + sum(self.exposed.values())

    @property
    def fits(self) -> bool:
        """Whether a GPU's memory is enough."""
        return self.memory.total + self.machine.reserved_bytes <= self.machine.memory_bytes

    @property
    def mfu(self) -> float:
        """Model FLOPs utilization."""
        return self.model_flops / self.seconds / self.layout.gpus / self.machine.peak_flops

    @property
    def tokens_per_gpu_second(self) -> float:
        """Tokens a second and GPU."""
        return self.tokens / self.seconds / self.layout.gpus

    def cost(self, tokens: float) -> float:
        """Return the price of training on so many tokens, in the unit of the machine's price."""
        hours = tokens / self.tokens_per_gpu_second / SECONDS_PER_HOUR
        return hours * self.machine.price_per_hour


def plan_step(
    config: ModelConfig,
    machine: Machine,
    layout: ParallelLayout,
    batch_size: int,
    seq_len: int | None = None,
) -> StepPlan:
    r"""Estimate one training step: compute, bubble, and sends that nothing hides.

    $$s = \frac{F}{G \cdot \kappa \cdot \text{peak}} \cdot \frac{\lceil L/p \rceil}{L / p}
    \left(1 + \frac{p - 1}{v m}\right) + \sum_a \text{exposed}_a$$

    with F the step's FLOPs, a third more where blocks run again, on G GPUs that reach the share
    $\kappa$ of their peak, and the fullest stage setting the pace. Tensor and pipeline sends are
    waited for. Gradients travel behind `OVERLAP` of the backward pass: of the last micro-batch,
    or with stages 2 and 3 of ZeRO, which send in every one, of all.

    Args:
        batch_size: Rows in an update, over all GPUs.
        seq_len: Tokens of a row. Default: the longest that the configuration allows.

    Raises:
        ValueError: When the layout cuts the model or the batch unequally.

    Example:
        >>> from llmlib.architecture.presets import LLAMA_2
        >>> from llmlib.training.plan.machine import SELENE
        >>> layout = ParallelLayout(data=16, pipeline=8, tensor=8, zero=1, sequence_parallel=True)
        >>> plan = plan_step(LLAMA_2.config, SELENE, layout, 1024)
        >>> plan.fits, 0.3 < plan.mfu < 0.6
        (True, True)

    References:
        Narayanan et al. (2021), Efficient Large-Scale Language Model Training on GPU Clusters Using
        Megatron-LM, sections 2.2 and 3.
    """
    tokens = config.max_seq_len if seq_len is None else seq_len
    memory = memory_per_gpu(config, layout, batch_size, tokens)
    sent = sent_per_gpu(config, layout, batch_size, tokens)
    m = layout.micro_batches(batch_size)
    flops = batch_size * _row_flops(config, tokens)
    uneven = layout.layers(config) * layout.pipeline / config.n_layers
    rate = machine.peak_flops * machine.kernel_share
    forward = flops / 3 / layout.gpus / rate * uneven
    backward = (3 if layout.recompute else 2) * forward
    compute, mesh = forward + backward, layout.mesh
    exposed = {
        axis: sent[axis] / machine.ring_bandwidth(mesh.group(axis, 0)) for axis in get_args(Axis)
    }
    hides = OVERLAP * backward / (m if layout.zero < 2 else 1)
    exposed["data"] = max(0.0, exposed["data"] - hides)
    waits = compute + exposed["tensor"]
    return StepPlan(
        layout=layout,
        memory=memory,
        sent=sent,
        compute=compute,
        bubble=waits * (layout.pipeline - 1) / (layout.chunks * m),
        exposed=exposed,
        model_flops=flops,
        tokens=batch_size * tokens,
        machine=machine,
    )


@lru_cache(maxsize=64)
def _row_flops(config: ModelConfig, seq_len: int) -> int:
    return decoder_training_flops(config, 1, seq_len)


def best_layouts(
    config: ModelConfig,
    machine: Machine,
    gpus: int,
    batch_size: int,
    seq_len: int | None = None,
    *,
    most: int = 5,
) -> list[StepPlan]:
    """Plan every layout of so many GPUs that fits, and return the fastest first.

    Tensor groups stay within a node. With more than one pipeline stage ZeRO stays below its stage
    2, which would send the gradients of every micro-batch.

    Example:
        >>> from llmlib.training.plan.machine import SELENE
        >>> config = ModelConfig(
        ...     vocab_size=50_304, d_model=768, n_layers=12, n_heads=12, max_seq_len=1024
        ... )
        >>> best_layouts(config, SELENE, 8, 512)[0].layout.data
        8
    """
    plans = [
        plan_step(config, machine, layout, batch_size, seq_len)
        for layout in _layouts(config, machine, gpus, batch_size)
    ]
    return sorted((p for p in plans if p.fits), key=lambda p: (p.seconds, p.memory.total))[:most]


def _layouts(
    config: ModelConfig, machine: Machine, gpus: int, batch_size: int
) -> Iterator[ParallelLayout]:
    for tensor in _divisors(gpus):
        if tensor > machine.gpus_per_node or config.n_kv_heads % tensor or config.d_ff % tensor:
            continue
        for pipeline in _divisors(gpus // tensor):
            data = gpus // tensor // pipeline
            if pipeline > config.n_layers or batch_size % data:
                continue
            stages = (0, 1) if pipeline > 1 else (0, 1, 2, 3)
            for micro_batch in (b for b in (1, 2, 4, 8, 16, 32) if not batch_size % (data * b)):
                for zero in stages if data > 1 else (0,):
                    for recompute in (False, True):
                        yield ParallelLayout(
                            data=data, pipeline=pipeline, tensor=tensor, micro_batch=micro_batch,
                            zero=zero, recompute=recompute, sequence_parallel=tensor > 1,
                        )  # fmt: skip


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def stops_scaling(plans: Sequence[StepPlan], *, least_gain: float = 1.5) -> int:
    """Return the GPUs after which twice as many no longer bring so much speed, at the same batch.

    Args:
        plans: The best layout of each number of GPUs, rising, each twice the one before.
        least_gain: Tokens a second of twice the GPUs over those of the ones before: 2 at best.

    Raises:
        ValueError: When the numbers of GPUs do not double.
    """
    for before, after in zip(plans, plans[1:], strict=False):
        if after.layout.gpus != 2 * before.layout.gpus:
            raise ValueError(f"{after.layout.gpus} GPUs are not twice {before.layout.gpus}")
        if before.seconds / after.seconds < least_gain:
            return before.layout.gpus
    return plans[-1].layout.gpus
