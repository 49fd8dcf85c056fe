"""Training runs whose layout or speed is published, beside what the planner says of them."""

import csv
from dataclasses import dataclass
from typing import Any, cast

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.presets import PUBLISHED_MODELS
from llmlib.core.resources import resource
from llmlib.training.plan import machine as machines
from llmlib.training.plan.layout import ParallelLayout
from llmlib.training.plan.machine import Machine
from llmlib.training.plan.step import StepPlan, best_layouts, plan_step


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """A line of `data/layouts/published_runs.csv`."""

    name: str
    config: ModelConfig
    machine: Machine
    gpus: int
    batch: int
    """Rows in an update."""
    layout: ParallelLayout | None
    """None where it is not published."""
    hardware_tflops: float | None
    """TFLOP/s of a GPU, with what is done twice counted twice."""
    tokens_per_gpu_second: float | None
    memory_gb: float | None
    """Of a GPU."""
    source: str
    note: str
    """Which values are ours."""

    def plan(self) -> StepPlan:
        """Plan the run's step; where no layout is published, by the fastest that fits."""
        if self.layout is not None:
            return plan_step(self.config, self.machine, self.layout, self.batch)
        return best_layouts(self.config, self.machine, self.gpus, self.batch, most=1)[0]

    def ratio(self, plan: StepPlan) -> float:
        """Return the planned speed over the published one."""
        if self.tokens_per_gpu_second is not None:
            return plan.tokens_per_gpu_second / self.tokens_per_gpu_second
        assert self.hardware_tflops is not None
        return hardware_flops(plan) / 1e12 / self.hardware_tflops


def hardware_flops(plan: StepPlan) -> float:
    """Return the FLOP/s of a GPU with blocks that run again counted again, as Megatron-LM does.

    References:
        Narayanan et al. (2021), section 5.1 and appendix, equation 3.
    """
    twice = 4 / 3 if plan.layout.recompute else 1
    return plan.model_flops * twice / plan.seconds / plan.layout.gpus


def published_runs() -> dict[str, PublishedRun]:
    """Read all lines, by name.

    Example:
        >>> bloom = published_runs()["BLOOM"]
        >>> bloom.layout.gpus, bloom.hardware_tflops
        (384, 150.0)
    """
    with resource("layouts/published_runs.csv").open(encoding="utf-8", newline="") as file:
        return {row["name"]: _run(row) for row in csv.DictReader(file)}


def _run(row: dict[str, str]) -> PublishedRun:
    layout = None
    if row["data"]:
        sizes: dict[str, Any] = {
            axis: int(row[axis]) for axis in ("data", "pipeline", "tensor", "micro_batch")
        }
        layout = ParallelLayout(
            **sizes, zero=cast("Any", int(row["zero"])), recompute=row["recompute"] == "true"
        )
    return PublishedRun(
        name=row["name"],
        config=_config(row),
        machine=getattr(machines, row["machine"]),
        gpus=int(row["gpus"]),
        batch=int(row["batch"]),
        layout=layout,
        hardware_tflops=_number(row["hardware_tflops"]),
        tokens_per_gpu_second=_number(row["tokens_per_gpu_second"]),
        memory_gb=_number(row["memory_gb"]),
        source=row["source"],
        note=row["note"],
    )


def _config(row: dict[str, str]) -> ModelConfig:
    if row["model"]:
        return PUBLISHED_MODELS[row["model"]].config
    sizes: dict[str, Any] = {
        name: int(row[name]) for name in ("n_layers", "n_heads", "d_model", "vocab_size")
    }
    return ModelConfig(
        **sizes, max_seq_len=2048, norm="layer", activation="gelu", position="learned", bias=True
    )


def _number(cell: str) -> float | None:
    return float(cell) if cell else None
