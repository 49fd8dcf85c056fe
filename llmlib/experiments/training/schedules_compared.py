"""Seven courses of the learning rate at equal steps and two peaks, five seeds each."""

from llmlib.core.statistics import Interval, holm, t_test
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import short_text
from llmlib.experiments.short_training import loss_on_text, small_decoder, train_briefly
from llmlib.training.optimizers.schedules import Schedule

SEEDS = (0, 1, 2, 3, 4)
STEPS, BATCH, LENGTH, WARM_UP = 160, 16, 32, 16
WIDTH, LAYERS = 32, 2
PEAKS = (4e-3, 1.6e-2)
"""The library's usual peak for a decoder of this size, and four times that."""
SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(kind="constant", warmup=WARM_UP),
    "linear": Schedule(kind="linear", warmup=WARM_UP),
    "cosine": Schedule(kind="cosine", warmup=WARM_UP, final=0.1),
    "inverse sqrt": Schedule(kind="inverse_sqrt", warmup=WARM_UP),
    "wsd": Schedule(kind="wsd", warmup=WARM_UP, decay=STEPS // 5),
    "constant, no warm-up": Schedule(kind="constant"),
    "linear, no warm-up": Schedule(kind="linear"),
}
"""Published forms: the cosine ends at a tenth, WSD falls over the last fifth."""


def measure(run: Run, *, steps: int = STEPS, rows: int = 160) -> Run:
    """Train a small decoder with Adam under one schedule; losses are in nats a token."""
    text = short_text()
    schedule, peak = SCHEDULES[run["schedule"]], run["peak"]
    model = small_decoder(512, run["seed"], length=LENGTH, d_model=WIDTH, n_layers=LAYERS)

    def rate(step: int) -> float:
        return peak * schedule.factor(step + 1, steps)

    losses = train_briefly(
        model, text.train, lr=rate, steps=steps, batch=BATCH, seed=run["seed"], length=LENGTH
    )
    return {
        "held_out_loss": round(loss_on_text(model, text.held_out, rows=rows, length=LENGTH), 4),
        "losses": [round(x, 3) for x in losses[::8]],
        "largest_rise": round(max(b - min(losses[: i + 1]) for i, b in enumerate(losses)), 3),
        "tokens": steps * BATCH * LENGTH,
        "parameters": sum(p.numel() for p in model.parameters()),
        "text_sha256": text.sha256,
    }


DECAYS = ("linear", "cosine", "inverse sqrt", "wsd")


def _gain(runs: Runs, schedule: str, peak: float) -> Interval:
    """Return the held-out loss of a schedule less that of a constant rate after a warm-up."""
    return runs.difference("held_out_loss", schedule=(schedule, "constant"), peak=peak)


def corrected(runs: Runs) -> dict[tuple[str, float], float]:
    """Return p-values of each decay against the constant rate, Holm over all eight."""
    pairs = [(kind, peak) for kind in DECAYS for peak in PEAKS]
    p_values = [
        t_test(runs.differences("held_out_loss", schedule=(kind, "constant"), peak=peak))
        for kind, peak in pairs
    ]
    return dict(zip(pairs, holm(p_values), strict=True))


def _decays_cost_at_the_lower_peak(runs: Runs) -> bool:
    gains = {kind: _gain(runs, kind, PEAKS[0]) for kind in DECAYS}
    large = all(gains[kind].low > 0.2 for kind in DECAYS if kind != "wsd")
    shown = all(corrected(runs)[kind, PEAKS[0]] < 0.05 for kind in DECAYS)
    return large and shown and gains["wsd"].value > 0


def _warm_up_helps_nowhere(runs: Runs) -> bool:
    without = [
        runs.difference("held_out_loss", schedule=(f"{kind}, no warm-up", kind), peak=peak)
        for kind in ("constant", "linear")
        for peak in PEAKS
    ]
    return all(difference.low <= 0 for difference in without)


EXPERIMENT = Experiment(
    conditions={"schedule": tuple(SCHEDULES), "peak": PEAKS},
    seeds=SEEDS,
    measure=measure,
    equal=("parameters", "tokens", "text_sha256"),
    depends=("llmlib.training.optimizers.schedules",),
    claims={
        "train.lr": {
            "at the lower peak linear, cosine and inverse square root end over 0.2 nats above a "
            "constant rate, WSD above it too": _decays_cost_at_the_lower_peak,
            "at four times that peak none of the four is shown to differ from it": lambda runs: all(
                corrected(runs)[kind, PEAKS[1]] > 0.05 for kind in DECAYS
            ),
            "every schedule ends lower at the higher peak": lambda runs: all(
                runs.difference("held_out_loss", schedule=kind, peak=PEAKS[::-1]).high < 0
                for kind in SCHEDULES
            ),
            "a warm-up is shown to lower the loss of this model nowhere": _warm_up_helps_nowhere,
        },
    },
)
