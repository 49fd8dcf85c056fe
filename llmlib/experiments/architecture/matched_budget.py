"""Every design of the chapter on the same tokens: what one changed field is worth at equal budget.

The decisive designs are run with three seeds, the others with one.
"""

import dataclasses
import functools
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from llmlib.architecture import counts
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import Interval, t_factor, t_interval
from llmlib.data.cleaning.steps import clean
from llmlib.data.corpora.document import Document, corpus_bytes
from llmlib.data.corpora.fixed import fixed_corpus
from llmlib.data.deduplication.near.overlap import drop_overlapping
from llmlib.data.stream.loader import TokenLoader
from llmlib.data.stream.packing import PackedTokens, pack
from llmlib.data.stream.splits import split_by_module
from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.training.config import TrainConfig
from llmlib.training.optimizers.schedules import Schedule
from llmlib.training.trainer import Trainer

VOCAB_SIZE, LENGTH, BATCH, STEPS = 2048, 256, 4, 384
TOKENS = STEPS * BATCH * LENGTH
HELD_OUT_WINDOWS = 128
SEEDS = (0, 1, 2)

BASELINE = "baseline"
DECISIVE: dict[str, dict[str, Any]] = {
    BASELINE: {},
    "LayerNorm": {"norm": "layer"},
    "post-norm": {"norm_placement": "post"},
    "GeLU": {"activation": "gelu"},
    "learned positions": {"position": "learned"},
    "ALiBi": {"position": "alibi"},
    "no positions": {"position": "none"},
    "multi-query": {"n_kv_heads": 1},
    "latent attention": {"mixer": "latent", "latent_dim": 64, "rope_head_dim": 16},
    "window of 32": {"attention": "window", "window": 32},
    "8 experts, 2 at a time": {"n_experts": 8, "experts_per_token": 2, "d_ff": 176},
    "Mamba": {"mixer": "mamba", "position": "none", "n_layers": 8},
    "RWKV": {"mixer": "rwkv", "position": "none", "norm": "layer", "norm_bias": True,
             "embedding_norm": True, "d_ff": 448},
    "RetNet": {"mixer": "retnet"},
}  # fmt: skip
"""What differs from the baseline, by the design's name; each is run with three seeds.

Mamba's blocks have no feed-forward layer, so there are two for one of the others, as in its paper.
The experts are half as wide as the dense layer and two work on each token: equal work a token.
"""

OTHERS: dict[str, dict[str, Any]] = {
    "DeepNorm": {"norm_placement": "deepnorm"},
    "sandwich norm": {"norm_placement": "sandwich"},
    "embedding norm": {"embedding_norm": True},
    "parallel sublayers": {"parallel": True},
    "biases": {"bias": True, "qkv_bias": True, "norm_bias": True},
    "norm on queries and keys": {"qk_norm": True},
    "ReLU": {"activation": "relu"},
    "Swish": {"activation": "swish"},
    "GeGLU": {"activation": "geglu"},
    "sinusoidal positions": {"position": "sinusoidal"},
    "T5 bias": {"position": "t5"},
    "Transformer-XL positions": {"position": "relative"},
    "grouped-query, 2 groups": {"n_kv_heads": 2},
    "strided, 16": {"attention": "strided", "stride": 16},
    "fixed, 16": {"attention": "fixed", "stride": 16},
    "S4": {"mixer": "s4", "position": "none"},
    "H3": {"mixer": "h3", "position": "none"},
    "Hyena": {"mixer": "hyena", "position": "none"},
}
"""The other designs, one seed each."""

DESIGNS = {**DECISIVE, **OTHERS}


def config_of(design: str) -> ModelConfig:
    """Return a design's configuration: LLaMA's choices at a million parameters, one thing changed.

    The tied embeddings are scaled by the root of the width (Vaswani et al. 2017, section 3.4).
    Without it a stream this narrow starts so small beside the layers' outputs that any design with
    a norm on the embedding looks 0.1 bits a byte better than it is.
    """
    base = ModelConfig(
        vocab_size=VOCAB_SIZE, d_model=128, n_layers=4, n_heads=4, max_seq_len=LENGTH, d_ff=352,
        embedding_scale=math.sqrt(128),
    )  # fmt: skip
    changes = dict(DESIGNS[design])
    if "activation" in changes:
        changes.setdefault("d_ff", 352 if changes["activation"] == "geglu" else 528)
    return base.replace(**changes)


@dataclasses.dataclass(frozen=True)
class Text:
    """The fixed corpus as two streams of tokens, of different modules."""

    train: PackedTokens
    held_out: PackedTokens
    bytes_per_token: float
    """Length of a held-out token, a separator a document included."""


@functools.cache
def prepared() -> Text:
    """Clean, drop near-duplicates, split by module and encode, as the capstone does."""
    kept, _ = drop_overlapping(clean(fixed_corpus()).documents, max_overlap=0.5)
    split = split_by_module(kept, 0.05)
    end = "<|endoftext|>"
    tokenizer = ByteBPE.train((document.text for document in split.train), VOCAB_SIZE, (end,))

    def stream(documents: Sequence[Document]) -> PackedTokens:
        ids = tokenizer.encode_batch([document.text for document in documents])
        return pack(ids, tokenizer.special_tokens[end])

    held_out = stream(split.held_out)
    n_bytes = corpus_bytes(split.held_out) + len(split.held_out)
    return Text(stream(split.train), held_out, round(n_bytes / held_out.n_tokens, 3))


def measure(run: Run) -> Run:
    config, seed = config_of(run["design"]), run["seed"]
    text = prepared()
    loaders = {
        name: TokenLoader(source, batch_size=BATCH, seq_len=LENGTH, seed=seed_of)
        for name, source, seed_of in (("train", text.train, seed), ("held", text.held_out, 0))
    }
    seed_everything(seed)
    settings = TrainConfig(
        steps=STEPS, optimizer="muon", lr=4e-3, muon_lr=0.02, weight_decay=0.0, clip=1.0,
        schedule=Schedule(kind="cosine", warmup=STEPS // 20, final=0.1), precision="auto",
        seed=seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            Transformer(config),
            loaders["train"],
            settings,
            Path(folder),
            held_out=[next(loaders["held"]) for _ in range(HELD_OUT_WINDOWS // BATCH)],
            show_progress=False,
        )
        result = trainer.run()
    if not result.finished or result.held_out_loss is None:
        raise KeyboardInterrupt("stopped in the middle of a run, which is not recorded")
    size = counts.parameters(config)
    return {
        "bits_per_byte": round(result.held_out_loss / math.log(2) / text.bytes_per_token, 5),
        "parameters": size.total,
        "active_parameters": size.active,
        "flops": counts.decoder_training_flops(config, BATCH, LENGTH, causal=True) * STEPS,
        "tokens": result.tokens,
        "config": {k: v for k, v in config.to_dict().items() if v != _default(k)},
    }


def _default(field: str) -> Any:
    return ModelConfig.__dataclass_fields__[field].default


@dataclasses.dataclass(frozen=True)
class Row:
    """A design's line in the table.

    Attributes:
        design: Its name.
        bits: Held-out bits per byte of each seed.
        parameters: All parameters.
        flops: Of the whole training run.
        difference: Mean of its bits minus the baseline's of the same seed.
        interval: 95% interval of that mean over the seeds; None with one seed.
        verdict: `better`, `worse`, `none` (the interval holds 0), or `one seed`.
    """

    design: str
    bits: tuple[float, ...]
    parameters: int
    flops: int | float
    difference: float
    interval: tuple[float, float] | None
    verdict: str


def table(runs: Sequence[Run]) -> list[Row]:
    """Compare every design with the baseline, seed by seed, in a row a design, best first.

    Equal seeds read equal batches, so a difference is taken within a seed, and what one seed's
    order of the text does to all designs cancels.
    """
    bits = {(run["design"], run["seed"]): run for run in runs}
    rows = []
    for design in DESIGNS:
        seeds = [s for s in SEEDS if (design, s) in bits and (BASELINE, s) in bits]
        if not seeds:
            continue
        found = [bits[design, s]["bits_per_byte"] for s in seeds]
        against = [bits[BASELINE, s]["bits_per_byte"] for s in seeds]
        differences = [a - b for a, b in zip(found, against, strict=True)]
        interval, verdict = None, "one seed"
        if len(seeds) > 1:
            _, low, high = t_interval(differences)
            interval = (low, high)
            verdict = "better" if high < 0 else "worse" if low > 0 else "none"
        sample = bits[design, seeds[0]]
        rows.append(
            Row(
                design,
                tuple(found),
                sample["parameters"],
                sample["flops"],
                statistics.mean(differences),
                interval,
                verdict,
            )  # fmt: skip
        )
    return sorted(rows, key=lambda row: statistics.mean(row.bits))


def show(runs: Sequence[Run]) -> Table:
    view = Table(
        "design", "bits/byte", "against baseline", "parameters", "FLOPs", "difference",
        title=f"{TOKENS:,} tokens each",
    )  # fmt: skip
    for row in table(runs):
        spread = (
            "" if row.interval is None else f" [{row.interval[0]:+.3f}, {row.interval[1]:+.3f}]"
        )
        view.add_row(
            row.design, f"{statistics.mean(row.bits):.3f}", f"{row.difference:+.3f}{spread}",
            f"{row.parameters:,}", f"{row.flops:.2e}", row.verdict,
        )  # fmt: skip
    return view


FREQUENCIES = 3.35
"""Bits a byte by the tokens' frequencies in the training text."""


def _with(runs: Runs, verdict: str) -> set[str]:
    return {row.design for row in table(runs) if row.verdict == verdict}


def _against(runs: Runs, design: str, other: str = BASELINE) -> Interval:
    return runs.difference("bits_per_byte", design=(design, other))


def _differences(runs: Runs, design: str) -> list[float]:
    return runs.differences("bits_per_byte", design=(design, BASELINE))


COMPARED = [design for design in DECISIVE if design != BASELINE]
SMALLER_CACHES = ("multi-query", "latent attention")


def _stand_together(runs: Runs) -> set[str]:
    """Name the designs whose difference survives thirteen comparisons, by Bonferroni."""
    factor = t_factor(len(SEEDS), 1 - 0.05 / len(COMPARED))
    found = {design: _differences(runs, design) for design in COMPARED}
    return {
        design
        for design, d in found.items()
        if abs(statistics.mean(d)) > factor * statistics.stdev(d) / math.sqrt(len(d))
    }


def _pairs_spread_less(runs: Runs) -> bool:
    def spread(design: str) -> float:
        return statistics.stdev(runs.values("bits_per_byte", design=design))

    ratios = [
        math.hypot(spread(BASELINE), spread(design)) / statistics.stdev(_differences(runs, design))
        for design in COMPARED
    ]
    return statistics.median(ratios) > 2 and sum(ratio > 1 for ratio in ratios) == 12


def _the_others_are_undecided(runs: Runs) -> bool:
    undecided = ("8 experts, 2 at a time", "post-norm", "LayerNorm", *SMALLER_CACHES)
    return _with(runs, "none") == {*undecided, BASELINE} and all(
        _against(runs, design).within(0.031) for design in undecided
    )


def _caches_are_undecided(runs: Runs) -> bool:
    return all(
        min(_differences(runs, design)) > 0
        and not (found := _against(runs, design)).shows_difference
        and found.value < 0.011
        for design in SMALLER_CACHES
    )


def _learned_positions_gain_nothing(runs: Runs) -> bool:
    gain = _against(runs, "learned positions", "no positions")
    others = (_against(runs, design, "no positions") for design in ("ALiBi", BASELINE))
    undecided = not gain.shows_difference and gain.within(0.015)
    return undecided and all(other.high < 0 for other in others)


def _best_is_not_largest(runs: Runs) -> bool:
    rows = {row.design: row for row in table(runs)}
    best, base = min(rows.values(), key=lambda row: row.difference), rows[BASELINE]
    of_all = np.corrcoef(
        [[row.flops, row.parameters, row.difference] for row in rows.values()], rowvar=False
    )
    return (
        best.design == "RWKV"
        and best.parameters < base.parameters
        and best.flops < 0.9 * base.flops
        and bool((abs(of_all[:2, 2]) < 0.2).all())
    )


EXPERIMENT = Experiment(
    conditions=[*({"design": d} for d in DECISIVE), *({"design": d, "seed": 0} for d in OTHERS)],
    seeds=SEEDS,
    measure=measure,
    equal=("tokens",),
    depends=(
        "llmlib.training.trainer",
        "llmlib.training.optimizers.muon",
        "llmlib.architecture.block",
    ),
    table=show,
    claims={
        "": {
            "every run is more than a bit a byte better than frequencies, and none is below 2": (
                lambda runs: (
                    max(run["bits_per_byte"] for run in runs) < FREQUENCIES - 1
                    and min(run["bits_per_byte"] for run in runs) > 2
                )
            ),
            "RWKV, ALiBi, a window of 32, Mamba and GeLU beat the baseline": lambda runs: (
                _with(runs, "better") == {"RWKV", "ALiBi", "window of 32", "Mamba", "GeLU"}
            ),
            "RetNet, learned positions and no positions are worse": lambda runs: (
                _with(runs, "worse") == {"RetNet", "learned positions", "no positions"}
            ),
            "of experts, post-norm, LayerNorm, multi-query and latent attention no difference is "
            "shown, below 0.031 bits": _the_others_are_undecided,
            "when all thirteen comparisons must be right at once, RWKV, RetNet, learned positions "
            "and no positions are left": lambda runs: (
                _stand_together(runs) == {"RWKV", "RetNet", "learned positions", "no positions"}
            ),
            "in 12 of 13 comparisons differences within a seed spread less than those of "
            "independent runs would, in the median less than half as much": _pairs_spread_less,
            "no gain of learned positions over none is shown, below 0.015 bits, and ALiBi's and "
            "RoPE's is": _learned_positions_gain_nothing,
            "designs with smaller caches are worse in every seed, by less than 0.011 bits on "
            "average, which shows no difference": _caches_are_undecided,
            "the best design, RWKV, is neither the largest nor the most work": _best_is_not_largest,
            "RWKV is better than Mamba, ALiBi and a window of 32": lambda runs: all(
                _against(runs, "RWKV", d).high < 0 for d in ("Mamba", "ALiBi", "window of 32")
            ),
        },
    },
)
