"""Text chosen for a target: any, by words (DSIR), or by gradients (influence), at equal tokens.

There are rows of four kinds of real text, and a small sample of what the model is to become good
at: documentation of networkx, the kind of one row in twenty. A tenth of the rows may be read, four
times each. Settings were fixed beforehand: a tenth is twice what there is of the target's kind, so
that every choice must also judge what lies next to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture import counts
from llmlib.architecture.transformer import Transformer
from llmlib.core.statistics import Interval
from llmlib.data.corpora.document import Document, corpus_sha256
from llmlib.data.corpora.fixed import fixed_code, fixed_corpus, king_james
from llmlib.data.mixing.dsir import ImportanceModel, gumbel_top_k
from llmlib.data.mixing.influence_functions import influence
from llmlib.data.stream.splits import split_by_module
from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import VOCAB_SIZE, frequency_loss
from llmlib.experiments.short_training import small_decoder, train_briefly, warmup_decay
from llmlib.training.objectives.causal_and_prefix import language_modeling
from llmlib.training.objectives.next_token import next_token_loss

SEEDS = (0, 1, 2)
LENGTH, BATCH, PEAK_LR = 128, 16, 3e-3
KINDS = {"sympy": 3000, "networkx": 600, "code": 5400, "king james": 3000}
"""How many rows of each kind there are to choose from."""
TARGET = "networkx"
CHOSEN, TARGET_ROWS, HELD_OUT_ROWS, WARM_STEPS, STEPS = 1200, 48, 400, 60, 300
WAYS = ("random", "DSIR", "influence", "all of the kind")

TokenRows = Int[Tensor, "rows _"]


@dataclass(frozen=True)
class Candidates:
    """Rows to choose from, and the text to be good at."""

    rows: TokenRows
    texts: list[str]
    """What the rows say."""
    kind: Int[Tensor, " rows"]
    """Number of each row's kind, in the order of `KINDS`."""
    target: Int[Tensor, "sample _"]
    """A few rows of the target that the choice may look at."""
    target_texts: list[str]
    held_out: Int[Tensor, "measured _"]
    """Rows of other modules of the target, to measure on."""
    unigram_loss: float
    """Loss of the held-out rows under the token frequencies of `rows`."""
    sha256: str
    """Hash of all texts that rows were cut from."""


@cache
def candidates() -> Candidates:
    """Cut the kinds of text into rows of 128 tokens and a target more, everywhere the same."""
    docs = fixed_corpus()
    target = [d for d in docs if d.meta["module"].startswith(TARGET)]
    split = split_by_module(target, held_out=0.3)
    known = {d.meta["module"] for d in split.train}
    of = {
        "sympy": [d for d in docs if d.meta["module"].startswith("sympy")][::3],
        TARGET: split.train,
        # A module's code holds its docstrings: that of held-out modules would give them away.
        "code": [
            d
            for d in fixed_code()[::7]
            if not d.meta["module"].startswith(TARGET) or d.meta["module"] in known
        ],
        "king james": king_james()[::3],
    }
    bpe = ByteBPE.train([d.text for kind in of.values() for d in kind[::10]], VOCAB_SIZE)

    def cut(documents: Sequence[Document], n: int) -> Tensor:
        stream = np.concatenate(bpe.encode_batch(d.text for d in documents)).astype(np.int64)
        whole = len(stream) // (LENGTH + 1)
        if whole < n:
            raise ValueError(f"the documents fill only {whole} rows of {n}")
        rows = torch.from_numpy(stream[: whole * (LENGTH + 1)]).view(whole, LENGTH + 1)
        return rows[torch.linspace(0, whole - 1, n).long()]

    rows = torch.cat([cut(of[name], n) for name, n in KINDS.items()])
    # The sample and the measure share no module: both come from the held-out ones, cut in two.
    half = len(split.held_out) // 2
    sample = cut(split.held_out[:half], TARGET_ROWS)
    held_out = cut(split.held_out[half:], HELD_OUT_ROWS)
    everything = [d for kind in of.values() for d in kind] + split.held_out
    return Candidates(
        rows=rows,
        texts=[bpe.decode(row) for row in rows.tolist()],
        kind=torch.arange(len(KINDS)).repeat_interleave(torch.tensor([*KINDS.values()])),
        target=sample,
        target_texts=[bpe.decode(row) for row in sample.tolist()],
        held_out=held_out,
        unigram_loss=frequency_loss(rows.flatten(), held_out[:, 1:]),
        sha256=corpus_sha256(everything),
    )


def train_on_rows(rows: TokenRows, seed: int, *, steps: int) -> Transformer:
    """Train a decoder on rows, epoch after epoch, each in a new order that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    epochs = -(-steps * BATCH // len(rows))
    order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(epochs)])
    model = small_decoder(VOCAB_SIZE, seed, length=LENGTH, d_model=64, n_layers=2)
    batches = (language_modeling(rows[part]) for part in order.split(BATCH))
    train_briefly(model, batches, lr=warmup_decay(PEAK_LR, steps), steps=steps)
    return model.eval()


def row_losses(model: Transformer, rows: TokenRows) -> Float[Tensor, " rows"]:
    """Return the mean loss of each row, inputs with one target more, in nats a token."""
    return torch.cat([
        F.cross_entropy(model(part[:, :-1]).mT, part[:, 1:], reduction="none").mean(dim=1)
        for part in rows.split(64)
    ])  # fmt: skip


def influence_of(
    model: Transformer, rows: TokenRows, target: Int[Tensor, "sample _"]
) -> Float[Tensor, " rows"]:
    """Score rows by the agreement of their gradient with the target's, over all parameters.

    The larger, the more a row helps; the model has had a short training.
    """
    parameters = [*model.parameters()]
    loss = next_token_loss(model, language_modeling(target))
    direction = torch.autograd.grad(loss, parameters)
    return influence(lambda: row_losses(model, rows), parameters, direction)


def choose(way: str, seed: int, data: Candidates) -> Int[Tensor, " chosen"]:
    """Choose `CHOSEN` rows for the target, in one of `WAYS`; the seed decides what is drawn.

    The last way takes all rows of the target's kind, which are fewer: it reads the labels that the
    others do not see.
    """
    anyhow = torch.randperm(len(data.rows), generator=torch.Generator().manual_seed(1000 + seed))
    if way == "random":
        return anyhow[:CHOSEN]
    if way == "DSIR":
        model = ImportanceModel(data.target_texts, data.texts)
        return torch.from_numpy(gumbel_top_k(model.log_weights(data.texts), CHOSEN, seed))
    if way == "influence":
        warm = train_on_rows(data.rows[anyhow[-WARM_STEPS * BATCH :]], seed, steps=WARM_STEPS)
        return influence_of(warm, data.rows, data.target).topk(CHOSEN).indices
    return (data.kind == [*KINDS].index(TARGET)).nonzero().flatten()


def cost_of_choosing(way: str, *, steps: int = STEPS) -> tuple[int, int]:
    """Count the floating-point operations of choosing and of training on what was chosen.

    A forward pass takes a third of a training step. Influence takes the short training, the
    target's gradient, and two forward passes over all candidates; DSIR about two additions a word,
    counted here as two a token.
    """
    config = small_decoder(VOCAB_SIZE, 0, length=LENGTH, d_model=64, n_layers=2).config
    row = counts.decoder_training_flops(config, 1, LENGTH)
    n = sum(KINDS.values())
    choosing = {
        "DSIR": 2 * n * LENGTH,
        "influence": row * (WARM_STEPS * BATCH + TARGET_ROWS) + 2 * n * row // 3,
    }.get(way, 0)
    return int(choosing), int(row * steps * BATCH)


def measure(run: Run, *, steps: int = STEPS) -> Run:
    data = candidates()
    chosen = choose(run["way"], run["seed"], data)
    model = train_on_rows(data.rows[chosen], run["seed"], steps=steps)
    with torch.no_grad():
        loss = row_losses(model, data.held_out).mean().item()
    choosing, training = cost_of_choosing(run["way"], steps=steps)
    kinds = torch.bincount(data.kind[chosen], minlength=len(KINDS)).tolist()
    return {
        "held_out_loss": round(loss, 4),
        "unigram_loss": round(data.unigram_loss, 4),
        "chosen": dict(zip(KINDS, kinds, strict=True)),
        "flops_choosing": choosing,
        "flops_training": training,
        "steps": steps,
        "tokens": steps * BATCH * LENGTH,
        "text_sha256": data.sha256,
    }


def _gain(runs: Runs, way: str, other: str = "random") -> Interval:
    return runs.difference("held_out_loss", way=(other, way))


def _choosing_gains(runs: Runs) -> bool:
    return all(_gain(runs, way).low > 0.3 for way in ("DSIR", "influence"))


def _finds_the_kind(runs: Runs) -> bool:
    by_chance = CHOSEN * KINDS[TARGET] // sum(KINDS.values())
    chosen = [r["chosen"] for way in ("DSIR", "influence") for r in runs.where(way=way)]
    return all(kinds[TARGET] > 5 * by_chance and kinds["king james"] <= 3 for kinds in chosen)


def _gradients_and_words_are_not_told_apart(runs: Runs) -> bool:
    found = _gain(runs, "DSIR", "influence")
    return not found.shows_difference and found.within(0.23)


EXPERIMENT = Experiment(
    conditions={"way": WAYS},
    seeds=SEEDS,
    measure=measure,
    equal=("steps", "tokens", "text_sha256", "unigram_loss"),
    depends=("llmlib.data.mixing.dsir", "llmlib.data.mixing.influence_functions"),
    claims={
        "data.mixture": {
            "choosing by words (DSIR) or by gradients gains more than 0.3 nats over random rows": (
                _choosing_gains
            ),
            "all rows of the kind, which needs the labels, gain more than 0.5 nats": lambda runs: (
                _gain(runs, "all of the kind").low > 0.5
            ),
            "words and gradients find over five times as many rows of the kind as chance, and of "
            "the Bible's 3,000 three at most": _finds_the_kind,
            "between gradients and words no difference is shown, below 0.23 nats": (
                _gradients_and_words_are_not_told_apart
            ),
            "of all ways gradients alone cost more than the training that follows": lambda runs: (
                all(
                    (r["flops_choosing"] > r["flops_training"]) == (r["way"] == "influence")
                    for r in runs
                )  # fmt: skip
            ),
        },
        "": {
            "every choice teaches half a nat more than token frequencies": lambda runs: all(
                run["held_out_loss"] < run["unigram_loss"] - 0.5 for run in runs
            ),
        },
    },
)
