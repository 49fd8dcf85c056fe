"""Five feed-forward activations at equal parameters and equal tokens, several seeds each."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmlib.architecture.choices import Activation
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.feedforward import activate
from llmlib.architecture.transformer import Transformer
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import Interval
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.experiments.short_training import loss_on_text, train_briefly, warmup_hold_decay

KINDS: tuple[Activation, ...] = ("relu", "gelu", "swish", "swiglu", "geglu")
SEEDS = (0, 1, 2)
STEPS, BATCH, LENGTH, PEAK_LR, WARM_UP = 160, 16, 64, 4e-3, 20
WIDTH = 96
INIT_STD, SMALL_INIT_STD = 0.056, 0.02
"""GPT-2's initial standard deviation, 0.02 at its width of 768, in proportion to the root of the
width here; and the bare 0.02, at which every hidden unit starts where GeLU and Swish are straight
lines and a gated product is small twice over."""


def config_of(kind: Activation, init_std: float = INIT_STD) -> ModelConfig:
    """Return the configuration with one activation: 8 D / 3 is a multiple of 32, so all match.

    It is a decoder of two layers, D = 96, with 270,816 parameters whatever the activation.
    """
    return ModelConfig(
        vocab_size=VOCAB_SIZE, d_model=WIDTH, n_layers=2, n_heads=4, max_seq_len=LENGTH,
        activation=kind, init_std=init_std,
    )  # fmt: skip


@torch.no_grad()
def unit_activity(model: Transformer, tokens: Int[Tensor, "B T"]) -> list[Float[Tensor, " F"]]:
    """Return for each layer at which share of the tokens each hidden unit is not zero.

    A unit with 0 is dead.
    """
    found: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        active = activate(output, model.config.activation) != 0  # [B, T, F]
        found.append(active.float().mean(dim=(0, 1)))

    hooks = [
        block.get_submodule("feedforward.up").register_forward_hook(look) for block in model.blocks
    ]
    try:
        model(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def measure(run: Run, *, steps: int = STEPS, rows: int = 320) -> Run:
    """Train a model with one activation and one initial spread from one seed.

    The rate warms up and falls linearly; held-out losses are in nats a token.
    """
    text = short_text()
    seed_everything(run["seed"])
    model = Transformer(config_of(run["activation"], run["init_std"]))
    lr = warmup_hold_decay(PEAK_LR, steps, warmup=WARM_UP, share=2 / 3)
    losses = train_briefly(
        model, text.train, lr=lr, steps=steps, batch=BATCH, seed=run["seed"], length=LENGTH
    )
    sample = text.held_out[: 128 * LENGTH].view(128, LENGTH)
    activity = torch.cat(unit_activity(model, sample))
    return {
        "held_out_loss": round(loss_on_text(model, text.held_out, rows=rows, length=LENGTH), 4),
        "unigram_loss": round(text.unigram_loss, 4),
        "losses": [round(x, 3) for x in losses[::10]],
        "tokens": steps * BATCH * LENGTH,
        "parameters": sum(p.numel() for p in model.parameters()),
        "dead_units": int((activity == 0).sum()),
        "units": len(activity),
        "active_share": round(activity.mean().item(), 4),
        "text_sha256": text.sha256,
    }


def _difference(runs: Runs, kind: str, other: str) -> Interval:
    return runs.difference("held_out_loss", activation=(kind, other), init_std=INIT_STD)


def _no_difference_to_relu(runs: Runs) -> bool:
    found = [_difference(runs, kind, "relu") for kind in ("gelu", "swiglu", "geglu")]
    return all(not d.shows_difference and d.within(0.2) for d in found)


def _relu_leads_from_the_small_start(runs: Runs) -> bool:
    small = {r["activation"]: r["held_out_loss"] for r in runs.where(init_std=SMALL_INIT_STD)}
    return min(small[kind] for kind in KINDS if kind != "relu") > small["relu"] + 0.1


EXPERIMENT = Experiment(
    conditions=[
        *({"activation": kind, "init_std": INIT_STD} for kind in KINDS),
        *({"activation": kind, "init_std": SMALL_INIT_STD, "seed": SEEDS[0]} for kind in KINDS),
    ],
    seeds=SEEDS,
    measure=measure,
    equal=("parameters", "tokens", "unigram_loss", "text_sha256"),
    depends=("llmlib.architecture.feedforward",),
    claims={
        "arch.activations": {
            "GeLU, SwiGLU and GeGLU are within 0.2 nats of ReLU, no difference shown": (
                _no_difference_to_relu
            ),
            "a gate helps Swish at equal parameters": lambda runs: (
                _difference(runs, "swiglu", "swish").high < 0
            ),
            "every run ends more than 0.5 nats below the loss of token frequencies": lambda runs: (
                all(run["held_out_loss"] < run["unigram_loss"] - 0.5 for run in runs)
            ),
        },
        "": {
            "from the small start ReLU is more than 0.1 nats ahead of all others, one seed": (
                _relu_leads_from_the_small_start
            ),
        },
    },
)
