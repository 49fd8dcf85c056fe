r"""What a source's share of the training text does to the loss on every source.

`python -m llmlib.experiments source_proportions` makes the runs that `data/results` still lacks.

Three domains: documentation, code (with its comments and docstrings) and the Bible of 1611. Ten
mixtures cover the simplex of their shares; every run reads as many tokens. Three more runs a seed
read half as many, of one domain alone: beside the even mixture of two domains, whose half is as
many tokens of that domain, they tell what the *other* half did. `fit_law` fits each domain's
losses by the mixing law of Ye et al.,

$$\ell_i(r) = c_i + \exp\left(\sum_j t_{ij} r_j\right).$$

Size and rate were chosen on trial runs with seed 10.

References:
    Ye et al. (2024), Data Mixing Laws, section 3, equation 1, with k absorbed by t because shares
    sum to one.
"""

import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import least_squares
from torch import Tensor

from llmlib.data import (
    ByteBPE,
    Document,
    corpus_sha256,
    fixed_code,
    fixed_corpus,
    king_james,
    split_by_module,
)
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import make_missing_runs
from llmlib.experiments.short_text import VOCAB_SIZE, frequency_loss
from llmlib.experiments.short_training import (
    mean_loss,
    mixed_rows,
    small_decoder,
    train_briefly,
    warmup_decay,
)

LENGTH, BATCH, STEPS, PEAK_LR = 128, 16, 200, 3e-3
SEEDS = (0, 1, 2)
DOMAINS = ("documentation", "code", "Bible")
MIXTURES = (
    (6, 0, 0), (0, 6, 0), (0, 0, 6),
    (3, 3, 0), (3, 0, 3), (0, 3, 3),
    (4, 1, 1), (1, 4, 1), (1, 1, 4), (2, 2, 2),
)  # fmt: skip
"""Shares of the domains in sixths."""


@dataclass(frozen=True)
class DomainText:
    """Three domains as tokens of one vocabulary, learnt from an equal amount of each.

    Attributes:
        train: Token ids of each domain to learn from.
        held_out: Token ids of each domain from modules and books that no training part holds.
        unigram: Loss of each domain under the even mixture's token frequencies, in nats a token.
        sha256: Hash of all documents.
    """

    train: list[Int[Tensor, " n"]]
    held_out: list[Int[Tensor, " m"]]
    unigram: list[float]
    sha256: str


@functools.cache
def domain_text() -> DomainText:
    """Cut the domains' text into 512 different tokens.

    A module's code and documentation lie on the same side of the split.

    Returns:
        The text, the same on every machine.
    """
    code = [d for d in fixed_code() if hashlib.sha256(d.meta["module"].encode()).digest()[0] < 64]
    sources = (fixed_corpus(), code, king_james())
    split = split_by_module([
        Document(text=d.text, source=domain, meta=d.meta)
        for domain, documents in zip(DOMAINS, sources, strict=True)
        for d in documents
    ])  # fmt: skip
    texts = [
        ["\n\n".join(d.text for d in half if d.source == domain) for domain in DOMAINS]
        for half in (split.train, split.held_out)
    ]
    bpe = ByteBPE.train([text[:600_000] for text in texts[0]], vocab_size=VOCAB_SIZE)
    train, held_out = ([torch.tensor(bpe.encode(text)) for text in half] for half in texts)
    shortest = min(map(len, train))
    even = torch.cat([ids[:shortest] for ids in train])
    unigram = [frequency_loss(even, ids) for ids in held_out]
    return DomainText(train, held_out, unigram, corpus_sha256([*split.train, *split.held_out]))


def perform(run: Run, *, steps: int = STEPS) -> Run:
    """Train on one mixture from one seed and measure on every domain.

    Args:
        run: `sixths`, the shares; `budget`, the part of the tokens to read; `seed`.
        steps: Number of updates at the whole budget.

    Returns:
        Loss on each domain, baselines, settings.
    """
    text, steps = domain_text(), round(steps * run["budget"])
    model = small_decoder(VOCAB_SIZE, run["seed"], length=LENGTH, d_model=64, n_layers=2)
    weights = [sixth / 6 for sixth in run["sixths"]]
    rows = mixed_rows(text.train, weights, length=LENGTH, batch=BATCH, seed=run["seed"])
    train_briefly(model, rows, lr=warmup_decay(PEAK_LR, steps), steps=steps)
    model.eval()
    return {
        "losses": [round(mean_loss(model, ids, rows=256, length=LENGTH), 4)
                   for ids in text.held_out],
        "unigram_losses": [round(loss, 4) for loss in text.unigram],
        "chance_loss": round(math.log(VOCAB_SIZE), 4),
        "steps": steps,
        "tokens": steps * BATCH * LENGTH,
        "text_tokens": [len(ids) for ids in text.train],
        "text_sha256": text.sha256,
    }  # fmt: skip


@dataclass(frozen=True)
class MixingLaw:
    """The loss on one domain as a function of all shares.

    Attributes:
        floor: What no share would take away, in nats a token.
        slopes: Effect of each domain's share; the more negative beside the others, the more the
            share helps.
    """

    floor: float
    slopes: Float[np.ndarray, " domains"]

    def __call__(self, shares: Float[np.ndarray, "*batch domains"]) -> Float[np.ndarray, "*batch"]:
        """Predict the loss.

        Args:
            shares: Mixtures, each summing to one.

        Returns:
            Nats a token.
        """
        return np.asarray(self.floor + np.exp(shares @ self.slopes))


def fit_law(
    shares: Float[np.ndarray, "points domains"], losses: Float[np.ndarray, " points"]
) -> MixingLaw:
    """Fit the mixing law of one domain by least squares.

    Args:
        shares: Mixtures, more of them than there are domains plus one.
        losses: The domain's loss at each, in nats a token.

    Returns:
        The law, its floor between zero and the smallest loss.

    Raises:
        ValueError: If there are too few mixtures.

    Example:
        >>> law = MixingLaw(2.0, np.array([-1.0, 0.5]))
        >>> shares = np.array([[1, 0], [0.7, 0.3], [0.4, 0.6], [0, 1]])
        >>> float(fit_law(shares, law(shares)).floor.round(3))
        2.0

    References:
        Ye et al. (2024), Data Mixing Laws, equation 1.
    """
    if len(shares) < shares.shape[1] + 1:
        raise ValueError(f"{len(shares)} mixtures for {shares.shape[1] + 1} numbers: give more")
    least = losses.min()
    slopes = np.linalg.lstsq(shares, np.log(losses - 0.8 * least), rcond=None)[0]

    def error(parameters: Float[np.ndarray, " k"]) -> Float[np.ndarray, " points"]:
        return parameters[0] + np.exp(shares @ parameters[1:]) - losses

    lower = np.array([0.0, *[-20.0] * shares.shape[1]])
    upper = np.array([least, *[5.0] * shares.shape[1]])
    found = least_squares(error, np.array([0.8 * least, *slopes]), bounds=(lower, upper)).x
    return MixingLaw(found[0], found[1:])


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment.

    Yields:
        What identifies each run.
    """
    for seed in SEEDS:
        for sixths in MIXTURES:
            yield {"sixths": list(sixths), "budget": 1.0, "seed": seed}
        for sixths in MIXTURES[:3]:
            yield {"sixths": list(sixths), "budget": 0.5, "seed": seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("source_proportions", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
