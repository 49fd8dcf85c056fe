"""A tenth of the training tokens is one small text read again and again: what does it cost?

Every run reads as many tokens. Nine tenths are the same fresh rows at the same steps for all runs
of a seed; the other tenth are places filled with fresh rows as well (read once) or with a small
text that is read 100 times, as in Hernandez et al. (2022). A further run leaves the tenth out: it
tells apart tokens that teach nothing from tokens that do harm.

Copying from the context is measured on held-out code: what a passage costs less right after itself
than right after another passage. At this size it is small. Trial runs (seeds 0 and 10) of up to 2.5
million tokens grew no head that copies tokens drawn at random, neither on this text, nor on code
whose names every file draws afresh, nor with the token before added to each token's embedding; the
rate and the length of the runs are those of the trial at which copying of passages was first clear.

References:
    Hernandez et al. (2022), Scaling Laws and Interpretability of Learning from Repeated Data,
    sections 2 and 3.
"""

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture.transformer import Transformer
from llmlib.data.corpora.fixed import fixed_code
from llmlib.data.stream.splits import split_by_module
from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import VOCAB_SIZE, ShortText, cut_text
from llmlib.experiments.short_training import (
    loss_on_text,
    small_decoder,
    train_briefly,
    warmup_decay,
)
from llmlib.training.objectives.causal_and_prefix import language_modeling
from llmlib.training.objectives.next_token import next_token_loss

LENGTH, BATCH, STEPS, PEAK_LR = 128, 16, 600, 8e-3
LEFT_OUT = 0
"""In the place of a number of repeats: the tenth is left out and the run is shorter."""


@functools.cache
def code_text() -> ShortText:
    """Cut a third of the fixed code into 512 different tokens: three million to learn from."""
    split = split_by_module(fixed_code())
    train = split.train[::3]
    bpe = ByteBPE.train([d.text for d in train[::6]], vocab_size=VOCAB_SIZE)
    return cut_text(train, split.held_out[::3], bpe)


@dataclass(frozen=True)
class Diet:
    """The rows of a run in the order in which they are read, each with a target more at its end."""

    rows: Int[Tensor, "rows T"]
    small: Int[Tensor, "small T"]
    """The rows that come again; where nothing does, the first of the tenth."""


def make_diet(
    tokens: Int[Tensor, " n"], repeats: int, seed: int, *, n_rows: int, length: int
) -> Diet:
    """Cut a text into rows and let a tenth of what is read be a small part of it.

    Args:
        repeats: How often each row of the small part is read; 1 fills the tenth with rows that
            come once, `LEFT_OUT` leaves it out.
        seed: Decides which rows are read, where the tenth lies and, alone, all that diets of
            different repeats share.
        n_rows: Rows of a whole run.

    Raises:
        ValueError: If the text is too short for rows that come once.
    """
    available = (len(tokens) - 1) // length
    if available < n_rows:
        raise ValueError(f"{n_rows} rows of {length} need more than the {len(tokens)} tokens given")
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randperm(available, generator=generator)[:n_rows] * length
    rows = tokens[starts[:, None] + torch.arange(length + 1)]
    places = torch.randperm(n_rows, generator=generator)[: n_rows // 10].sort().values
    tenth = rows[places]
    small = tenth[: max(1, round(len(tenth) / max(repeats, 1)))]
    if repeats == LEFT_OUT:
        others = torch.ones(n_rows, dtype=torch.bool)
        others[places] = False
        return Diet(rows[others], small)
    rows[places] = small[torch.arange(len(places)) % len(small)]
    return Diet(rows, small)


def passages(tokens: Int[Tensor, " n"], count: int, half: int) -> Int[Tensor, "count half"]:
    starts = torch.linspace(0, len(tokens) - half, count).long().unsqueeze(1)
    return tokens[starts + torch.arange(half)]


@torch.no_grad()
def copying(model: Transformer, sequences: Int[Tensor, "N half"]) -> float:
    r"""Measure how much cheaper a sequence is after itself than after another one.

    The difference of the mean losses of tokens 2 to T of the sequence, $-\ln p(x_t \mid y, x_{<t})$
    less $-\ln p(x_t \mid x, x_{<t})$, where $y$ is another sequence of the batch, of the first the
    last. In nats a token; 0 for a model that does not use what it read.

    Both have as much before them, and the first token of the second time is left out: nobody could
    know where the sequence begins again.
    """
    losses = []
    for before in (sequences.roll(1, dims=0), sequences):
        rows = torch.cat((before, sequences), dim=1)  # [N, 2 half]
        parts = [
            F.cross_entropy(model(part[:, :-1]).mT, part[:, 1:], reduction="none")
            for part in rows.split(32)
        ]
        losses.append(torch.cat(parts)[:, sequences.shape[1] :].mean().item())
    return losses[0] - losses[1]


def measure(run: Run, *, steps: int = STEPS) -> Run:
    text = code_text()
    n_rows = steps * BATCH
    diet = make_diet(text.train, run["repeats"], run["seed"], n_rows=n_rows, length=LENGTH)
    model = small_decoder(VOCAB_SIZE, run["seed"], length=LENGTH, d_model=64, n_layers=2)
    steps = len(diet.rows) // BATCH
    batches = map(language_modeling, diet.rows.split(BATCH))
    train_briefly(model, batches, lr=warmup_decay(PEAK_LR, steps), steps=steps)
    model.eval()
    random = torch.randint(
        VOCAB_SIZE, (256, LENGTH // 2), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        on_small = next_token_loss(model, language_modeling(diet.small[:128])).item()
    return {
        "held_out": round(loss_on_text(model, text.held_out, rows=256, length=LENGTH), 4),
        "small_text": round(on_small, 4),
        "copying": round(copying(model, passages(text.held_out, 512, LENGTH // 2)), 4),
        "copying_random": round(copying(model, random), 4),
        "small_text_tokens": len(diet.small) * LENGTH,
        "steps": steps,
        "tokens": steps * BATCH * LENGTH,
        "parameters": sum(p.numel() for p in model.parameters()),
        "unigram_loss": round(text.unigram_loss, 4),
        "chance_loss": round(math.log(VOCAB_SIZE), 4),
        "chance_copying": 0.0,
        "text_sha256": text.sha256,
    }


def _becomes_easy(runs: Runs) -> bool:
    often, fresh = (runs.interval("small_text", repeats=n) for n in (100, 1))
    return (
        runs.difference("small_text", repeats=(100, 1)).high < -1
        and max(runs.values("small_text", repeats=100))
        < 0.5 * min(runs.values("held_out", repeats=100))
        and f"{often.value:.2f} {fresh.value:.2f}" == "1.14 3.00"
    )


def _is_worse_in_every_seed(runs: Runs) -> bool:
    mean, low, high = runs.difference("held_out", repeats=(100, 1))
    return (
        min(runs.differences("held_out", repeats=(100, 1))) > 0.02
        and -0.01 < low < 0 < mean
        and f"{mean:.3f} {low:.3f} {high:.3f}" == "0.047 -0.004 0.099"
    )


def _no_harm_to_copying_is_shown(runs: Runs) -> bool:
    found = runs.difference("copying", repeats=(100, 1))
    return not found.shows_difference and abs(found.value) < 0.01 and found.low > -0.02


def _a_tenth_of_equal_tokens(runs: Runs) -> bool:
    whole, short = runs.where(repeats=lambda n: n != LEFT_OUT), runs.where(repeats=LEFT_OUT)
    (tokens,) = {run["tokens"] for run in whole}
    tenths = [run["small_text_tokens"] * run["repeats"] / tokens for run in whole]
    return all(0.08 < tenth < 0.12 for tenth in tenths) and all(
        math.isclose(run["tokens"], 0.9 * tokens, rel_tol=0.01) for run in short
    )


EXPERIMENT = Experiment(
    conditions={"repeats": (1, 100, LEFT_OUT)},
    seeds=(0, 1, 2),
    measure=measure,
    equal=("text_sha256", "parameters", "unigram_loss", "chance_loss"),
    claims={
        "data.effect-duplicates": {
            "a small text read 100 times costs 1.14 nats a token, text read once 3.00": (
                _becomes_easy
            ),
            "the repeated tenth is worse than a fresh one in each seed, by 0.047 [-0.004, 0.099] "
            "nats held out, so that by a hair no difference is shown": _is_worse_in_every_seed,
            "beside leaving the tenth out no harm is shown, -0.04 [-0.15, 0.06] nats held out": (
                lambda runs: (
                    str(runs.difference("held_out", repeats=(100, 0))) == "-0.04 [-0.15, 0.06]"
                )
            ),
            "copying in context is above zero whatever the tenth was": lambda runs: all(
                runs.interval("copying", repeats=n).low > 0 for n in (1, 100, LEFT_OUT)
            ),
            "no harm to copying is shown, and one above 0.02 nats lies outside the interval": (
                _no_harm_to_copying_is_shown
            ),
        },
        "": {
            "every run ends more than a nat below a table of token frequencies": lambda runs: all(
                run["held_out"] < run["unigram_loss"] - 1 < run["chance_loss"] - 1 for run in runs
            ),
            "what is read of the small text is a tenth of equally many tokens, and without it they "
            "are a tenth fewer": _a_tenth_of_equal_tokens,
        },
    },
)
