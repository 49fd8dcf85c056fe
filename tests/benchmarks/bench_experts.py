"""A training step with experts against a dense one of as many FLOPs a token, in the same run.

`python tests/benchmarks/bench_experts.py` prints the table and writes build/bench/experts.json.
The steps take turns, so a slower minute of the machine hits all; ratios are medians of the rounds'
own ratios. The dense model's feed-forward layer is as wide as the experts that a token uses
together, so the products are of equal size and what is left is the price of routing: the router,
the sorting and copying of tokens, smaller matrices, and an optimizer with more parameters to move.
Target: with eight experts, of which a token uses two, at most 1.3 times the dense step.
"""

import json
import os
import statistics
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rounds import Action, profiler_table, take_turns, training_step
from transformers import MixtralConfig, MixtralForCausalLM

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.files import atomic_write
from llmlib.core.hardware.machine import machine_class, versions
from llmlib.training import next_token_loss

BATCH, LENGTH, VOCAB, REPEATS = 8, 256, 4096, 5
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "experts.json"
TARGET = 1.3
DENSE = ModelConfig(
    vocab_size=VOCAB, d_model=256, n_layers=6, n_heads=8, d_ff=768, max_seq_len=LENGTH,
    tie_embeddings=False,
)  # fmt: skip
TOP_2 = DENSE.replace(n_experts=8, experts_per_token=2, d_ff=384)
CONFIGS = {
    "dense": DENSE,
    "2 of 8 experts": TOP_2,
    "2 of 8, capacity 1.25": TOP_2.replace(expert_capacity=1.25),
    "1 of 8 experts": DENSE.replace(n_experts=8, experts_per_token=1),
    "1 shared + 3 of 16, a quarter as wide": DENSE.replace(
        n_experts=16, experts_per_token=3, n_shared_experts=1, d_ff=192
    ),
}


def mixtral() -> MixtralForCausalLM:
    return MixtralForCausalLM(
        MixtralConfig(
            vocab_size=VOCAB, hidden_size=256, num_hidden_layers=6, num_attention_heads=8,
            num_key_value_heads=8, intermediate_size=384, num_local_experts=8,
            num_experts_per_tok=2, max_position_embeddings=LENGTH, tie_word_embeddings=False,
            output_router_logits=True, sliding_window=None,
        )
    )  # fmt: skip


def make_steps() -> dict[str, Action]:
    torch.manual_seed(0)
    tokens = torch.randint(VOCAB, (BATCH, LENGTH + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def ours(config: ModelConfig) -> Action:
        model = Transformer(config)

        # In training it holds the balance loss already, as theirs does below.
        batch = {"inputs": inputs, "targets": targets}
        return training_step(model, lambda: next_token_loss(model, batch))

    steps = {name: ours(config) for name, config in CONFIGS.items()}
    theirs = mixtral()

    def their_loss() -> torch.Tensor:
        # Only with labels does transformers add its balance loss.
        return theirs(input_ids=inputs, labels=inputs, use_cache=False).loss

    steps["transformers' Mixtral, 2 of 8"] = training_step(theirs, their_loss)
    return steps


def main() -> None:
    torch.set_num_threads(THREADS)
    steps = make_steps()
    times = take_turns(steps, REPEATS)
    ratios = {
        name: statistics.median(a / b for a, b in zip(times[name], times["dense"], strict=True))
        for name in steps
    }
    report = {
        "machine": machine_class(),
        "versions": versions("transformers"),
        "threads": THREADS,
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "over_dense": ratios,
        "target": TARGET,
        "met": ratios["2 of 8 experts"] <= TARGET,
        "profile": profiler_table(steps["2 of 8 experts"], rows=20),
    }
    show(report)
    atomic_write(OUTPUT, json.dumps(report, indent=1) + "\n")


def show(report: dict) -> None:
    table = Table("step", "s", "over dense", title=f"{report['machine']}, {THREADS} threads")
    for name, seconds in report["seconds"].items():
        table.add_row(name, f"{seconds:.3f}", f"{report['over_dense'][name]:.2f}")
    Console(width=110).print(table)
    print(report["profile"])


if __name__ == "__main__":
    main()
