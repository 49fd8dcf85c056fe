"""Five feed-forward activations at equal parameters and equal tokens, several seeds each.

`python -m llmlib.experiments activation_comparison` makes the runs that `data/results` still lacks.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.choices import Activation
from llmlib.architecture.feedforward import activate
from llmlib.core.seeding import seed_everything
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import make_missing_runs
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.experiments.short_training import mean_loss, train_briefly

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

    Args:
        kind: The activation.
        init_std: Standard deviation of the initial weights.

    Returns:
        A decoder of two layers, D = 96, with 270,816 parameters whatever the activation.
    """
    return ModelConfig(
        vocab_size=VOCAB_SIZE, d_model=WIDTH, n_layers=2, n_heads=4, max_seq_len=LENGTH,
        activation=kind, init_std=init_std,
    )  # fmt: skip


@torch.no_grad()
def unit_activity(model: Transformer, tokens: Int[Tensor, "B T"]) -> list[Float[Tensor, " F"]]:
    """Return how often each hidden unit of each feed-forward layer is not zero.

    Args:
        model: A decoder.
        tokens: Text to try it on.

    Returns:
        For each layer, the share of the tokens at which each unit is not zero: 0 is a dead unit.
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


def perform(run: Run, *, steps: int = STEPS, rows: int = 320) -> Run:
    """Train a model with one activation from one seed.

    Args:
        run: `activation`, `init_std` and `seed`.
        steps: Number of updates, warm-up and linear decay included.
        rows: Held-out rows to measure on.

    Returns:
        Sizes, some losses, the held-out loss in nats a token, and what the hidden units do.
    """
    text = short_text()
    seed_everything(run["seed"])
    model = Transformer(config_of(run["activation"], run["init_std"]))

    def lr(step: int) -> float:
        return PEAK_LR * min(1, (step + 1) / WARM_UP, 1.5 * (1 - step / steps))

    losses = train_briefly(
        model,
        text.train,
        lr=lr,
        steps=steps,
        batch=BATCH,
        seed=run["seed"],
        length=LENGTH,
    )
    sample = text.held_out[: 128 * LENGTH].view(128, LENGTH)
    activity = torch.cat(unit_activity(model, sample))
    return {
        "held_out_loss": round(mean_loss(model, text.held_out, rows=rows, length=LENGTH), 4),
        "unigram_loss": round(text.unigram_loss, 4),
        "losses": [round(x, 3) for x in losses[::10]],
        "tokens": steps * BATCH * LENGTH,
        "parameters": sum(p.numel() for p in model.parameters()),
        "dead_units": int((activity == 0).sum()),
        "units": len(activity),
        "active_share": round(activity.mean().item(), 4),
        "text_sha256": text.sha256,
    }


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment: three seeds, and one of the bare 0.02 for contrast.

    Yields:
        What identifies each run.
    """
    for seed in SEEDS:
        for kind in KINDS:
            yield {"activation": kind, "init_std": INIT_STD, "seed": seed}
    for kind in KINDS:
        yield {"activation": kind, "init_std": SMALL_INIT_STD, "seed": SEEDS[0]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("activation_comparison", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
