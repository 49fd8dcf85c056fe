"""The noise of the gradient from the first step to the last, five seeds."""

import math

from llmlib.core.statistics import Interval
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import short_text
from llmlib.experiments.short_training import random_rows, small_decoder, train_briefly
from llmlib.training.batches.noise_scale import measure_noise
from llmlib.training.objectives.causal_and_prefix import language_modeling
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.optimizers.schedules import warm_up

SEEDS = (0, 1, 2, 3, 4)
STEPS, BATCH, LENGTH, WARM_UP, RATE = 320, 16, 64, 16, 4e-3
WIDTH, LAYERS = 96, 2
PLACES = (0, 20, 40, 80, 160, 320)
"""Updates after which the noise is measured."""
MICRO_BATCHES, ROWS = 64, 4


def measure(run: Run, *, places: tuple[int, ...] = PLACES, n_batches: int = MICRO_BATCHES) -> Run:
    """Train at a constant rate after a warm-up, and measure on rows drawn apart from training.

    Noise scales are in tokens, the squared norm of the gradient and the variance that a token
    contributes without unit.
    """
    text = short_text()
    seed = run["seed"]
    model = small_decoder(512, seed, length=LENGTH, d_model=WIDTH, n_layers=LAYERS)
    measuring = random_rows(text.train, length=LENGTH, batch=ROWS, seed=1000 + seed)
    found: dict[str, dict[str, float]] = {"scale": {}, "signal": {}, "noise": {}}

    def look(step: int) -> None:
        if step in places:
            batches = [language_modeling(measuring(i)) for i in range(n_batches)]
            noise = measure_noise(model, batches, next_token_loss)
            for name in found:
                found[name][str(step)] = float(f"{getattr(noise, name):.4g}")

    def rate(step: int) -> float:
        return run["rate"] * warm_up(step + 1, WARM_UP)

    losses = train_briefly(
        model, text.train, lr=rate, steps=places[-1], batch=BATCH, seed=seed, length=LENGTH,
        after_backward=look,
    )  # fmt: skip
    look(places[-1])
    return {
        **found,
        "losses": [round(x, 3) for x in losses[::16]],
        "tokens": places[-1] * BATCH * LENGTH,
        "text_sha256": text.sha256,
    }


def _growth(runs: Runs, part: str, since: int) -> Interval:
    """Return the logarithm of a part's ratio, the last place's to an earlier one's."""
    return runs.interval(lambda run: math.log(run[part][str(PLACES[-1])] / run[part][str(since)]))


def _doubling_is_left_open(runs: Runs) -> bool:
    """Written down before the first run: more than twofold."""
    return 0 < _growth(runs, "scale", 20).low < math.log(2)


def _two_to_four_times(runs: Runs) -> bool:
    grown = _growth(runs, "scale", 0)
    return math.log(2) < grown.low and grown.high < math.log(4)


EXPERIMENT = Experiment(
    conditions=[{"rate": RATE}],
    seeds=SEEDS,
    measure=measure,
    equal=("tokens", "text_sha256"),
    depends=("llmlib.training.batches.noise_scale",),
    claims={
        "train.batch": {
            "over 320 updates the gradient's noise scale grows two to four times": (
                _two_to_four_times
            ),
            "the variance of a token's gradient grows and the squared gradient shrinks": (
                lambda runs: _growth(runs, "noise", 0).low > 0 > _growth(runs, "signal", 0).high
            ),
        },
        "": {
            "from update 20 on it grows; that it doubles, foretold, the interval leaves open": (
                _doubling_is_left_open
            ),
        },
    },
)
