"""What cheaper attention costs in quality: variants at equal tokens, and grouping afterwards."""

import itertools
import math
from typing import Any

from llmlib.architecture.attention.grouping import group_heads
from llmlib.architecture.attention.sparse_masks import count_attended_pairs
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import kv_cache_bytes
from llmlib.architecture.transformer import Transformer
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import Interval, paired_interval
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.experiments.short_training import loss_on_text, train_briefly

LENGTH, BATCH, STEPS, LR, WARMUP = 128, 8, 200, 3e-3, 20
INIT_STD = 0.02 * math.sqrt(768 / 96)  # the usual 0.02 is for widths like GPT-2's, of 768
UPTRAINING = STEPS // 20  # a twentieth of the training, as in the paper
SEEDS = (0, 1, 2)

BASELINE = "multi-head"
VARIANTS: dict[str, dict[str, Any]] = {
    BASELINE: {},
    "grouped-query, 2": {"n_kv_heads": 2},
    "multi-query": {"n_kv_heads": 1},
    "latent, 36 + 12": {"mixer": "latent", "latent_dim": 36, "rope_head_dim": 12},
    "window of 16": {"attention": "window", "window": 16},
    "strided, 12": {"attention": "strided", "stride": 12},
    "fixed, 12": {"attention": "fixed", "stride": 12},
}
"""What differs from multi-head attention, by the variant's name.

The latent variant and two key/value heads keep equally many numbers a token in the cache: 48.
"""

CONVERSION = "conversion"
GROUPINGS = {f"G = {groups}": groups for groups in (4, 2, 1)}
SMALLER_CACHES = ("grouped-query, 2", "multi-query", "latent, 36 + 12")
SPARSE = ("window of 16", "strided, 12", "fixed, 12")


def config_of(variant: str) -> ModelConfig:
    """Return a variant's configuration: four layers of eight heads, one thing changed."""
    base = ModelConfig(
        vocab_size=VOCAB_SIZE, d_model=96, n_layers=4, n_heads=8, d_ff=256, max_seq_len=LENGTH,
        init_std=INIT_STD,
    )  # fmt: skip
    return base.replace(**VARIANTS[variant])


def rate(step: int, warmup: int = WARMUP) -> float:
    """Return the learning rate: a linear warm-up, then constant."""
    return LR * min(1.0, (step + 1) / warmup)


def train(model: Transformer, seed: int, steps: int, warmup: int = WARMUP) -> float:
    """Train in place and return the held-out loss, in nats a token; the seed decides the rows."""
    train_briefly(
        model, short_text().train, lr=lambda step: rate(step, warmup), steps=steps, batch=BATCH,
        seed=seed, length=LENGTH,
    )  # fmt: skip
    return _held_out_loss(model)


def _held_out_loss(model: Transformer) -> float:
    return round(loss_on_text(model, short_text().held_out, length=LENGTH), 4)


def measure(run: Run, *, steps: int = STEPS, uptraining: int = UPTRAINING) -> Run:
    """Train one variant from one seed, or convert a multi-head model and train on.

    A variant has its loss, and what it keeps in memory and computes; a conversion the losses of the
    model and of its groupings, at once and after `uptraining` further updates.
    """
    common = {
        "unigram_loss": round(short_text().unigram_loss, 4),
        "steps": steps,
        "tokens": steps * BATCH * LENGTH,
        "text_sha256": short_text().sha256,
    }
    is_conversion = run["variant"] == CONVERSION
    config = config_of(BASELINE if is_conversion else run["variant"])
    seed_everything(run["seed"])
    model = Transformer(config)
    loss = train(model, run["seed"], steps)
    if is_conversion:
        return common | _converted(model, run["seed"], loss, uptraining)
    return common | {
        "held_out_loss": loss,
        "parameters": sum(p.numel() for p in model.parameters()),
        "cache_numbers": kv_cache_bytes(config, 1, 1, bytes_per_number=1) // config.n_layers,
        "pairs": count_attended_pairs(config, LENGTH),
    }


def _converted(model: Transformer, seed: int, loss: float, uptraining: int) -> Run:
    """Group the heads of a trained model, and train it and the original on with the same text."""
    result: Run = {"before": loss, "uptraining": uptraining}
    models = {BASELINE: model} | {name: group_heads(model, g) for name, g in GROUPINGS.items()}
    for name, each in models.items():
        converted = _held_out_loss(each)
        after = train(each, 1000 + seed, uptraining, warmup=max(1, uptraining // 3))
        result[name] = {"converted": converted, "uptrained": after}
    return result


def conversion_cost(runs: Runs, grouping: str, when: str) -> Interval:
    """Return by how many nats a token a grouped model is worse than the unchanged one.

    Either at once, `converted`, or after training on, `uptrained`.
    """
    grouped, unchanged = (
        runs.values(f"{name}.{when}", variant=CONVERSION) for name in (grouping, BASELINE)
    )
    return paired_interval(grouped, unchanged)


def _against_multi_head(runs: Runs, variant: str) -> Interval:
    return runs.difference("held_out_loss", variant=(variant, BASELINE))


def _smaller_caches_are_hardly_worse(runs: Runs) -> bool:
    found = [_against_multi_head(runs, variant) for variant in SMALLER_CACHES]
    seeds = [runs.differences("held_out_loss", variant=(v, BASELINE)) for v in SMALLER_CACHES]
    undecided = all(d.value < 0.05 and not d.shows_difference and d.high < 0.15 for d in found)
    return undecided and min(map(min, seeds)) > 0


def _caches_are_a_quarter_or_less(runs: Runs) -> bool:
    whole = set(runs.values("cache_numbers", variant=BASELINE))
    sizes = (max(runs.values("cache_numbers", variant=variant)) for variant in SMALLER_CACHES)
    return whole == {192} and max(sizes) <= 48


def _sparse_patterns_help(runs: Runs) -> bool:
    (pairs,) = set(runs.values("pairs", variant=BASELINE))
    return all(
        _against_multi_head(runs, name).high < -0.05
        and max(runs.values("pairs", variant=name)) < pairs / 3
        for name in SPARSE
    )


def _grouping_costs(runs: Runs) -> bool:
    losses = [
        runs.values(f"{name}.converted", variant=CONVERSION) for name in (BASELINE, *GROUPINGS)
    ]
    return all(paired_interval(few, more).low > 0 for more, few in itertools.pairwise(losses))


def _uptraining_repairs_a_part(runs: Runs) -> bool:
    return all(
        later.low > 0 and later.value < 0.6 * conversion_cost(runs, name, "converted").value
        for name in GROUPINGS
        for later in [conversion_cost(runs, name, "uptrained")]
    )


def _training_from_nothing_is_better(runs: Runs) -> bool:
    new = runs.values("held_out_loss", variant="multi-query")
    converted = runs.values("G = 1.uptrained", variant=CONVERSION)
    return paired_interval(new, converted).high < 0


def _ends(run: Run) -> list[float]:
    if run["variant"] != CONVERSION:
        return [run["held_out_loss"]]
    return [run["before"], *(run[name]["uptrained"] for name in (BASELINE, *GROUPINGS))]


EXPERIMENT = Experiment(
    conditions={"variant": [*VARIANTS, CONVERSION]},
    seeds=SEEDS,
    measure=measure,
    equal=("steps", "tokens", "unigram_loss", "text_sha256"),
    depends=(
        "llmlib.architecture.attention.grouping",
        "llmlib.architecture.attention.sparse_masks",
    ),
    claims={
        "arch.attn-mqa-gqa": {
            "smaller caches are worse with every seed, by under 0.05 nats on average, no "
            "difference is shown, and none of 0.15 nats can hide": _smaller_caches_are_hardly_worse,
            "these caches hold 48 numbers a token and layer or fewer, multi-head attention's 192": (
                _caches_are_a_quarter_or_less
            ),
            "grouping a trained model's heads costs loss, more the fewer are left": _grouping_costs,
            "a twentieth more training repairs over 40% of what grouping costs on average, and "
            "not all": _uptraining_repairs_a_part,
            "multi-query attention trained from nothing is better than converted": (
                _training_from_nothing_is_better
            ),
        },
        "arch.attn-sparse": {
            "a window, strided and fixed patterns are better than full attention by over 0.05 "
            "nats, with less than a third of its pairs": _sparse_patterns_help,
        },
        "": {
            "every model ends more than a nat below the loss of token frequencies": lambda runs: (
                all(max(_ends(run)) < run["unigram_loss"] - 1 for run in runs)
            ),
        },
    },
)
