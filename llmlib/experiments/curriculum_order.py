"""A skill that builds on others, taught in order, all at once, backwards, and alone.

`python -m llmlib.experiments.curriculum_order` makes the runs that `data/results` still lacks.

The skill is to look up: a text names pairs of a key and a value, in random order and again and
again, and whenever a key comes back its value can be told. What a key means changes from text to
text, so nothing can be learnt by heart. With two keys the value is easily found; with sixteen a
model must do the same among many others. Three orders see the same number of texts of each kind;
a fourth model spends the whole budget on sixteen keys.

Settings were fixed after trials of 180 steps from a seed that is not recorded, after which texts of
two keys were half learnt and texts of sixteen were not. Three kinds of sums, tried before, stayed
at chance in every order within the same time, which compares nothing.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from llmlib.data.mixing import Curriculum, Stage
from llmlib.experiments.short_runs import (
    Rows,
    Run,
    make_missing_runs,
    small_decoder,
    train_briefly,
    warmup_decay,
)

KEYS = (2, 4, 8, 16)
MOST = KEYS[-1]
"""Keys are the tokens below it, values the tokens from there to its double."""
TEXT_LENGTH, BATCH, PEAK_LR, STEPS = 64, 16, 3e-3, 600
SEEDS = (0, 1, 2)
ORDERS = ("staged", "mixed", "reversed", "alone")
N_TESTS = 100


def lookups(
    n_keys: int, batch: int, generator: torch.Generator
) -> tuple[Int[Tensor, "B _"], Bool[Tensor, "B _"]]:
    """Write texts of pairs whose keys come back.

    Args:
        n_keys: How many keys a text has, 2 to 16.
        batch: Number of texts.
        generator: Decides all of it.

    Returns:
        Texts of 64 tokens and a target more, key and value in turn; and which targets are values
        whose key stood before, so that they can be told.

    Example:
        >>> texts, told = lookups(2, 1, torch.Generator().manual_seed(0))
        >>> texts.shape, bool((texts[:, 0::2] < 16).all()), bool((texts[:, 1::2] >= 16).all())
        (torch.Size([1, 65]), True, True)
        >>> told[0, :3].tolist()  # the first value is anybody's guess, keys always are
        [False, False, False]
    """
    n_pairs = TEXT_LENGTH // 2 + 1
    keys = torch.rand(batch, MOST, generator=generator).argsort(dim=1)[:, :n_keys]
    values = torch.randint(MOST, (batch, n_keys), generator=generator) + MOST
    named = torch.randint(n_keys, (batch, n_pairs), generator=generator)
    pairs = torch.stack((keys.gather(1, named), values.gather(1, named)), dim=2)  # [B, pairs, 2]
    same = named[:, :, None] == named[:, None, :]
    before = (same & torch.ones_like(same).tril(-1)).any(dim=2)  # [B, pairs]
    told = torch.zeros(batch, TEXT_LENGTH, dtype=torch.bool)
    told[:, 0::2] = before[:, :-1]  # the target of a key is its value
    return pairs.flatten(1)[:, : TEXT_LENGTH + 1], told


@cache
def asked(n_keys: int) -> tuple[Int[Tensor, "B _"], Bool[Tensor, "B _"]]:
    """Write the texts that all models are asked about.

    Args:
        n_keys: How many keys a text has.

    Returns:
        What `lookups` returns.
    """
    return lookups(n_keys, N_TESTS, torch.Generator().manual_seed(10_000 + n_keys))


def order_of(name: str, steps: int = STEPS) -> Curriculum:
    """Return the mixture of the kinds of texts at every step.

    Args:
        name: One of `ORDERS`.
        steps: Length of the training, a multiple of the number of kinds.

    Returns:
        The schedule.

    Raises:
        ValueError: If the stages would not be equal.

    Example:
        >>> order_of("staged", 8).weights_at(2).tolist(), order_of("mixed", 8).totals().tolist()
        ([0.0, 1.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0])
    """
    share, rest = divmod(steps, len(KEYS))
    if rest:
        raise ValueError(f"steps={steps} must be a multiple of {len(KEYS)}, a stage a kind")
    only = np.eye(len(KEYS)).tolist()
    names = [f"{n_keys} keys" for n_keys in KEYS]
    staged = Curriculum([Stage(share, *stage) for stage in zip(only, names, strict=True)])
    return {
        "staged": staged,
        "mixed": staged.shuffled(),
        "reversed": staged.reversed(),
        "alone": Curriculum([Stage(steps, only[-1], names[-1])]),
    }[name]


def rows_of(curriculum: Curriculum, seed: int) -> Rows:
    """Draw each text's kind by the weights of the step.

    Args:
        curriculum: The schedule.
        seed: Decides kinds and texts.

    Returns:
        A function from the step to its texts.
    """
    generator = torch.Generator().manual_seed(seed)

    def rows(step: int) -> Int[Tensor, "B T"]:
        weights = torch.from_numpy(curriculum.weights_at(step))
        kinds = torch.multinomial(weights, BATCH, replacement=True, generator=generator)
        drawn = torch.bincount(kinds, minlength=len(KEYS)).tolist()
        parts = [lookups(k, n, generator)[0] for k, n in zip(KEYS, drawn, strict=True) if n]
        return torch.cat(parts)

    return rows


@torch.no_grad()
def told_right(model: nn.Module, n_keys: int) -> float:
    """Measure how many values a model tells whose key stood before.

    Args:
        model: Gives logits `[B, T, V]` of tokens `[B, T]`.
        n_keys: How many keys a text has.

    Returns:
        Share of those values that the model finds likeliest.
    """
    model.eval()
    texts, told = asked(n_keys)
    right = model(texts[:, :-1]).argmax(-1) == texts[:, 1:]  # [B, T]
    model.train()
    return right[told].double().mean().item()


def perform(run: Run, *, steps: int = STEPS) -> Run:
    """Train in one order from one seed.

    Args:
        run: `order` and `seed`.
        steps: Number of updates.

    Returns:
        Share of values told right in each kind of text at the end, and in the hardest on the way.
    """
    seed, curriculum = run["seed"], order_of(run["order"], steps)
    model = small_decoder(2 * MOST, seed, length=TEXT_LENGTH, d_model=64, n_layers=2)
    on_the_way: list[float] = []

    def watch(step: int) -> None:
        if step % max(1, steps // 12) == 0:
            on_the_way.append(round(told_right(model, MOST), 3))

    rate = warmup_decay(PEAK_LR, steps)
    train_briefly(model, rows_of(curriculum, seed), lr=rate, steps=steps, after_backward=watch)
    return {
        "told_right": {str(n_keys): round(told_right(model, n_keys), 4) for n_keys in KEYS},
        "on_the_way": on_the_way,
        "chance": 1 / MOST,
        "steps": steps,
        "tokens": steps * BATCH * TEXT_LENGTH,
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
