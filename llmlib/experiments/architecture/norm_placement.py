"""Where the norms stand, at twelve layers: a sweep of learning rates without warm-up."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import Interval, paired_interval
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.experiments.short_training import loss_on_text, train_briefly

N_LAYERS, STEPS, BATCH, LENGTH = 12, 100, 8, 32
SEEDS = (0, 1, 2)
RATES = (2.0**-10, 2.0**-8, 2.0**-6, 2.0**-4)
INIT_SCALE = 0.55
VARIANTS: dict[str, dict[str, object]] = {
    "post": {"norm_placement": "post"},
    "pre": {"norm_placement": "pre"},
    "sandwich": {"norm_placement": "sandwich"},
    "deepnorm": {"norm_placement": "deepnorm"},
    "pre, embedding norm": {"norm_placement": "pre", "embedding_norm": True},
    "pre, parallel": {"norm_placement": "pre", "parallel": True},
    "pre, biases": {"norm_placement": "pre", "bias": True},
}
"""What differs from the base configuration, by the name of the variant."""


def config_of(variant: str, n_layers: int = N_LAYERS, d_model: int = 48) -> ModelConfig:
    """Return the first Transformer's choices but for RoPE, with one placement of the norms."""
    base = ModelConfig(
        vocab_size=VOCAB_SIZE, d_model=d_model, n_layers=n_layers, n_heads=4, max_seq_len=64,
        norm="layer", activation="relu", tie_embeddings=False,
    )  # fmt: skip
    changes = VARIANTS[variant]
    return base.replace(**changes, **{k: changes["bias"] for k in ("norm_bias", "qkv_bias")
                                      if "bias" in changes})  # fmt: skip


def build(variant: str, seed: int, n_layers: int = N_LAYERS, d_model: int = 48) -> Transformer:
    r"""Build a variant whose matrices all start alike, so that only the placement differs.

    Normal with standard deviation $0.55 / \sqrt{D}$, which is GPT-2's 0.02 at its width of 768; the
    embeddings have variance 1. The library's own start makes the matrices that feed the residual
    stream smaller with the depth, which is a remedy too and would hide the difference. DeepNorm
    keeps its initialization, which is part of the method.
    """
    seed_everything(seed)
    model = Transformer(config_of(variant, n_layers, d_model))
    for name, parameter in model.named_parameters():
        if name == "embedding.weight":
            nn.init.normal_(parameter)
        elif parameter.dim() == 2 and not (variant == "deepnorm" and name.startswith("blocks.")):
            nn.init.normal_(parameter, std=INIT_SCALE / math.sqrt(d_model))
    return model


def layer_gradients(model: Transformer) -> list[float]:
    """Return the gradient's norm at the last matrix of each layer's feed-forward part."""
    matrices = [block.get_parameter("feedforward.out.weight") for block in model.blocks]
    return [torch.linalg.vector_norm(w.grad).item() for w in matrices if w.grad is not None]


def measure(run: Run, *, steps: int = STEPS, n_layers: int = N_LAYERS) -> Run:
    """Record gradients at the start, some losses, and the held-out one, None where not finite."""
    text = short_text()
    model = build(run["variant"], run["seed"], n_layers)
    gradients: list[float] = []

    def keep_first(step: int) -> None:
        if step == 0:
            gradients.extend(layer_gradients(model))

    losses = train_briefly(
        model,
        text.train,
        lr=run["lr"],
        steps=steps,
        batch=BATCH,
        length=LENGTH,
        seed=run["seed"],
        after_backward=keep_first,
    )
    held_out = loss_on_text(model, text.held_out, length=LENGTH)
    return {
        "first_layer_gradient": float(f"{gradients[0]:.5g}"),
        "last_layer_gradient": float(f"{gradients[-1]:.5g}"),
        "losses": [round(x, 3) if math.isfinite(x) else None for x in losses[::5]],
        "held_out_loss": round(held_out, 4) if math.isfinite(held_out) else None,
        "unigram_loss": round(text.unigram_loss, 4),
        "parameters": sum(p.numel() for p in model.parameters()),
        "text_sha256": text.sha256,
    }


def has_failed(run: Run) -> bool:
    """Say whether a run diverged: it ended no better than the tokens' frequencies, or not finite.

    A normalized network rarely overflows. Its typical failure is to get stuck where it predicts
    every token by its frequency alone, whatever it has read.
    """
    return run["held_out_loss"] is None or run["held_out_loss"] >= run["unigram_loss"]


def largest_stable_rate(runs: Sequence[Run]) -> float:
    """Return the largest rate of a variant and seed below which no run failed; 0 if all do."""
    stable = 0.0
    for run in sorted(runs, key=lambda run: run["lr"]):
        if has_failed(run):
            break
        stable = run["lr"]
    return stable


def _stable_rates(runs: Runs, variant: str) -> list[float]:
    """Return the exponents of the largest stable rates, one a seed; -11 where none is stable."""
    rates = (largest_stable_rate(runs.where(variant=variant, seed=seed)) for seed in SEEDS)
    return [math.log2(rate or 2**-11) for rate in rates]


def _pre_norm_stands_more(runs: Runs) -> bool:
    post = _stable_rates(runs, "post")
    others = ("pre", "sandwich", "deepnorm")
    return all(paired_interval(_stable_rates(runs, v), post).low > 0 for v in others)


def _loss_against_pre(runs: Runs, variant: str, rate: float = 2.0**-8) -> Interval:
    return runs.difference("held_out_loss", variant=(variant, "pre"), lr=rate)


def _embedding_norm_is_undecided(runs: Runs) -> bool:
    found = _loss_against_pre(runs, "pre, embedding norm")
    return not found.shows_difference and found.within(0.02)


def _last_gradients_are_ordered(runs: Runs) -> bool:
    found = {v: runs.values("last_layer_gradient", variant=v, lr=RATES[0]) for v in VARIANTS}
    others = [found[v] for v in VARIANTS if v not in ("post", "deepnorm")]
    return all(
        post > 1.3 * max(between) and min(between) > 1.3 * deep
        for post, deep, *between in zip(found["post"], found["deepnorm"], *others, strict=True)
    )


def _biases_fail_no_more_often(runs: Runs) -> bool:
    with_biases, without = (
        [sum(map(has_failed, runs.where(variant=v, seed=seed))) / len(RATES) for seed in SEEDS]
        for v in ("pre, biases", "pre")
    )
    found = paired_interval(with_biases, without)
    return not found.shows_difference and found.within(0.45)


EXPERIMENT = Experiment(
    conditions={"variant": list(VARIANTS), "lr": RATES},
    seeds=SEEDS,
    measure=measure,
    equal=("text_sha256", "unigram_loss"),
    depends=("llmlib.architecture.block", "llmlib.architecture.norms"),
    claims={
        "arch.norm-placement": {
            "pre-norm, sandwich norms and DeepNorm stand larger rates than post-norm": (
                _pre_norm_stands_more
            ),
            "at a rate of 2^-8 a norm on the embedding makes no difference that shows, below 0.02 "
            "nats": _embedding_norm_is_undecided,
            "parallel layers are better at every rate": lambda runs: all(
                _loss_against_pre(runs, "pre, parallel", rate).high < 0 for rate in RATES
            ),
            "the last layer's first gradient is largest in post-norm and smallest in DeepNorm": (
                _last_gradients_are_ordered
            ),
        },
        "arch.bias": {
            "no difference is shown in how often runs with and without biases fail, below 45 "
            "points": _biases_fail_no_more_often,
        },
    },
)
