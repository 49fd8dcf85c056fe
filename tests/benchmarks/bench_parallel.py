"""Our parallel training against torch's DDP and FSDP2, and a pipeline against its theory.

`python tests/benchmarks/bench_parallel.py` prints the table and writes build/bench/parallel.json.
Two processes of one thread each take turns with ours and theirs on the same rows, so that a slower
minute hits both; a ratio is the median of the rounds' ratios. Targets: data parallelism within 10%
of DDP, ZeRO's stages 2 and 3 within twice FSDP2, 1F1B within twice its ideal, half of one process's
work over 1 - bubble. `--small` tries it out in seconds.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from rounds import Action, take_turns
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.core.files import atomic_write
from llmlib.core.hardware.machine import machine_class, versions
from llmlib.core.processes.launcher import launch
from llmlib.training.distributed import Objective
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.optimizers.adamw import adamw, adamw_from_groups
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.data_parallel import DataParallel
from llmlib.training.parallel.pipelines.orders import bubble, pipeline_orders, simulate
from llmlib.training.parallel.pipelines.stages import PipelineParallel
from llmlib.training.parallel.zero import ZeRO, ZeROStage

OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "parallel.json"
TARGETS = {"data parallel / DDP": 1.1, "ZeRO-2 / FSDP2": 2.0, "ZeRO-3 / FSDP2": 2.0,
           "1F1B / ideal": 2.0}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """A decoder, the rows of a process and a step, and how often each step is timed."""

    width: int = 256
    layers: int = 6
    vocabulary: int = 4096
    length: int = 128
    rows: int = 8
    micro_batches: int = 8
    rounds: int = 7

    @property
    def config(self) -> ModelConfig:
        return ModelConfig(
            vocab_size=self.vocabulary, d_model=self.width, n_layers=self.layers,
            n_heads=self.width // 32, max_seq_len=self.length, tie_embeddings=False,
        )  # fmt: skip

    def batch(self, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        shape = (self.rows, self.length + 1)
        tokens = torch.randint(self.vocabulary, shape, generator=generator)
        return {"inputs": tokens[:, :-1].contiguous(), "targets": tokens[:, 1:].contiguous()}


SMALL = Sizes(width=64, layers=2, vocabulary=256, length=32, rows=2, micro_batches=4, rounds=3)


def decoder(sizes: Sizes) -> Transformer:
    torch.manual_seed(0)
    return Transformer(sizes.config)


def together(step: Action) -> Action:
    """Begin a step on both processes at the same time."""

    def begin() -> None:
        dist.barrier()
        step()

    return begin


def our_replicas(sizes: Sizes, rank: int) -> Action:
    model, batch = decoder(sizes), sizes.batch(rank)
    parallel, optimizer = DataParallel(model, Communicator()), adamw(model, 1e-3)

    def step() -> None:
        parallel.backward(next_token_loss, [batch])
        optimizer.step()

    return step


def our_parts(sizes: Sizes, rank: int, stage: ZeROStage) -> Action:
    batch = sizes.batch(rank)
    sharded = ZeRO(
        decoder(sizes), Communicator(), lambda groups: adamw_from_groups(groups, 1e-3), stage=stage
    )

    def step() -> None:
        sharded.backward(next_token_loss, [batch])
        sharded.step()

    return step


def theirs(sizes: Sizes, rank: int, spread: Callable[[Objective], nn.Module]) -> Action:
    model, batch = decoder(sizes), sizes.batch(rank)
    objective = spread(Objective(model, next_token_loss))
    optimizer = adamw(model, 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        objective(batch).backward()
        optimizer.step()

    return step


def in_parts(objective: Objective, *, after_forward: bool) -> nn.Module:
    """Shard as ZeRO's stage 3, or as stage 2 where parameters stay whole after the forward pass."""
    for block in objective.model.blocks:  # pyright: ignore[reportGeneralTypeIssues]
        fully_shard(block, reshard_after_forward=after_forward)
    fully_shard(objective, reshard_after_forward=after_forward)
    return objective


def spread_out(rank: int, world_size: int, sizes: Sizes) -> dict[str, dict[str, list[float]]]:
    """Time ours and theirs in turns, each pair by itself; return the seconds of each round."""
    pairs: dict[str, tuple[Action, Action]] = {
        "data parallel / DDP": (
            our_replicas(sizes, rank),
            theirs(sizes, rank, DistributedDataParallel),
        ),
    }
    for stage in (2, 3):
        pairs[f"ZeRO-{stage} / FSDP2"] = (
            our_parts(sizes, rank, stage),
            theirs(sizes, rank, lambda one, s=stage: in_parts(one, after_forward=s == 3)),
        )
    return {
        name: take_turns({"ours": together(ours), "theirs": together(other)}, sizes.rounds)
        for name, (ours, other) in pairs.items()
    }


def pipelined(rank: int, world_size: int, sizes: Sizes) -> dict[str, list[float]]:
    """Time a step of 1F1B, and all its micro-batches on one process while the other waits."""
    batches = [sizes.batch(seed) for seed in range(sizes.micro_batches)]
    whole, stages = decoder(sizes), PipelineParallel(decoder(sizes), Communicator())

    def alone() -> None:
        if rank == 0:
            for batch in batches:
                next_token_loss(whole, batch).backward()
        dist.barrier()

    return take_turns(
        {"ours": together(lambda: stages.backward(batches)), "one process": together(alone)},
        sizes.rounds,
    )


def median_ratio(times: Mapping[str, list[float]], other: str, share: float = 1.0) -> float:
    """Return the median over the rounds of our seconds by a share of the other's."""
    pairs = zip(times["ours"], times[other], strict=True)
    return statistics.median(ours / (share * theirs) for ours, theirs in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="sizes of a trial")
    sizes = SMALL if parser.parse_args().small else Sizes()
    load = os.getloadavg()[0]
    orders = pipeline_orders("1f1b", 2, sizes.micro_batches)
    share = 1 / 2 / (1 - bubble(simulate(orders, {"F": 1.0, "B": 2.0})))
    spread = launch(spread_out, 2, sizes, timeout_s=1200)[0]
    stages = launch(pipelined, 2, sizes, timeout_s=1200)[0]
    seconds: dict[str, Any] = {**spread, "1F1B / ideal": stages}
    ratios = {name: median_ratio(times, "theirs") for name, times in spread.items()}
    ratios["1F1B / ideal"] = median_ratio(stages, "one process", share)
    report = {
        "machine": machine_class(), "versions": versions(), "load": load, "threads": 1,
        "processes": 2, "sizes": vars(sizes), "ideal_share_of_one_process": share,
        "seconds": seconds, "ratios": ratios,
    }  # fmt: skip
    table = Table("ratio, median of the rounds", "value", "target", title=report["machine"])
    for name, value in ratios.items():
        table.add_row(name, f"{value:.2f}", f"at most {TARGETS[name]:.1f}")
    Console(width=100).print(table)
    atomic_write(OUTPUT, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
