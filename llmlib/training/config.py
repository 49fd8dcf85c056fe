"""The settings of a training run."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from llmlib.training.batches.ramp import BatchRamp
from llmlib.training.distributed import Parallel
from llmlib.training.optimizers.schedules import Schedule
from llmlib.training.precision import Precision

# Settings that may change between a checkpoint and its continuation: they say how the run is
# watched and where it runs, not what it computes.
_FREE = frozenset(
    {
        "compile",
        "parallel",
        "tensor_size",
        "checkpoints",
        "log_every",
        "eval_every",
        "checkpoint_every",
        "checkpoint_seconds",
        "keep",
        "tensorboard",
    }
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained.

    Raises:
        ValueError: When a setting is out of its range.

    Example:
        >>> TrainConfig(steps=100, schedule=Schedule(warmup=10)).clip
        1.0
    """

    steps: int
    """Updates in the whole run."""
    lr: float = 3e-3
    """Peak learning rate of AdamW."""
    schedule: Schedule = field(default_factory=Schedule)
    """Factor of the peak at each step."""
    accumulate: int = 1
    """Micro-batches a process reads for one update; see `accumulation`."""
    batch_ramp: BatchRamp | None = None
    """How many micro-batches instead, while the batch grows."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`adamw`, or `muon` (Muon for hidden matrices, AdamW for the rest)."""
    muon_lr: float = 0.02
    """Peak learning rate of Muon."""
    muon_steps: int = 5
    """Newton-Schulz steps of Muon."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    """Betas and epsilon are AdamW's."""
    weight_decay: float = 0.1
    """Decoupled weight decay of matrices."""
    clip: float = 1.0
    """Largest allowed norm of the gradient; 0 never clips."""
    clipping: Literal["norm", "zscore"] = "norm"
    """`norm` clips at `clip`, `zscore` at what is usual for the run, see `ZScoreClipping`."""
    precision: Precision = "float32"
    """`float32`, `bfloat16`, `auto`, or `float16` with loss scaling."""
    seed: int = 0
    """Start of the random generators (dropout); process r adds r."""
    compile: bool = False
    """Run the model and loss through torch.compile."""
    parallel: Parallel = "ddp"
    """`ddp`, `fsdp` or `tensor`, when several processes train together; see `parallelize`."""
    tensor_size: int = 2
    """Processes that share each product, with `tensor`."""
    log_every: int = 1
    """Steps between lines of the metrics file."""
    eval_every: int = 0
    """Steps between evaluations on held-out batches; 0: only at the end."""
    checkpoint_every: int = 0
    """Steps between checkpoints; 0: only at the end or when stopped."""
    checkpoint_seconds: float = 0.0
    """Seconds between checkpoints, besides; 0: no such limit."""
    checkpoints: Literal["whole", "sharded"] = "whole"
    """`whole`: gathered and written by the first process; `sharded`: each process writes its part
    while the training goes on, and any layout of processes reads it."""
    keep: int = 2
    """Newest checkpoints to keep; the best one is kept besides."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too."""

    def __post_init__(self) -> None:
        above = ("steps", "accumulate", "lr", "muon_lr", "muon_steps", "eps", "log_every", "keep")
        for name in (*above, "tensor_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above zero")
        counts = ("weight_decay", "clip", "seed", "eval_every", "checkpoint_every")
        for name in (*counts, "checkpoint_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={self.betas} must be at least 0 and below 1")
        choices = {
            "precision": Precision,
            "parallel": Parallel,
            "optimizer": Literal["adamw", "muon"],
            "clipping": Literal["norm", "zscore"],
            "checkpoints": Literal["whole", "sharded"],
        }
        for name, known in choices.items():
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"{name}={getattr(self, name)!r}: choose one of {get_args(known)}")
        self.schedule.check(self.steps)

    def recipe(self) -> dict[str, Any]:
        """Return the settings that a continued run must share with its checkpoint."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE}


def accumulation(batch_tokens: int, *, micro_batch: int, seq_len: int, world_size: int = 1) -> int:
    """Return how many micro-batches each process needs for one update.

    Raises:
        ValueError: When the batch is not a whole number of micro-batches.

    Example:
        >>> accumulation(524_288, micro_batch=16, seq_len=1024, world_size=8)
        4
    """
    together = micro_batch * seq_len * world_size
    if batch_tokens < 1 or batch_tokens % together:
        raise ValueError(
            f"a batch of {batch_tokens} tokens is not a multiple of {micro_batch} sequences x "
            f"{seq_len} tokens x {world_size} processes = {together}: change one of them"
        )
    return batch_tokens // together
