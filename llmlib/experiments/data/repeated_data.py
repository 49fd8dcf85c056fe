"""A tenth of the training tokens is one small text read again and again: what does it cost?

`python -m llmlib.experiments repeated_data` makes the runs that `data/results` still lacks.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture import Transformer
from llmlib.data import ByteBPE, corpus_sha256, fixed_code, split_by_module
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import make_missing_runs
from llmlib.experiments.short_text import VOCAB_SIZE, frequency_loss
from llmlib.experiments.short_training import mean_loss, small_decoder, train_briefly, warmup_decay
from llmlib.training import language_modeling, next_token_loss

LENGTH, BATCH, STEPS, PEAK_LR = 128, 16, 600, 8e-3
SEEDS = (0, 1, 2)
REPEATS = (1, 100)
LEFT_OUT = 0
"""In the place of a number of repeats: the tenth is left out and the run is shorter."""


@dataclass(frozen=True)
class CodeText:
    """Source code as tokens, in parts that share no module.

    Attributes:
        train: Token ids to learn from.
        held_out: Token ids to measure on.
        unigram_loss: Loss of the held-out tokens under the training part's frequencies, in nats.
        sha256: Hash of both parts' documents.
    """

    train: Int[Tensor, " n"]
    held_out: Int[Tensor, " m"]
    unigram_loss: float
    sha256: str


@functools.cache
def code_text() -> CodeText:
    """Cut a third of the fixed code into 512 different tokens.

    Returns:
        The text, the same on every machine: three million tokens to learn from.
    """
    split = split_by_module(fixed_code())
    parts = split.train[::3], split.held_out[::3]
    bpe = ByteBPE.train([d.text for d in parts[0][::6]], vocab_size=VOCAB_SIZE)
    train, held_out = (
        torch.tensor([i for d in part for i in bpe.encode(d.text)]) for part in parts
    )
    sha256 = corpus_sha256([*parts[0], *parts[1]])
    return CodeText(train, held_out, frequency_loss(train, held_out), sha256)


@dataclass(frozen=True)
class Diet:
    """The rows of a run in the order in which they are read.

    Attributes:
        rows: All rows, with one target more at the end of each.
        small: The rows that come again; where nothing does, the first of the tenth.
    """

    rows: Int[Tensor, "rows T"]
    small: Int[Tensor, "small T"]


def make_diet(
    tokens: Int[Tensor, " n"], repeats: int, seed: int, *, n_rows: int, length: int = LENGTH
) -> Diet:
    """Cut a text into rows and let a tenth of what is read be a small part of it.

    Args:
        tokens: The text, at least as long as all rows together.
        repeats: How often each row of the small part is read; 1 fills the tenth with rows that
            come once, `LEFT_OUT` leaves it out.
        seed: Decides which rows are read, where the tenth lies and, alone, all that diets of
            different repeats share.
        n_rows: Rows of a whole run.
        length: Inputs of a row.

    Returns:
        The diet.

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
    """Cut evenly spaced passages out of a text.

    Args:
        tokens: The text.
        count: How many.
        half: Tokens of each.

    Returns:
        Token ids.
    """
    starts = torch.linspace(0, len(tokens) - half, count).long().unsqueeze(1)
    return tokens[starts + torch.arange(half)]


@torch.no_grad()
def copying(model: Transformer, sequences: Int[Tensor, "N half"]) -> float:
    r"""Measure how much cheaper a sequence is after itself than after another one.

    The difference of the mean losses of tokens 2 to T of the sequence, $-\ln p(x_t \mid y, x_{<t})$
    less $-\ln p(x_t \mid x, x_{<t})$, where $y$ is another sequence of the batch.

    Both have as much before them, and the first token of the second time is left out: nobody could
    know where the sequence begins again.

    Args:
        model: The model.
        sequences: Token ids; twice their length fits the model. The other of the first is the last.

    Returns:
        Nats a token; 0 for a model that does not use what it read.
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


def perform(run: Run, *, steps: int = STEPS) -> Run:
    """Train on one diet from one seed and measure what was learnt.

    Args:
        run: `repeats` and `seed`.
        steps: Number of updates of a whole run.

    Returns:
        Losses on held-out code and on the small text, copying, baselines and settings.
    """
    text = code_text()
    diet = make_diet(text.train, run["repeats"], run["seed"], n_rows=steps * BATCH)
    model = small_decoder(VOCAB_SIZE, run["seed"], length=LENGTH, d_model=64, n_layers=2)
    steps = len(diet.rows) // BATCH
    train_briefly(
        model,
        lambda step: diet.rows[step * BATCH : (step + 1) * BATCH],
        lr=warmup_decay(PEAK_LR, steps),
        steps=steps,
    )
    model.eval()
    random = torch.randint(VOCAB_SIZE, (256, 64), generator=torch.Generator().manual_seed(0))
    few = diet.small[:128]
    with torch.no_grad():
        on_small = next_token_loss(model, language_modeling(few)).item()
    return {
        "held_out": round(mean_loss(model, text.held_out, rows=256, length=LENGTH), 4),
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


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment.

    Yields:
        What identifies each run.
    """
    for repeats in (*REPEATS, LEFT_OUT):
        for seed in SEEDS:
            yield {"repeats": repeats, "seed": seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("repeated_data", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
