"""Experts with and without a balance loss, beside dense layers of equal work or equal size."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlib.architecture import counts
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.experts.mixture_of_experts import MixtureOfExperts
from llmlib.architecture.transformer import Transformer
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import Interval
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.experiments.short_training import loss_on_text, train_briefly, warmup_hold_decay

STEPS, BATCH, LENGTH, PEAK_RATE = 240, 32, 64, 3e-3
SEEDS = (0, 1, 2)

BASE = ModelConfig(
    vocab_size=VOCAB_SIZE, d_model=64, n_layers=2, n_heads=4, max_seq_len=LENGTH, d_ff=192
)
EXPERTS: dict[str, Any] = {"n_experts": 8, "experts_per_token": 2, "d_ff": 96}
DESIGNS: dict[str, dict[str, Any]] = {
    "dense": {},
    "2 of 8": EXPERTS,
    "2 of 8, no balance loss": {**EXPERTS, "balance": "none"},
    "dense, four times as wide": {"d_ff": 768},
    "4 of 16, half as wide": {"n_experts": 16, "experts_per_token": 4, "d_ff": 48},
    "1 shared and 1 of 7": {**EXPERTS, "n_experts": 7, "experts_per_token": 1,
                            "n_shared_experts": 1},
}  # fmt: skip
"""What differs from the dense model.

All but the wide one do the same work a token in their feed-forward layers, 192 hidden numbers, and
all but the first hold 768.
"""


def config_of(design: str) -> ModelConfig:
    return BASE.replace(**DESIGNS[design])


def experts_in_use(load: Float[Tensor, "*layers E"]) -> Float[Tensor, "*layers"]:
    r"""Count the experts that an uneven load amounts to: $\exp\bigl(-\sum_i f_i \ln f_i\bigr)$.

    From 1 where all choices fall on one to E where they fall on all alike.

    Example:
        >>> experts_in_use(torch.tensor([0.5, 0.5, 0.0, 0.0])).item()
        2.0
    """
    return torch.special.entr(load).sum(dim=-1).exp()


@torch.no_grad()
def loads(model: Transformer, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "layers E"]:
    """Measure which share of a text's choices falls on each expert of each layer, none dropped."""
    shares: list[Tensor] = []

    def note(layer: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, MixtureOfExperts)
        shares.append(layer.route(inputs[0].flatten(0, 1)).load)

    layers = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    was_training = model.training
    try:
        model.eval()(tokens)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return torch.stack(shares)


def measure(run: Run, *, steps: int = STEPS) -> Run:
    """Train one design from one seed: its loss, its sizes, its load during and after training."""
    text, config = short_text(), config_of(run["design"])
    probe = text.held_out[: 32 * LENGTH].view(32, LENGTH)
    seed_everything(run["seed"])
    model = Transformer(config)
    in_use: list[list[float]] = []

    def watch(step: int) -> None:
        if config.n_experts and step % 20 == 0:
            in_use.append([round(n, 2) for n in experts_in_use(loads(model, probe)).tolist()])

    train_briefly(
        model,
        text.train,
        lr=warmup_hold_decay(PEAK_RATE, steps, warmup=20, share=1 / 3),
        steps=steps,
        batch=BATCH,
        seed=run["seed"],
        length=LENGTH,
        after_backward=watch,
    )
    model.eval()  # the loss without the balance term, and no token dropped
    load = loads(model, text.held_out[: 256 * LENGTH].view(256, LENGTH)) if in_use else None
    size = counts.parameters(config)
    return {
        "held_out_loss": round(loss_on_text(model, text.held_out, rows=512), 4),
        "unigram_loss": round(text.unigram_loss, 4),
        "parameters": size.total,
        "active_parameters": size.active,
        "tokens": steps * BATCH * LENGTH,
        "experts_in_use": None if load is None else round(experts_in_use(load).mean().item(), 3),
        "load": None if load is None else [[round(f, 4) for f in row] for row in load.tolist()],
        "experts_in_use_each_20_steps": in_use or None,
        "text_sha256": text.sha256,
    }


def _difference(runs: Runs, design: str, other: str, of: str = "held_out_loss") -> Interval:
    return runs.difference(of, design=(design, other))


def _load_is_evener(runs: Runs) -> bool:
    pair = ("2 of 8", "2 of 8, no balance loss")
    gains = runs.differences("experts_in_use", design=pair)
    return _difference(runs, *pair, of="experts_in_use").low > 0 and min(gains) > 2


def _two_of_eight_gain_and_nothing_is_shown(runs: Runs) -> bool:
    gains = runs.differences("held_out_loss", design=("dense", "2 of 8"))
    return min(gains) > 0 and str(_difference(runs, "dense", "2 of 8")) == "0.09 [-0.07, 0.25]"


def _undecided(design: str, other: str, margin: float) -> Callable[[Runs], bool]:
    def claim(runs: Runs) -> bool:
        found = _difference(runs, design, other)
        return not found.shows_difference and found.within(margin)

    return claim


EXPERIMENT = Experiment(
    conditions={"design": list(DESIGNS)},
    seeds=SEEDS,
    measure=measure,
    equal=("tokens", "unigram_loss", "text_sha256"),
    depends=(
        "llmlib.architecture.experts.grouped_linear",
        "llmlib.architecture.experts.mixture_of_experts",
        "llmlib.architecture.experts.routing",
    ),
    claims={
        "arch.moe": {
            "the balance loss keeps over two more of eight experts in use with every seed": (
                _load_is_evener
            ),
        },
        "": {
            "the balance loss changes the loss by less than 0.2 nats, no difference shown": (
                _undecided("2 of 8", "2 of 8, no balance loss", 0.2)
            ),
            "a dense layer four times as wide is better than the dense one": lambda runs: (
                _difference(runs, "dense, four times as wide", "dense").high < 0
            ),
            "two of eight are better than dense with every seed, by 0.09 [-0.07, 0.25] nats, which "
            "shows no difference": _two_of_eight_gain_and_nothing_is_shown,
            "four of sixteen, half as wide, are worse than two of eight": lambda runs: (
                _difference(runs, "4 of 16, half as wide", "2 of 8").low > 0
            ),
            "a shared expert changes the loss by less than 0.2 nats, no difference shown": (
                _undecided("1 shared and 1 of 7", "2 of 8", 0.2)
            ),
            "every run ends more than a nat below the loss of token frequencies": lambda runs: all(
                run["held_out_loss"] < run["unigram_loss"] - 1 for run in runs
            ),
        },
    },
)
