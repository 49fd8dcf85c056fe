"""A mixture learnt by DoReMi against fixed ones, at equal tokens, on stories of known entropy.

The sources are four grammars of stories. One is learnt from a few hundred stories, two take all
they can get, and the corpus holds them in the proportions in which corpora hold text: most of what
is soonest learnt. The grammars know the probability of every story, so what a model lacks of the
best possible one is exact, where a real corpus would allow only a comparison with another model.

Settings were fixed after looking at one run of a seed that is not recorded: 300 steps, at which
every mixture still leaves much to learn; DoReMi's step size and smoothing are the published ones.
The reference, the proxy and the models compared have one size, and the reference, trained on the
uniform mixture, is also that mixture's model.
"""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import IGNORE
from llmlib.core.statistics import Interval
from llmlib.data.corpora.stories.story_domains import story_domains
from llmlib.data.mixing.doremi_mixture import LearnedMixture, doremi
from llmlib.data.mixing.mixtures import proportional
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_training import mixed_rows, small_decoder, train_briefly, warmup_decay
from llmlib.training.objectives.next_token import next_token_loss

SEEDS = (0, 1, 2)
LENGTH, BATCH, PEAK_LR = 128, 16, 3e-3
STEPS = 300
WORLDS = ("harbour", "forest", "workshop", "ritual")
SIZES = (1, 2, 4, 8)
"""How much of each world a corpus holds, in their order: most of what is soonest learnt."""

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Stories:
    """Stories of the four worlds as tokens, one a word or a mark; 0 begins a story."""

    train: list[Int[Tensor, " _"]]
    """A stream of each world."""
    pairs: list[Int[Tensor, "_ _"]]
    """Of each world pairs of held-out stories `[pairs, T + 1]`, padded with 0."""
    counted: list[Bool[Tensor, "_ _"]]
    """Which targets of the pairs `[pairs, T]` belong to the second story."""
    least: list[float]
    """Of each world what the grammar itself pays for those targets, in nats together."""
    vocab_size: int


@cache
def stories(n_train: int = 4000, n_held_out: int = 400) -> Stories:
    """Tell the stories to learn from and to measure on.

    Held-out stories, an even number of each world, come in pairs, the first as context that tells
    the world: so a mixture is charged with what it taught, and not with how likely it made each
    world. They are the same on every machine.
    """
    worlds = story_domains().values()
    texts = [[story.text for story in world.stories(n_train, seed=1)] for world in worlds]
    words = sorted({word for told in texts for text in told for word in _WORD.findall(text)})
    ids = {word: number for number, word in enumerate(words, 1)}

    def encode(text: str) -> list[int]:
        return [0, *(ids[word] for word in _WORD.findall(text))]

    train = [torch.tensor([i for text in told for i in encode(text)]) for told in texts]
    pairs, counted, least = [], [], []
    for world in worlds:
        told = list(world.stories(n_held_out, seed=2))
        both = [(encode(a.text), encode(b.text), b) for a, b in zip(told[::2], told[1::2])]  # noqa: B905
        both = [entry for entry in both if len(entry[0]) + len(entry[1]) <= LENGTH]
        rows = torch.zeros(len(both), LENGTH + 1, dtype=torch.long)
        mask = torch.zeros(len(both), LENGTH, dtype=torch.bool)
        for row, seen, (first, second, _) in zip(rows, mask, both, strict=True):
            row[: len(first) + len(second)] = torch.tensor([*first, *second])
            seen[len(first) : len(first) + len(second)] = True  # its words and the end
        pairs.append(rows)
        counted.append(mask)
        least.append(-math.fsum(story.meta["log_prob"] for *_, story in both))
    return Stories(train, pairs, counted, least, len(ids) + 1)


@torch.no_grad()
def excess_losses(model: Transformer, told: Stories) -> list[float]:
    r"""Measure how far a model is from the grammars: $\mathrm{KL}(p \,\|\, q) / \bar n$ by world.

    The grammar's own log-probability of each held-out story is taken off the model's, so that
    chance in which stories were drawn cancels. In nats a token, above zero up to chance: no model
    beats the grammar.
    """
    model.eval()
    excesses = []
    for rows, counted, least in zip(told.pairs, told.counted, told.least, strict=True):
        total = 0.0
        for part, mask in zip(rows.split(50), counted.split(50), strict=True):
            targets = part[:, 1:].masked_fill(~mask, IGNORE)
            batch = {"inputs": part[:, :-1], "targets": targets}
            total += next_token_loss(model, batch).item() * int(mask.sum())
        excesses.append((total - least) / int(counted.sum()))
    return excesses


def train_on(weights: Sequence[float], seed: int, told: Stories, *, steps: int) -> Transformer:
    model = small_decoder(told.vocab_size, seed, length=LENGTH, d_model=64, n_layers=2)
    rows = mixed_rows(told.train, weights, length=LENGTH, batch=BATCH, seed=seed)
    train_briefly(model, rows, lr=warmup_decay(PEAK_LR, steps), steps=steps)
    return model


def token_losses(model: Transformer, rows: Int[Tensor, "B _"]) -> Float[Tensor, "B T"]:
    """Return the loss of every token of some rows, inputs with one target more, in nats."""
    return F.cross_entropy(model(rows[:, :-1]).mT, rows[:, 1:], reduction="none")


def learn_weights(
    reference: Transformer, sources: Sequence[Tensor], seed: int, *, steps: int
) -> LearnedMixture:
    """Let DoReMi's proxy, of the reference's size, learn the weights of the sources.

    The reference was trained on the uniform mixture.
    """
    n = len(sources)
    proxy = small_decoder(
        reference.config.vocab_size, seed + 100, length=LENGTH, d_model=64, n_layers=2
    )
    optimizer = torch.optim.Adam(proxy.parameters(), betas=(0.9, 0.98), foreach=True)
    rates = map(warmup_decay(PEAK_LR, steps), itertools.count())
    each = [
        mixed_rows([source], [1.0], length=LENGTH, batch=BATCH // n, seed=1000 * seed + number)
        for number, source in enumerate(sources)
    ]
    losses: list[Tensor] = []

    def measure_excess() -> np.ndarray:
        rows = torch.cat([draw(0) for draw in each])  # [B, T + 1], even shares, in order
        found = token_losses(proxy, rows)
        with torch.no_grad():
            excess = (found.detach() - token_losses(reference, rows)).clamp(min=0)
        losses.append(found.view(n, -1).mean(dim=1))
        return excess.view(n, -1).mean(dim=1).double().numpy()

    # The weights of a step depend on its losses, so `train_briefly` cannot take it.
    def train(weights: np.ndarray) -> None:
        optimizer.param_groups[0]["lr"] = next(rates)
        optimizer.zero_grad()
        (losses.pop() @ torch.from_numpy(weights).float()).backward()
        optimizer.step()

    return doremi(measure_excess, train, initial=np.full(n, 1 / n), steps=steps)


def measure(run: Run, *, steps: int = STEPS) -> Run:
    """Train on the worlds by size, evenly, and by weights that DoReMi learns.

    Every model takes as many steps: the reference, which is also the uniform mixture's model, the
    proxy, and one for each other mixture. Of the weights every tenth step is recorded.
    """
    told, seed = stories(), run["seed"]
    weights = {"uniform": np.full(4, 0.25), "proportional": proportional(SIZES)}
    models = {name: train_on(w.tolist(), seed, told, steps=steps) for name, w in weights.items()}
    learned = learn_weights(models["uniform"].eval(), told.train, seed, steps=steps)
    weights["learned"] = learned.weights
    models["learned"] = train_on(learned.weights.tolist(), seed, told, steps=steps)
    untrained = small_decoder(told.vocab_size, seed, length=LENGTH, d_model=64, n_layers=2)
    models["untrained"] = untrained
    return {
        "domains": list(WORLDS),
        "weights": {name: _rounded(w) for name, w in weights.items()},
        "excess": {name: _rounded(excess_losses(m, told)) for name, m in models.items()},
        "path": [_rounded(w) for w in learned.path[9::10]],
        "clipped_excess": [_rounded(e) for e in learned.excess.reshape(-1, 10, 4).mean(axis=1)]
        if steps % 10 == 0
        else [],
        "entropy": _rounded(
            [low / int(seen.sum()) for low, seen in zip(told.least, told.counted, strict=True)]
        ),
        "steps": steps,
        "tokens": steps * BATCH * LENGTH,
    }


def _rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in values]


def _taken_off_the_worst(runs: Runs, other: str) -> Interval:
    return runs.interval(lambda run: max(run["excess"][other]) - max(run["excess"]["learned"]))


def _lower_than_by_size(runs: Runs) -> bool:
    return _taken_off_the_worst(runs, "proportional").low > 0.4


def _lower_than_even(runs: Runs) -> bool:
    found = _taken_off_the_worst(runs, "uniform")
    return found.low > 0 and found.high < 0.05


def _lower_in_each_seed(runs: Runs) -> bool:
    return all(
        max(run["excess"]["learned"]) < max(run["excess"][other])
        for run in runs
        for other in ("proportional", "uniform")
    )


def _every_mixture_is_learnt(runs: Runs) -> bool:
    return all(
        max(run["excess"][mixture]) < 0.2 * min(run["excess"]["untrained"])
        for run in runs
        for mixture in run["weights"]
    )


def _the_mean_is_not_settled(runs: Runs) -> bool:
    found = runs.interval(
        lambda run: float(np.mean(run["excess"]["uniform"]) - np.mean(run["excess"]["learned"]))
    )
    return not found.shows_difference and found.high > 0.03 and found.within(0.032)


EXPERIMENT = Experiment(
    seeds=SEEDS,
    measure=measure,
    equal=("domains", "entropy", "steps", "tokens"),
    depends=("llmlib.data.mixing.doremi_mixture",),
    claims={
        "data.mixture": {
            "DoReMi takes more than 0.4 nats off the worst world's excess under weights by size": (
                _lower_than_by_size
            ),
            "DoReMi takes some, below 0.05 nats, off the worst world's excess under even shares": (
                _lower_than_even
            ),
            "in each seed the worst world's excess is lowest under DoReMi's weights": (
                _lower_in_each_seed
            ),
            "every mixture leaves less than a fifth of what an untrained model lacks": (
                _every_mixture_is_learnt
            ),
        },
        "": {
            "most weight goes to the harbour, which lacks most under even shares, in each seed": (
                lambda runs: all(
                    run["domains"][np.argmax(values)] == "harbour"
                    for run in runs
                    for values in (run["weights"]["learned"], run["excess"]["uniform"])
                )
            ),
            "on the mean of the worlds no difference to even shares is shown, though a gain of "
            "0.03 could hide, and none of 0.032": _the_mean_is_not_settled,
            "no model beats the grammar": lambda runs: all(
                min(excess) > 0 for run in runs for excess in run["excess"].values()
            ),
        },
    },
)
