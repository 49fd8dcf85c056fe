"""Greedy decoding of SmolLM2 against transformers' `generate`, in the same run.

`python tests/benchmarks/bench_decoding.py` prints the table and writes build/bench/decoding.json.
Float32, one text, key/value cache. Ours and theirs alternate, so a slower minute of the machine
hits both; ratios are between medians. Each new token has to read all weights, so the bound is the
rate at which this machine reads memory, measured between the rounds by summing a large array.
Target: at least twice the tokens per second of transformers.
"""

import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rounds import profiler_table, timed
from transformers import LlamaForCausalLM

from llmlib.architecture import Transformer
from llmlib.architecture.kernels.input_major import input_major
from llmlib.architecture.pretrained import load_pretrained, load_tokenizer, save_pretrained
from llmlib.core.files import atomic_write
from llmlib.core.hardware.machine import machine_class, versions
from llmlib.utilization import GREEDY, generate

NAME = "smollm2-135m-instruct"
THREADS, REPEATS, NEW_TOKENS = 2, 7, 64
OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "decoding.json"
QUESTION = "Explain in a few sentences why the sky is blue."

Run = Callable[[], list[int]]


def our_run(model: Transformer, prompt: list[int]) -> Run:
    return lambda: generate(model, [prompt], max_new_tokens=NEW_TOKENS, sampling=GREEDY)[0]


def their_run(folder: str, prompt: list[int]) -> Run:
    model: Any = LlamaForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([prompt])
    options = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}

    def run() -> list[int]:
        text = model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **options)
        return text[0, len(prompt) :].tolist()

    return run


def make_runs() -> tuple[dict[str, Run], int]:
    """Return the ways to decode, which give the same text, and the bytes of the weights."""
    prompt = load_tokenizer(NAME).encode_chat([{"role": "user", "content": QUESTION}])
    plain, rearranged = load_pretrained(NAME), input_major(load_pretrained(NAME))
    assert isinstance(rearranged, Transformer)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(plain, folder)
        runs = {
            "transformers": their_run(folder, prompt),
            "ours, as loaded": our_run(plain, prompt),
            "ours, input-major": our_run(rearranged, prompt),
        }
    texts = {name: run() for name, run in runs.items()}  # also the warm-up
    assert len({tuple(text) for text in texts.values()}) == 1, "the texts differ"
    return runs, sum(parameter.nbytes for parameter in plain.parameters())


def measure(runs: dict[str, Run]) -> tuple[dict[str, list[float]], list[float]]:
    """Return tokens per second of each run, and bytes per second read between them."""
    large = torch.ones(2**26)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    read: list[float] = []
    for _ in range(REPEATS):
        for name, run in runs.items():
            rates[name].append(NEW_TOKENS / timed(run))
            read.append(large.nbytes / min(timed(large.sum) for _ in range(3)))
    return rates, read


def main() -> None:
    torch.set_num_threads(THREADS)
    runs, weight_bytes = make_runs()
    rates, read = measure(runs)
    median = {name: statistics.median(values) for name, values in rates.items()}
    bandwidth = statistics.median(read)
    report = {
        "machine": machine_class(),
        "versions": versions("transformers"),
        "threads": THREADS,
        "new_tokens": NEW_TOKENS,
        "tokens_per_second": median,
        "spread": {name: [min(values), max(values)] for name, values in rates.items()},
        "read_bytes_per_second": bandwidth,
        "weight_bytes": weight_bytes,
        "ratios": {
            f"{name} / transformers": rate / median["transformers"]
            for name, rate in median.items()
            if name != "transformers"
        },
        "share_of_bandwidth": {
            name: rate * weight_bytes / bandwidth for name, rate in median.items()
        },
        "profile": profiler_table(runs["ours, input-major"]),
    }
    show(report)
    atomic_write(OUTPUT, json.dumps(report, indent=1) + "\n")


def show(report: dict) -> None:
    title = f"SmolLM2-135M, float32, one text; {report['machine']}, {THREADS} threads"
    table = Table("run", "tokens/s", "lowest", "highest", "of read bandwidth", title=title)
    for name, rate in report["tokens_per_second"].items():
        low, high = report["spread"][name]
        share = report["share_of_bandwidth"][name]
        table.add_row(name, f"{rate:.1f}", f"{low:.1f}", f"{high:.1f}", f"{share:.0%}")
    console = Console(width=110)
    console.print(table)
    console.print(f"read bandwidth {report['read_bytes_per_second'] / 1e9:.1f} GB/s")
    for name, value in report["ratios"].items():
        console.print(f"{name}: {value:.2f}")
    print(report["profile"])


if __name__ == "__main__":
    main()
