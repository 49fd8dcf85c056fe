"""Checks of the exercises of chapters/04_architecture/11_side_by_side.ipynb."""

import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from llmlib.architecture import counts
from llmlib.architecture.config import ModelConfig
from llmlib.core.statistics import paired_interval, t_factor
from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "04_architecture/11_side_by_side"

Shape = dict[str, Any]
Verdict = tuple[float, float, str]

_LLAMA_7B: Shape = {
    "vocab_size": 32000, "d_model": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 32,
    "head_dim": 128, "d_ff": 11008, "gated": True, "biases": False, "tied": False,
}  # fmt: skip
_MISTRAL: Shape = {**_LLAMA_7B, "n_kv_heads": 8, "d_ff": 14336}
_GPT_2: Shape = {
    "vocab_size": 50257, "d_model": 768, "n_layers": 12, "n_heads": 12, "n_kv_heads": 12,
    "head_dim": 64, "d_ff": 3072, "gated": False, "biases": True, "tied": True,
}  # fmt: skip
WIDE_HEADS: Shape = {
    "vocab_size": 101, "d_model": 24, "n_layers": 3, "n_heads": 5, "n_kv_heads": 1,
    "head_dim": 14, "d_ff": 67, "gated": True, "biases": True, "tied": True,
}  # fmt: skip


def _config(shape: Shape) -> ModelConfig:
    fields = {k: v for k, v in shape.items() if k not in ("gated", "biases", "tied")}
    return ModelConfig(
        **fields,
        max_seq_len=64,
        activation="swiglu" if shape["gated"] else "gelu",
        norm="layer" if shape["biases"] else "rms",
        bias=shape["biases"],
        tie_embeddings=shape["tied"],
    )


# Parameters of a shape


def _count(shape: Shape, **changes: Any) -> int:
    return counts.parameters(_config(shape | changes)).total


def _norms_without_bias(shape: Shape) -> int:
    norms = 2 * shape["n_layers"] + 1
    return _count(shape) - (norms * shape["d_model"] if shape["biases"] else 0)


def _square(shape: Shape) -> int:
    group = shape["n_heads"] // shape["n_kv_heads"]
    head = shape["d_model"] / shape["n_heads"]
    width = shape["d_model"] + 2 * round(shape["d_model"] / group)
    own = shape["head_dim"] * (shape["n_heads"] + 2 * shape["n_kv_heads"])
    fewer = shape["d_model"] * (own - width)
    fewer += shape["d_model"] * round(shape["n_heads"] * (shape["head_dim"] - head))
    fewer += own - width if shape["biases"] else 0
    return _count(shape) - shape["n_layers"] * fewer


count = Exercise(
    "count_decoder_parameters",
    title="the parameters of a decoder from its shape",
    points=2,
    reference=_count,
    rtol=0,
    atol=0.5,
    hints=(
        "Four parts: embedding (twice if it is not tied), attention, feed-forward layer, norms.",
        "Queries are H K wide, keys and values G K each; the output matrix is H K by D. A gated "
        "layer has three matrices of D by F, a plain one two.",
        "A bias is as long as its matrix's output is wide. There are 2 L + 1 norms.",
    ),
    cases={
        "LLaMA-7B: gated, untied, no biases": args(_LLAMA_7B),
        "Mistral-7B: 8 key/value heads for 32 query heads": args(_MISTRAL),
        "GPT-2 without its positions: plain, tied, with biases": args(_GPT_2),
        "heads that together are wider than the model, as PaLM's are narrower": args(WIDE_HEADS),
    },
    mistakes={
        "one norm is missing: the last block's output is normalized too": (
            lambda shape: _count(shape) - shape["d_model"] * (2 if shape["biases"] else 1)
        ),
        "the norms are missing: each has a weight for every number of the stream": (
            lambda shape: _count(shape) - counts.parameters(_config(shape)).norms
        ),
        "an untied model has a second V by D matrix for the logits": partial(_count, tied=True),
        "a tied model uses the embedding matrix again: count it once": partial(_count, tied=False),
        "a gated layer has three D by F matrices: gate, up and down": partial(_count, gated=False),
        "a plain layer has two D by F matrices, without the gate's": partial(_count, gated=True),
        "keys and values have `n_kv_heads` heads, which may be fewer than `n_heads`": (
            lambda shape: _count(shape, n_kv_heads=shape["n_heads"])
        ),
        "the biases are missing: one a matrix of a block, one a norm": partial(
            _count, biases=False
        ),
        "LayerNorm has a bias beside its weight where `biases` is true": _norms_without_bias,
        "the heads together are `n_heads * head_dim` wide, which need not be `d_model`": _square,
    },
)


# The work on one token


def _flops(shape: Shape, length: int) -> float:
    return counts.decoder_training_flops(_config(shape), 1, length, causal=True) / length


def _mixing(shape: Shape, keys: float) -> float:
    return 3 * 4 * shape["n_layers"] * shape["n_heads"] * shape["head_dim"] * keys


def _average(length: int) -> float:
    return (length + 1) / 2


def _logits(shape: Shape) -> int:
    return 6 * shape["vocab_size"] * shape["d_model"]


def _groups_save_work(shape: Shape, length: int) -> float:
    share = 1 - shape["n_kv_heads"] / shape["n_heads"]
    return _flops(shape, length) - share * _mixing(shape, _average(length))


def _narrow(shape: Shape, length: int) -> float:
    heads, d_model = shape["n_heads"] * shape["head_dim"], shape["d_model"]
    left_out = 6 * 2 * shape["n_layers"] * d_model * (heads - d_model)  # of queries and output
    return (
        _flops(shape, length) - left_out - _mixing(shape, _average(length)) * (1 - d_model / heads)
    )


def _with_small_parts(shape: Shape, length: int) -> float:
    plain = counts.parameters(_config({**shape, "biases": False}))
    return _flops(shape, length) + 6 * (_count(shape) - plain.total + plain.norms)


work = Exercise(
    "flops_per_token",
    title="the operations of training on one token",
    points=2,
    reference=_flops,
    rtol=1e-9,
    atol=0.5,
    hints=(
        "Each weight of a matrix is multiplied once and added once: 2 operations; forward and "
        "backward together take 3 times the forward pass.",
        "Beside the matrices: a query meets (T + 1) / 2 keys on average, and with each it takes K "
        "products for the score and K for the mix, in every head of every layer.",
        "The matrix that makes the logits works on every token, tied or not; looking up an "
        "embedding is no work; norms and biases are left out.",
    ),
    cases={
        "LLaMA-7B on rows of 7 tokens": args(_LLAMA_7B, 7),
        "LLaMA-7B on one token alone": args(_LLAMA_7B, 1),
        "LLaMA-7B on rows of 2,048 tokens": args(_LLAMA_7B, 2048),
        "Mistral-7B on rows of 4,096 tokens": args(_MISTRAL, 4096),
        "GPT-2 without its positions on rows of 1,024 tokens": args(_GPT_2, 1024),
        "heads that together are wider than the model, on rows of 5 tokens": args(WIDE_HEADS, 5),
    },
    mistakes={
        "a multiplication and an addition are two operations "
        "for each weight": lambda shape, length: _flops(shape, length) / 2,
        "that is the forward pass; the backward pass takes twice "
        "as much again": lambda shape, length: _flops(shape, length) / 3,
        "the embedding is looked up, not multiplied: only the matrix of the logits counts": (
            lambda shape, length: _flops(shape, length) + _logits(shape)
        ),
        "a tied matrix still makes the logits: it is one matrix with two uses": (
            lambda shape, length: _flops(shape, length) - shape["tied"] * _logits(shape)
        ),
        "the matrix that makes the logits is missing: it works on every token, tied or not": (
            lambda shape, length: _flops(shape, length) - _logits(shape)
        ),
        "scores and mix are missing: queries meet keys without any parameter": (
            lambda shape, length: _flops(shape, length) - _mixing(shape, _average(length))
        ),
        "under the causal mask a query meets (T + 1) / 2 keys on average, not T": (
            lambda shape, length: _flops(shape, length) + _mixing(shape, length - _average(length))
        ),
        "a query meets itself too: (T + 1) / 2 keys on average, not (T - 1) / 2": (
            lambda shape, length: _flops(shape, length) - _mixing(shape, 1)
        ),
        "a query meets itself too: (T + 1) / 2 keys on average, not T / 2": (
            lambda shape, length: _flops(shape, length) - _mixing(shape, 0.5)
        ),
        "K products for the score and K for the mix of the values: yours has only one": (
            lambda shape, length: _flops(shape, length) - _mixing(shape, _average(length)) / 2
        ),
        "every query head meets the keys, also where several share a key head": _groups_save_work,
        "queries are `n_heads * head_dim` wide in all, which need not be `d_model`": _narrow,
        "norms and biases multiply nothing by a matrix: leave them out": _with_small_parts,
    },
)


# A verdict from a few seeds


def _says(low: float, high: float) -> Verdict:
    return low, high, "better" if high < 0 else "worse" if low > 0 else "none"


def _differences(ours: list[float], baseline: list[float]) -> list[float]:
    return [a - b for a, b in zip(ours, baseline, strict=True)]


def _verdict(ours: list[float], baseline: list[float]) -> Verdict:
    interval = paired_interval(ours, baseline)
    return _says(interval.low, interval.high)


def _ten_seeds() -> list[list[float]]:
    noise = torch.randn(2, 10, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    return (2.2 + torch.tensor([[0.02], [0.05]]) * noise).tolist()


def _of_differences(
    ours: list[float], baseline: list[float], half: Callable[[int, float], float]
) -> Verdict:
    """Put an interval around the mean difference, from their number and standard deviation."""
    differences = _differences(ours, baseline)
    mean = statistics.mean(differences)
    width = half(len(differences), statistics.stdev(differences))
    return _says(mean - width, mean + width)


def _unpaired(ours: list[float], baseline: list[float], factor: float) -> Verdict:
    both = math.hypot(statistics.stdev(ours), statistics.stdev(baseline))
    return _of_differences(ours, baseline, lambda n, _: factor * both / math.sqrt(n))


def _upside_down(ours: list[float], baseline: list[float]) -> Verdict:
    low, high, said = _verdict(ours, baseline)
    return low, high, {"better": "worse", "worse": "better", "none": "none"}[said]


def _extremes(ours: list[float], baseline: list[float]) -> Verdict:
    differences = _differences(ours, baseline)
    return _says(min(differences), max(differences))


seed_verdict = Exercise(
    "paired_verdict",
    title="better, worse or none, from the same seeds",
    points=3,
    reference=_verdict,
    hints=(
        "Take the difference within each seed first; only the differences have a spread from "
        "here on.",
        "The standard deviation divides by n - 1; that of the mean is smaller by the root of n.",
        "`t_factor(n)` is Student's factor for n seeds. Lower bits are better, so an interval "
        "below zero says `better`.",
    ),
    cases={
        "three seeds, much worse": args([2.5, 2.75, 2.625], [2.0, 2.25, 2.0]),
        "three seeds, all better, nearly alike": args([2.10, 2.31, 2.18], [2.13, 2.345, 2.205]),
        "three seeds, all better, far from alike": args([2.10, 2.20, 2.17], [2.13, 2.34, 2.18]),
        "five seeds": args([2.11, 2.20, 2.16, 2.13, 2.22], [2.10, 2.23, 2.18, 2.15, 2.21]),
        "ten seeds, another spread on each side": args(*_ten_seeds()),
        "two seeds": args([2.0, 2.25], [2.5, 2.5]),
        "equal runs, and runs that differ by the same everywhere": [
            args([2.0, 2.5, 2.25], [2.0, 2.5, 2.25]),
            args([2.0, 2.5, 2.25], [2.125, 2.625, 2.375]),
        ],
    },
    mistakes={
        "lower bits are better: an interval below zero says `better`": _upside_down,
        "subtract the baseline from ours, so that a gain is below zero": (
            lambda ours, baseline: _verdict(baseline, ours)
        ),
        "the spread is that of the differences within a seed; you took both designs' own": (
            lambda ours, baseline: _unpaired(ours, baseline, t_factor(len(ours)))
        ),
        "2 n - 2 degrees of freedom belong to runs that are no pairs; equal seeds make pairs: "
        "take their differences first": (
            lambda ours, baseline: _unpaired(ours, baseline, t_factor(2 * len(ours) - 1))
        ),
        "divide the squares by n - 1: the mean is estimated from the same n differences": partial(
            _of_differences, half=lambda n, s: t_factor(n) * s * math.sqrt((n - 1) / n / n)
        ),
        "1.96 is right for many seeds; for so few take Student's t, `t_factor(n)`": partial(
            _of_differences, half=lambda n, s: 1.96 * s / math.sqrt(n)
        ),
        "`t_factor` takes the number of seeds, n, not the n - 1 degrees of freedom": partial(
            _of_differences, half=lambda n, s: t_factor(n - 1) * s / math.sqrt(n)
        ),
        "divide by the root of n: the mean of n differences spreads less than one of them": partial(
            _of_differences, half=lambda n, s: t_factor(n) * s
        ),
        "that is where the differences lie; the question is where their mean lies": _extremes,
    },
)
