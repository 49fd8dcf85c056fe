"""One training step against transformers' LLaMA of the same shape, in the same run.

`python tests/benchmarks/bench_step.py` prints the table and writes build/bench/step.json. Ours and
theirs alternate, so a slower minute of the machine hits both; ratios are between medians. Targets:
at least 1.2x the tokens per second of transformers, at least 75% of the machine's measured
matrix-product rate, and in bfloat16 at least 1.6x our float32 where the processor has it.
"""

import json
import statistics
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rounds import Action, profiler_table, take_turns, training_step
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.counts import decoder_training_flops
from llmlib.core.files import atomic_write
from llmlib.core.hardware.device import supports_bfloat16
from llmlib.core.hardware.machine import machine_class, matmul_rate, versions
from llmlib.training import next_token_loss

BATCH, LENGTH, VOCAB, THREADS, REPEATS = 16, 256, 4096, 2, 12
OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "step.json"
CONFIG = ModelConfig(
    vocab_size=VOCAB, d_model=256, n_layers=6, n_heads=8, max_seq_len=LENGTH, tie_embeddings=False
)


def theirs() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB, hidden_size=CONFIG.d_model, num_hidden_layers=CONFIG.n_layers,
            num_attention_heads=CONFIG.n_heads, intermediate_size=CONFIG.d_ff,
            max_position_embeddings=LENGTH, tie_word_embeddings=False,
        )
    )  # fmt: skip


def make_steps() -> dict[str, Action]:
    torch.manual_seed(0)
    tokens = torch.randint(VOCAB, (BATCH, LENGTH + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    ours, llama = Transformer(CONFIG), theirs()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in llama.parameters())

    def our_loss() -> torch.Tensor:
        return next_token_loss(ours, {"inputs": inputs, "targets": targets})

    def their_loss() -> torch.Tensor:
        logits = llama(input_ids=inputs, use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    steps = {
        "ours float32": training_step(ours, our_loss),
        "transformers float32": training_step(llama, their_loss),
    }
    if supports_bfloat16("cpu"):
        steps["ours bfloat16"] = training_step(ours, our_loss, bfloat16=True)
        steps["transformers bfloat16"] = training_step(llama, their_loss, bfloat16=True)
    return steps


def measure(steps: dict[str, Action]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return the median seconds of each step, and the peaks measured between the rounds."""
    peaks: dict[str, list[float]] = {"float32": [], "bfloat16": []}

    def measure_peaks() -> None:
        for kind, rates in peaks.items():
            rates.append(matmul_rate(getattr(torch, kind), size=2048, seconds=0.3))

    times = take_turns(steps, REPEATS, after_each_round=measure_peaks)
    return {name: statistics.median(values) for name, values in times.items()}, peaks


def counted_flops(step: Action) -> int:
    """Count with torch's counter, which on a processor leaves out the fused attention kernel."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def main() -> None:
    torch.set_num_threads(THREADS)
    steps = make_steps()
    seconds, peaks = measure(steps)
    tokens = BATCH * LENGTH
    peak = {kind: statistics.median(rates) for kind, rates in peaks.items()}
    flops = {
        "torch's counter (no attention)": counted_flops(steps["ours float32"]),
        "causal": decoder_training_flops(CONFIG, BATCH, LENGTH, causal=True),
        "full": decoder_training_flops(CONFIG, BATCH, LENGTH),
    }
    ratios = {
        "ours / transformers, float32": seconds["transformers float32"] / seconds["ours float32"]
    }
    if "ours bfloat16" in seconds:
        ratios |= {
            "ours / transformers, bfloat16": seconds["transformers bfloat16"]
            / seconds["ours bfloat16"],
            "our bfloat16 / our float32": seconds["ours float32"] / seconds["ours bfloat16"],
        }
    shares = {
        f"{kind} FLOPs / peak, float32": count / seconds["ours float32"] / peak["float32"]
        for kind, count in flops.items()
    }
    report = {
        "machine": machine_class(),
        "versions": versions("transformers"),
        "threads": THREADS,
        "tokens_per_second": {name: tokens / value for name, value in seconds.items()},
        "peak_flops_per_second": peak,
        "flops_per_step": flops,
        "ratios": ratios,
        "share_of_peak": shares,
        "profile_float32": profiler_table(steps["ours float32"]),
    }
    show(report)
    atomic_write(OUTPUT, json.dumps(report, indent=1) + "\n")


def show(report: dict) -> None:
    console = Console(width=110)
    speeds = Table("step", "tokens/s", title=f"{report['machine']}, {THREADS} threads")
    for name, value in report["tokens_per_second"].items():
        speeds.add_row(name, f"{value:,.0f}")
    for kind, value in report["peak_flops_per_second"].items():
        speeds.add_row(f"matrix products {kind}", f"{value / 1e9:,.0f} GFLOP/s")
    console.print(speeds)
    table = Table("ratio", "value")
    for name, value in (*report["ratios"].items(), *report["share_of_peak"].items()):
        table.add_row(name, f"{value:.2f}")
    console.print(table)
    print(report["profile_float32"])


if __name__ == "__main__":
    main()
