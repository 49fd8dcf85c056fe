"""What cheaper attention costs in quality: the variants at equal tokens, and grouping afterwards.

`python -m llmlib.experiments attention_variants` makes the runs that the record still lacks;
`--minutes 5` begins no run after five minutes, and the same command goes on later.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.attention.grouping import group_heads
from llmlib.architecture.attention.sparse import count_pairs
from llmlib.architecture.counts import kv_cache_bytes
from llmlib.core.seeding import seed_everything
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import make_missing_runs
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.experiments.short_training import mean_loss, train_briefly

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


def config_of(variant: str) -> ModelConfig:
    """Return a variant's configuration: four layers of eight heads, one thing changed.

    Args:
        variant: One of `VARIANTS`.

    Returns:
        The configuration.
    """
    base = ModelConfig(
        vocab_size=VOCAB_SIZE, d_model=96, n_layers=4, n_heads=8, d_ff=256, max_seq_len=LENGTH,
        init_std=INIT_STD,
    )  # fmt: skip
    return base.replace(**VARIANTS[variant])


def rate(step: int, warmup: int = WARMUP) -> float:
    """Return the learning rate: a linear warm-up, then constant.

    Args:
        step: Number of the update, from 0.
        warmup: Updates of the warm-up.

    Returns:
        The rate.
    """
    return LR * min(1.0, (step + 1) / warmup)


def train(model: Transformer, seed: int, steps: int, warmup: int = WARMUP) -> float:
    """Train in place and measure on held-out text.

    Args:
        model: The model.
        seed: Decides the rows.
        steps: Number of updates.
        warmup: Updates of the warm-up.

    Returns:
        Nats a token, rounded.
    """
    text = short_text()
    train_briefly(
        model, text.train, lr=lambda step: rate(step, warmup), steps=steps, batch=BATCH,
        seed=seed, length=LENGTH,
    )  # fmt: skip
    return measured(model)


def measured(model: Transformer) -> float:
    """Measure a model on held-out text.

    Args:
        model: The model.

    Returns:
        Nats a token, rounded.
    """
    return round(mean_loss(model, short_text().held_out, length=LENGTH), 4)


def perform(run: Run, *, steps: int = STEPS, uptraining: int = UPTRAINING) -> Run:
    """Train one variant from one seed, or convert a multi-head model and train on.

    Args:
        run: `variant` and `seed`.
        steps: Number of updates.
        uptraining: Further updates after the conversion.

    Returns:
        Held-out losses, and what the variant keeps in memory and computes.
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
        "pairs": count_pairs(config, LENGTH),
    }


def _converted(model: Transformer, seed: int, loss: float, uptraining: int) -> Run:
    """Group the heads of a trained model, and train it and the original on with the same text."""
    result: Run = {"before": loss, "uptraining": uptraining}
    models = {"multi-head": model} | {f"G = {g}": group_heads(model, g) for g in (4, 2, 1)}
    for name, each in models.items():
        converted = measured(each)
        after = train(each, 1000 + seed, uptraining, warmup=max(1, uptraining // 3))
        result[name] = {"converted": converted, "uptrained": after}
    return result


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment.

    Yields:
        What identifies each run.
    """
    for seed in SEEDS:
        for variant in (*VARIANTS, CONVERSION):
            yield {"variant": variant, "seed": seed}


def differences(runs: Sequence[Run], variant: str) -> list[float]:
    """Return how much worse a variant is than multi-head attention, seed by seed.

    Equal seeds read equal rows, so what their order does to every variant cancels.

    Args:
        runs: Lines of the record.
        variant: One of `VARIANTS`.

    Returns:
        Nats a token, one for each seed.
    """
    losses = {
        (run["variant"], run["seed"]): run["held_out_loss"]
        for run in runs
        if run["variant"] != CONVERSION
    }
    seeds = sorted(seed for name, seed in losses if name == variant)
    return [losses[variant, seed] - losses[BASELINE, seed] for seed in seeds]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("attention_variants", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
