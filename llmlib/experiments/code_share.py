"""What small programs in place of prose do to reasoning in words, at equal tokens and equal steps.

`python -m llmlib.experiments.code_share` makes the runs that `data/results` still lacks.

A fifth of the tokens is problems in words, in every mixture. The rest is stories, of which programs
take a quarter or a half of all tokens away. In one more mixture the programs bear no comments, so
that nothing in them says what a line leads to. The world is small because larger ones were beyond
these models: with the King James Bible as prose and BPE, a million tokens left them at chance on
problems of this kind, with programs or without. Then one seed outside the record was tried with no
code and with 50%, and all settings were kept. Three seeds came first and showed nothing; seven more
were added because of that, which makes intervals over all ten somewhat too narrow.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch

from llmlib.architecture import Transformer
from llmlib.experiments.instruction_world import (
    START,
    as_document,
    encode,
    fresh_rows,
    story,
    words,
)
from llmlib.experiments.short_runs import (
    Run,
    answered_exactly,
    make_missing_runs,
    mean_loss,
    paired_interval,
    small_decoder,
    train_briefly,
    warmup_decay,
)
from llmlib.experiments.word_problems import KINDS, LARGEST, Problem, problem, program

LENGTH, BATCH, STEPS, PEAK_LR = 64, 16, 600, 6e-3
PROBLEMS_SHARE = 0.2
N_QUESTIONS = 200
SEEDS = tuple(range(10))
MIXES = {
    "no code": ("programs", 0.0),
    "25% programs": ("programs", 0.25),
    "50% programs": ("programs", 0.5),
    "50% without comments": ("bare programs", 0.5),
}
"""For each mixture which programs, and their share of the tokens."""
CHANCE = {"changes": round(1 / (LARGEST + 1), 4), "larger": 0.5}
"""Share of right results of who guesses one of 13 numbers, or one of the two in the problem."""
TEXTS: Mapping[str, Callable[[random.Random], list[str]]] = {
    "problems": lambda rng: [problem(rng).text],
    "stories": story,
    "programs": program,
    "bare programs": partial(program, comments=False),
}


def shares_of(mix: str) -> dict[str, float]:
    """Return the share of each kind of text in the tokens of a mixture.

    Args:
        mix: One of `MIXES`.

    Returns:
        Shares by kind, one in all.

    Example:
        >>> shares_of("50% programs")
        {'problems': 0.2, 'stories': 0.3, 'programs': 0.5, 'bare programs': 0.0}
    """
    added, share = MIXES[mix]
    shares = dict.fromkeys(TEXTS, 0.0) | {"problems": PROBLEMS_SHARE, added: share}
    shares["stories"] = round(1 - PROBLEMS_SHARE - share, 4)
    return shares


def problems(kind: str, n: int) -> list[Problem]:
    """Draw problems to ask.

    Args:
        kind: One of `KINDS`.
        n: How many.

    Returns:
        The problems, the same at every call.
    """
    rng = random.Random(f"asked:{kind}")
    return [problem(rng, kind) for _ in range(n)]


def answered(model: Transformer, asked: Sequence[Problem]) -> list[list[bool]]:
    """Say which results of which problems are the likeliest ones for a model.

    Args:
        model: The model.
        asked: Problems; each result is asked for after the right ones before it.

    Returns:
        For each problem, whether each result is right.
    """
    prompts, answers = [], []
    for one in asked:
        read: list[str] = [START]
        for part, result in zip(one.parts, one.results, strict=True):
            read.append(part)
            prompts.append(encode(" ".join(read)))
            answers.append(encode(result))
            read.append(result)
    right = iter(answered_exactly(model, prompts, answers))
    return [[next(right) for _ in one.results] for one in asked]


def train(mix: str, seed: int, *, steps: int = STEPS, batch: int = BATCH) -> Transformer:
    """Train a decoder of two layers on one mixture.

    Args:
        mix: One of `MIXES`.
        seed: Decides weights and texts.
        steps: Number of updates.
        batch: Rows an update.

    Returns:
        The model.
    """
    rows = fresh_rows(TEXTS, shares_of(mix), length=LENGTH, batch=batch, seed=seed)
    model = small_decoder(len(words()), seed, length=2 * LENGTH, d_model=64, n_layers=2)
    train_briefly(model, rows, lr=warmup_decay(PEAK_LR, steps), steps=steps)
    return model.eval()


def held_out_loss(model: Transformer, kind: str) -> float:
    """Return the loss of a model on 300 new documents of one kind.

    Args:
        model: The model.
        kind: One of `TEXTS`.

    Returns:
        Nats a token.
    """
    rng = random.Random(f"held out:{kind}")
    tokens = torch.tensor([i for _ in range(300) for i in as_document(TEXTS[kind](rng))])
    return mean_loss(model, tokens, rows=len(tokens) // LENGTH, length=LENGTH)


def perform(run: Run, *, steps: int = STEPS, n: int = N_QUESTIONS) -> Run:
    """Train on one mixture from one seed; ask problems, and measure stories and programs.

    Args:
        run: `mix` and `seed`.
        steps: Number of updates.
        n: Number of problems of each kind.

    Returns:
        For each kind of problem the share of right results, and the share of problems of changes
        in which all are right; nats a token of new stories and programs.
    """
    model = train(run["mix"], run["seed"], steps=steps)
    right = {kind: answered(model, problems(kind, n)) for kind in KINDS}
    single = {kind: [result for one in right[kind] for result in one] for kind in KINDS}
    return {
        **{kind: round(sum(single[kind]) / len(single[kind]), 4) for kind in KINDS},
        "all_changes": round(sum(map(all, right["changes"])) / n, 4),
        "stories_loss": round(held_out_loss(model, "stories"), 4),
        "programs_loss": round(held_out_loss(model, "programs"), 4),
        "chance": CHANCE,
        "shares": {kind: share for kind, share in shares_of(run["mix"]).items() if share},
        "questions": n,
        "steps": steps,
        "tokens": steps * BATCH * LENGTH,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def difference(
    runs: Sequence[Run], mix: str, of: str, other: str = "no code"
) -> tuple[float, float, float]:
    """Compare two mixtures seed by seed.

    Args:
        runs: Lines of the record.
        mix: One of `MIXES`.
        of: What was measured, as `changes` or `stories_loss`.
        other: Another mixture.

    Returns:
        Mean of the first less the second, and its 95% interval.
    """
    return paired_interval(runs, "mix", mix, other, lambda run: run[of])


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment.

    Yields:
        What identifies each run.
    """
    for seed in SEEDS:
        for mix in MIXES:
            yield {"mix": mix, "seed": seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("code_share", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
