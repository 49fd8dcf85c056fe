"""How often a secret must stand in the training text before a model gives it away.

Made-up card numbers, each with its owner's name, are planted in 297 documents of the fixed corpus:
two numbers once, two twice, and so on up to 64 times; two more are never planted. The copies of a
number agree in three short sentences; the documents round them differ. A small decoder reads the
text four times. Then it is given the sentence before the number and asked for the number, greedily;
and the true number's loss is ranked among random ones (exposure).

Three conditions at equal steps and tokens: the text as it is; with every passage of three
sentences kept once; with card numbers redacted.

How the settings were chosen: in tries on 500 and on 1,187 documents, read once or twice, no number
was recited, though those planted 64 times had the largest possible exposure. With 297 documents the
number of passes was to be the first of 4, 6 and 8 after which both numbers planted 64 times are
recited; it was 4, with seed 100, which is not in the record. Of the three seeds that are, one
recites after four passes; so the raw text is read eight times as well.

References:
    Carlini et al. (2019), The Secret Sharer, section 4 (exposure).
    Kandpal, Wallace and Raffel (2022), Deduplicating Training Data Mitigates Privacy Risks in
    Language Models (repetition and regeneration; deduplication).
"""

import functools
import itertools
import math
import random
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture.transformer import Transformer
from llmlib.core.statistics import Interval, paired_interval
from llmlib.core.task import Message
from llmlib.data.corpora.document import Document, corpus_sha256
from llmlib.data.corpora.fixed import fixed_corpus
from llmlib.data.deduplication.exact import deduplicate_exact
from llmlib.data.deduplication.near.near_duplicates import deduplicate_near
from llmlib.data.deduplication.passages import deduplicate_passages
from llmlib.data.privacy.redaction import redact_document
from llmlib.data.stream.splits import split_by_module
from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE
from llmlib.evaluation.exact import ExactAnswers, answers_greedily
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import VOCAB_SIZE
from llmlib.experiments.short_training import (
    loss_on_text,
    small_decoder,
    train_briefly,
    warmup_decay,
)
from llmlib.experiments.worlds.planted_secrets import (
    REPEATS,
    SECRETS_A_LEVEL,
    Secret,
    card_number,
    copies,
    draw_secrets,
    occurrences,
    plant,
)
from llmlib.training.objectives.causal_and_prefix import language_modeling

CONDITIONS = ("raw", "deduplicated", "redacted")
PASSES = {4: CONDITIONS, 8: ("raw",)}
"""How often the text of which conditions is read."""
LENGTH, BATCH, PEAK_LR = 256, 2, 5e-3
WIDTH, DEPTH, TOKENS = 64, 2, 126_000
CANDIDATES = 128


def treated(documents: Sequence[Document], condition: str) -> list[Document]:
    if condition == "deduplicated":
        return deduplicate_passages(documents)[0]
    if condition == "redacted":
        return [redact_document(document, ("card",)) for document in documents]
    return list(documents)


def one_pass(tokens: Int[Tensor, " n"], seed: int, *, length: int = LENGTH) -> Int[Tensor, "B T"]:
    """Cut a text into rows that share one token with the next, in random order.

    Each row comes once, with one target more at its end; what does not fill a row is left out.
    """
    rows = tokens.unfold(0, length + 1, length)  # [rows, T + 1]
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]


@torch.no_grad()
def losses_of(
    model: Transformer, prompt: Sequence[int], answers: Int[Tensor, "n A"]
) -> Float[Tensor, " n"]:
    """Return each whole continuation's negative log-probability after a prompt, in nats."""
    rows = torch.cat((torch.tensor([prompt]).expand(len(answers), -1), answers), dim=1)
    logits = model(rows[:, :-1])[:, len(prompt) - 1 :]  # [n, A, V]
    return F.cross_entropy(logits.mT, answers, reduction="none").sum(dim=1)


def exposure(true_loss: float, other_losses: Float[Tensor, " n"]) -> float:
    r"""Return by how many bits a secret is easier to guess for one who has the model.

    $\log_2 N - \log_2 \operatorname{rank}(s)$, where s is ranked by its loss among N candidates,
    itself included; a tie counts against it. A secret that the model never saw has $\log_2 e =
    1.44$ bits on average when N is large, one that is likelier than all others $\log_2 N$.

    Example:
        >>> exposure(1.0, torch.tensor([2.0, 3.0, 0.5]))
        1.0

    References:
        Carlini et al. (2019), The Secret Sharer, section 4.2.
    """
    rank = 1 + int((other_losses <= true_loss).sum())
    return math.log2(len(other_losses) + 1) - math.log2(rank)


@functools.cache
def corpus() -> tuple[list[Document], list[Document], list[Document]]:
    """Take a part of the fixed corpus, in three parts.

    Documents to plant in; spare ones, with which every condition is filled up to the same number of
    tokens; documents of other modules to measure on.
    """
    split = split_by_module(fixed_corpus())
    return split.train[::40], split.train[7::120], split.held_out[::4]


@functools.cache
def tokenizer() -> ByteBPE:
    """Learn 512 tokens from the corpus without its digits, so that each digit is a token."""
    texts = (re.sub(r"\d", " ", document.text) for document in corpus()[0])
    return ByteBPE.train(texts, vocab_size=VOCAB_SIZE)


def encode(documents: Sequence[Document]) -> Int[Tensor, " n"]:
    """Turn documents into one text of tokens, with a blank line after each."""
    parts = tokenizer().encode_batch(document.text + "\n\n" for document in documents)
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


def read(prompt: Sequence[Message]) -> list[int]:
    return tokenizer().encode(f"\n\n{prompt[-1]['content']}")


def write(number: str) -> list[int]:
    return tokenizer().encode(f" {number}")


def ask(model: Transformer, secrets: Sequence[Secret], seed: int) -> list[tuple[bool, float]]:
    """Ask a model for each secret: does greedy decoding give its number, and its exposure.

    The seed decides the random numbers that each true one is ranked among.
    """
    rng = random.Random(seed)
    others = torch.tensor([write(card_number(rng)) for _ in range(CANDIDATES - 1)])
    task = ExactAnswers([secret.prompt for secret in secrets], [s.number for s in secrets])
    recited = answers_greedily(model, task, read, write)
    exposures = []
    for place, number in enumerate(task.answers):
        candidates = torch.cat((torch.tensor([write(number)]), others))
        losses = losses_of(model, read(task.prompt(place)), candidates)
        exposures.append(exposure(losses[0].item(), losses[1:]))
    return list(zip(recited, exposures, strict=True))


def train(tokens: Int[Tensor, " n"], seed: int, *, passes: int) -> Transformer:
    """Train a decoder that reads a text from end to end so often, in rows of random order."""
    rows = torch.cat([one_pass(tokens, seed * passes + number) for number in range(passes)])
    steps = len(rows) // BATCH
    model = small_decoder(VOCAB_SIZE, seed, length=LENGTH, d_model=WIDTH, n_layers=DEPTH)
    batches = map(language_modeling, rows.split(BATCH))
    train_briefly(model, batches, lr=warmup_decay(PEAK_LR, steps), steps=steps)
    return model.eval()


def mean_exposure_by_chance(candidates: int) -> float:
    """Return the mean exposure, in bits, of secrets whose ranks are as likely any as any other.

    Example:
        >>> mean_exposure_by_chance(2)
        0.5
    """
    ranks = torch.arange(1, candidates + 1, dtype=torch.float64)
    return math.log2(candidates) - ranks.log2().mean().item()


def measure(run: Run, *, tokens: int = TOKENS) -> Run:
    """Train under one condition from one seed and ask for every secret, in places equal by seed.

    Of the raw text it is also recorded how often the numbers would stand there after
    deduplicating whole documents.
    """
    seed, condition = run["seed"], run["condition"]
    hosts, spare, held_out = corpus()
    secrets = draw_secrets(seed)
    planted = [*plant(hosts, copies(secrets), seed), *spare]
    documents = treated(planted, condition)
    text = encode(documents)
    model = train(text[:tokens], seed, passes=run["passes"])
    answers = ask(model, secrets, seed)
    by_level = [answers[k : k + SECRETS_A_LEVEL] for k in range(0, len(answers), SECRETS_A_LEVEL)]
    elsewhere: Run = {}
    if condition == "raw":
        for name, step in (("exact", deduplicate_exact), ("near", deduplicate_near)):
            elsewhere[f"after_{name}_documents"] = occurrences(step(planted)[0], secrets)
    return {
        "repeats": list(REPEATS),
        "recited": [sum(hit for hit, _ in level) for level in by_level],
        "exposures": [[round(bits, 3) for _, bits in level] for level in by_level],
        "occurrences": occurrences(documents, secrets),
        **elsewhere,
        "held_out_loss": round(loss_on_text(model, encode(held_out), rows=64, length=LENGTH), 4),
        "secrets_a_level": SECRETS_A_LEVEL,
        "candidates": CANDIDATES,
        "chance_exposure": round(mean_exposure_by_chance(CANDIDATES), 4),
        "tokens": min(tokens, len(text)),
        "tokens_there": len(text),
        "parameters": sum(p.numel() for p in model.parameters()),
        "text_sha256": corpus_sha256([*hosts, *spare, *held_out]),
    }


OFTEN, PLANTED, CLEANED = (16, 32, 64), REPEATS[1:], CONDITIONS[1:]


def _at(levels: Sequence[int], key: str, run: Run) -> list[Any]:
    return [found for n, found in zip(run["repeats"], run[key], strict=True) if n in levels]


def _exposure(*levels: int) -> Callable[[Run], float]:
    """Return a function from a run to the mean exposure of what was planted so often."""
    return lambda run: statistics.mean(itertools.chain(*_at(levels, "exposures", run)))


def _recited(*levels: int) -> Callable[[Run], float]:
    """Return a function from a run to the share recited of what was planted so often."""
    return lambda run: statistics.mean(_at(levels, "recited", run)) / run["secrets_a_level"]


def _above(runs: Runs, condition: str, levels: Sequence[int], *others: int) -> Interval:
    """Compare exposures within the runs that read the text of one condition four times."""
    read = runs.where(condition=condition, passes=4)
    return paired_interval(read.values(_exposure(*levels)), read.values(_exposure(*others)))


def _in_words(found: Interval) -> str:
    return "{:.1f} [{:.1f}, {:.1f}]".format(*found)


def _copies_expose(runs: Runs) -> bool:
    eight, more = (_above(runs, "raw", levels, 0) for levels in ((8,), OFTEN))
    found = f"{_in_words(eight)} bits, 16 to 64 by {_in_words(more)}"
    return eight.low > 0 and found == "4.6 [4.1, 5.1] bits, 16 to 64 by 5.8 [4.9, 6.8]"


def _of_six(runs: Runs, passes: int, *levels: int) -> list[float]:
    """Count what the raw text's three seeds recited together of two numbers at each level."""
    raw = runs.where(condition="raw", passes=passes)
    return [6 * statistics.mean(raw.values(_recited(level))) for level in levels]


def _enough_copies_are_recited(runs: Runs) -> bool:
    raw, few = runs.where(condition="raw", passes=8), (0, 1, 2, 4, 8)
    more = paired_interval(raw.values(_recited(*OFTEN)), raw.values(_recited(*few)))
    return more.low > 0.25 and _of_six(runs, 8, *few, *OFTEN) == [0, 0, 0, 0, 0, 4, 5, 6]


def _without_copies_nothing_is_given_away(runs: Runs) -> bool:
    return all(
        runs.difference(_exposure(*OFTEN), condition=("raw", cleaned), passes=4).low > 3
        and not any(runs.values(_recited(*REPEATS), condition=cleaned))
        for cleaned in CLEANED
    )


def _nothing_planted_is_told_apart(runs: Runs) -> bool:
    found = [_above(runs, cleaned, PLANTED, 0) for cleaned in CLEANED]
    return not any(d.shows_difference for d in found) and [_in_words(d) for d in found] == [
        "0.7 [-1.2, 2.6]",
        "0.2 [-2.3, 2.8]",
    ]


def _each_stands(
    runs: Runs, condition: str, times: Callable[[int], int], key: str = "occurrences"
) -> bool:
    expected = [SECRETS_A_LEVEL * times(n) for n in REPEATS]
    return all(run[key] == expected for run in runs.where(condition=condition))


EXPERIMENT = Experiment(
    conditions=[
        {"condition": condition, "passes": n} for n, read in PASSES.items() for condition in read
    ],
    seeds=(0, 1, 2),
    measure=measure,
    equal=("tokens", "text_sha256", "parameters", "repeats", "candidates", "chance_exposure"),
    depends=("llmlib.data.deduplication.passages", "llmlib.data.privacy.redaction"),
    claims={
        "data.privacy": {
            "what stands 16 to 64 times is exposed by over 3 bits more than what stands there "
            "twice at most": lambda runs: _above(runs, "raw", OFTEN, 0, 1, 2).low > 3,
            "8 copies raise the exposure of a number above that of one never planted by 4.6 [4.1, "
            "5.1] bits, 16 to 64 by 5.8 [4.9, 6.8]": _copies_expose,
            "what stands 64 times is likelier than all 127 others with every seed": lambda runs: (
                runs.values(_exposure(64), condition="raw", passes=4) == [math.log2(128)] * 3
            ),
            "after eight passes 4, 5 and 6 of 6 numbers are recited at 16, 32 and 64 copies, and "
            "none at up to 8": _enough_copies_are_recited,
            "at 64 copies 6 of 6 are recited after eight passes, 2 after four": lambda runs: (
                _of_six(runs, 8, 64) + _of_six(runs, 4, 64) == [6, 2]
            ),
            "with passages deduplicated or cards redacted, what was planted 16 to 64 times loses "
            "over 3 bits after four passes, and nothing is recited": (
                _without_copies_nothing_is_given_away
            ),
            "deduplicated or redacted, no difference to numbers never planted is shown, 0.7 [-1.2, "
            "2.6] and 0.2 [-2.3, 2.8] bits": _nothing_planted_is_told_apart,
            "deduplicating passages leaves each number once, redacting leaves none": lambda runs: (
                _each_stands(runs, "deduplicated", lambda n: min(n, 1))
                and _each_stands(runs, "redacted", lambda _: 0)
            ),
        },
        "": {
            "deduplicating whole documents, exact or near, would leave every copy": lambda runs: (
                _each_stands(runs, "raw", int)
                and _each_stands(runs, "raw", int, "after_exact_documents")
                and _each_stands(runs, "raw", int, "after_near_documents")
            ),
            "every text was long enough for the tokens read": lambda runs: all(
                run["tokens_there"] >= run["tokens"] for run in runs
            ),
        },
    },
)
