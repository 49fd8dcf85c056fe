"""A skill that builds on others, taught in order, all at once, backwards, and alone.

`python -m llmlib.experiments curriculum_order` makes the runs that `data/results` still lacks.

The skill is to add numbers of two digits, digit by digit. It needs the sums of one digit, and to
carry. Three orders see equally many sums of each length; a fourth model spends the whole budget on
two digits. The model, its rate and the way to write numbers are those of `digit_tokens`. With a
third length, in trials, a third of the budget left sums of three digits at the floor in every
order, so there are two; the steps of each were fixed after one trial of every order with a seed
that is not recorded.
"""

import random
from collections.abc import Iterator, Sequence

import torch

from llmlib.architecture import Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.data.mixing import Curriculum, Stage
from llmlib.experiments.data.digit_tokens import (
    Sum,
    accuracy,
    held_out,
    train_on,
    width,
    write_sum,
)
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import make_missing_runs
from llmlib.experiments.worlds.digit_groups import spelling

WAY, LENGTHS, BATCH = "single", (1, 2), 64
STEPS = (400, 1000)
"""Steps' worth of sums of each length: 89,600 sums in all."""
SEEDS = (0, 1, 2, 3, 4)
ORDERS = ("staged", "mixed", "reversed", "alone")
N_TESTS = 500


def curriculum(order: str, steps: Sequence[int] = STEPS) -> Curriculum:
    """Return the mixture of lengths at each step.

    Args:
        order: One of `ORDERS`.
        steps: Steps' worth of sums of one and of two digits.

    Returns:
        The curriculum; all but "alone" have the same totals.

    Raises:
        ValueError: For another order.

    Example:
        >>> curriculum("staged", (1, 3)).totals().tolist()
        [1.0, 3.0]
        >>> curriculum("mixed", (1, 3)).weights_at(0).tolist()
        [0.25, 0.75]
    """
    one_hot = ([1, 0], [0, 1])
    stages = [
        Stage(n, weights, f"{length} digits")
        for n, weights, length in zip(steps, one_hot, LENGTHS, strict=True)
    ]
    match order:
        case "staged":
            return Curriculum(stages)
        case "mixed":
            return Curriculum(stages).shuffled()
        case "reversed":
            return Curriculum(stages).reversed()
        case "alone":
            return Curriculum([Stage(sum(steps), one_hot[-1], "2 digits")])
    raise ValueError(f"{order!r} is none of {ORDERS}")


def draw(rng: random.Random, digits: int, *, test: bool) -> Sum:
    """Draw a sum of two numbers that both have so many digits.

    Args:
        rng: Source of chance.
        digits: How many.
        test: Whether a held-out sum is wanted, or one to learn from.

    Returns:
        The two numbers.
    """
    low, high = (0 if digits == 1 else 10 ** (digits - 1)), 10**digits
    while True:
        pair = rng.randrange(low, high), rng.randrange(low, high)
        if held_out(pair) == test:
            return pair


def batches(plan: Curriculum, seed: int, batch: int = BATCH) -> Iterator[Batch]:
    """Yield the batches of a curriculum, one sum a row.

    Args:
        plan: The shares of the lengths at each step.
        seed: Decides lengths and sums.
        batch: Rows a batch.

    Yields:
        Rows and targets, as `digit_tokens.sums` does.
    """
    rng, spell, length = random.Random(seed), spelling(WAY), width(WAY, LENGTHS[-1])
    for step in range(plan.steps):
        rows = torch.zeros(batch, length, dtype=torch.long)
        targets = torch.full((batch, length), IGNORE)
        lengths = rng.choices(LENGTHS, weights=plan.weights_at(step).tolist(), k=batch)
        for row, target, digits in zip(rows, targets, lengths, strict=True):
            write_sum(row, target, draw(rng, digits, test=False), spell)
        yield {"inputs": rows, "targets": targets}


def train(order: str, seed: int, steps: Sequence[int] = STEPS) -> Transformer:
    """Train a decoder in one of the orders.

    Args:
        order: One of `ORDERS`.
        seed: Decides weights and sums.
        steps: As for `curriculum`.

    Returns:
        The model.
    """
    plan = curriculum(order, steps)
    length = width(WAY, LENGTHS[-1])
    return train_on(batches(plan, seed), seed, steps=plan.steps, length=length)


def perform(run: Run, *, steps: Sequence[int] = STEPS, n_tests: int = N_TESTS) -> Run:
    """Train in one order from one seed and ask for sums that were held out.

    Args:
        run: `order` and `seed`.
        steps: As for `curriculum`.
        n_tests: Sums of each length; of one digit there are few, which come again.

    Returns:
        Share of exact answers by the digits of both numbers, at the end of training; the chance of
        the commonest answer; the sums of each length that were seen.
    """
    model = train(run["order"], run["seed"], steps)
    rng = random.Random(1000 + run["seed"])
    shares, chance = {}, {}
    for digits in LENGTHS:
        pairs = [draw(rng, digits, test=True) for _ in range(n_tests)]
        totals = [a + b for a, b in pairs]
        shares[str(digits)] = round(sum(accuracy(model, WAY, pairs)) / n_tests, 4)
        chance[str(digits)] = max(map(totals.count, set(totals))) / n_tests
    seen = curriculum(run["order"], steps).totals() * BATCH
    return {
        "accuracy": shares,
        "chance": chance,
        "sums_seen": [round(x) for x in seen.tolist()],
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment.

    Yields:
        What identifies each run.
    """
    for seed in SEEDS:
        for order in ORDERS:
            yield {"order": order, "seed": seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("curriculum_order", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
