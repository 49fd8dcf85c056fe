"""One training step against LLaMA and GPT-2 code of as many parameters, in the same run.

`python tests/benchmarks/bench_step.py` prints the table and writes build/bench/step.json. Ours and
theirs alternate, so a slower minute of the machine hits all; ratios are between medians. Targets:
the tokens per second of transformers' LLaMA times 1.15 in float32 and 1.5 in bfloat16, at least
those of GPT-2 code, at least 75% of the machine's measured matrix-product rate, and in bfloat16 at
least 1.6x our float32 where the processor has it.

GPT-2 comes twice, both with PyTorch's fused attention and no dropout: transformers' own, and
`PlainGPT2`, the same decoder in the fewest operations that PyTorch offers, without biases, which is
how the small training scripts write it. We enter with our default design and with GPT-2's.
"""

import json
import os
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rounds import Action, profiler_table, take_turns, training_step
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

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
LIKE_GPT2 = replace(
    CONFIG,
    norm="layer",
    norm_bias=False,
    activation="gelu",
    position="learned",
    d_ff=4 * CONFIG.d_model,
)
PAIRS = (
    ("ours", "transformers"),
    ("ours", "plain GPT-2"),
    ("ours", "transformers GPT-2"),
    ("ours like GPT-2", "plain GPT-2"),
)


def theirs() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB, hidden_size=CONFIG.d_model, num_hidden_layers=CONFIG.n_layers,
            num_attention_heads=CONFIG.n_heads, intermediate_size=CONFIG.d_ff,
            max_position_embeddings=LENGTH, tie_word_embeddings=False,
        )
    )  # fmt: skip


def their_gpt2() -> GPT2LMHeadModel:
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB, n_embd=CONFIG.d_model, n_layer=CONFIG.n_layers,
            n_head=CONFIG.n_heads, n_positions=LENGTH, tie_word_embeddings=False,
            activation_function="gelu", resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
            bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip
    model.set_attn_implementation("sdpa")
    return model


class PlainBlock(nn.Module):
    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        heads = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class PlainGPT2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = CONFIG.d_model
        self.tokens, self.positions = nn.Embedding(VOCAB, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.Sequential(
            *(PlainBlock(width, CONFIG.n_heads) for _ in range(CONFIG.n_layers))
        )
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, VOCAB, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def make_steps() -> dict[str, Action]:
    torch.manual_seed(0)
    tokens = torch.randint(VOCAB, (BATCH, LENGTH + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    ours, ours_like_gpt2 = Transformer(CONFIG), Transformer(LIKE_GPT2)
    llama, gpt2, plain = theirs(), their_gpt2(), PlainGPT2()
    sizes = [
        sum(p.numel() for p in model.parameters())
        for model in (ours, llama, ours_like_gpt2, plain, gpt2)
    ]
    assert sizes[0] == sizes[1] and sizes[2] == sizes[3] and max(sizes) < 1.005 * min(sizes)

    def our_loss(model: Transformer) -> Tensor:
        return next_token_loss(model, {"inputs": inputs, "targets": targets})

    def loss_of(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    losses: dict[str, tuple[nn.Module, Callable[[], Tensor]]] = {
        "ours": (ours, lambda: our_loss(ours)),
        "transformers": (llama, lambda: loss_of(llama(input_ids=inputs, use_cache=False).logits)),
        "ours like GPT-2": (ours_like_gpt2, lambda: our_loss(ours_like_gpt2)),
        "plain GPT-2": (plain, lambda: loss_of(plain(inputs))),
        "transformers GPT-2": (
            gpt2, lambda: loss_of(gpt2(input_ids=inputs, use_cache=False).logits)
        ),
    }  # fmt: skip
    steps = {
        f"{name} float32": training_step(model, loss) for name, (model, loss) in losses.items()
    }
    if supports_bfloat16("cpu"):
        for name, (model, loss) in losses.items():
            steps[f"{name} bfloat16"] = training_step(model, loss, bfloat16=True)
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
    load = os.getloadavg()[0]  # of other programs, which share caches and cores
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
        f"{mine} / {other}, {kind}": seconds[f"{other} {kind}"] / seconds[f"{mine} {kind}"]
        for kind in ("float32", "bfloat16")
        if f"ours {kind}" in seconds
        for mine, other in PAIRS
    }
    if "ours bfloat16" in seconds:
        ratios["our bfloat16 / our float32"] = seconds["ours float32"] / seconds["ours bfloat16"]
    shares = {
        f"{kind} FLOPs / peak, float32": count / seconds["ours float32"] / peak["float32"]
        for kind, count in flops.items()
    }
    report = {
        "machine": machine_class(),
        "versions": versions("transformers"),
        "threads": THREADS,
        "load": load,
        "tokens_per_second": {name: tokens / value for name, value in seconds.items()},
        "peak_flops_per_second": peak,
        "flops_per_step": flops,
        "ratios": ratios,
        "share_of_peak": shares,
        "profile_float32": profiler_table(steps["ours float32"]),
        "profile_transformers_float32": profiler_table(steps["transformers float32"]),
        "profile_plain_gpt2_float32": profiler_table(steps["plain GPT-2 float32"]),
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
