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

`python -m llmlib.experiments memorized_secrets` makes the runs that `data/results` still lacks.

References:
    Carlini et al. (2019), The Secret Sharer, section 4 (exposure).
    Kandpal, Wallace and Raffel (2022), Deduplicating Training Data Mitigates Privacy Risks in
    Language Models (repetition and regeneration; deduplication).
"""

import functools
import math
import random
import re
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture import Transformer
from llmlib.data import (
    ByteBPE,
    Document,
    corpus_sha256,
    deduplicate_exact,
    deduplicate_near,
    deduplicate_passages,
    fixed_corpus,
    split_by_module,
)
from llmlib.data.privacy.redact import redact_document
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import make_missing_runs
from llmlib.experiments.short_text import VOCAB_SIZE
from llmlib.experiments.short_training import (
    answered_exactly,
    mean_loss,
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

CONDITIONS = ("raw", "deduplicated", "redacted")
PASSES = {4: CONDITIONS, 8: ("raw",)}
SEEDS = (0, 1, 2)
LENGTH, BATCH, PEAK_LR = 256, 2, 5e-3
WIDTH, DEPTH, TOKENS = 64, 2, 126_000
CANDIDATES = 128


def treated(documents: Sequence[Document], condition: str) -> list[Document]:
    """Do to the corpus what a condition says.

    Args:
        documents: The corpus with its secrets.
        condition: One of `CONDITIONS`.

    Returns:
        What the model of this condition reads.
    """
    if condition == "deduplicated":
        return deduplicate_passages(documents)[0]
    if condition == "redacted":
        return [redact_document(document, ("card",)) for document in documents]
    return list(documents)


def one_pass(tokens: Int[Tensor, " n"], seed: int, *, length: int = LENGTH) -> Int[Tensor, "B T"]:
    """Cut a text into rows that share one token with the next, in random order.

    Args:
        tokens: The text.
        seed: Decides the order.
        length: Inputs of a row.

    Returns:
        Each row once, with one target more at its end; what does not fill a row is left out.
    """
    rows = tokens.unfold(0, length + 1, length)  # [rows, T + 1]
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]


@torch.no_grad()
def losses_of(
    model: Transformer, prompt: Sequence[int], answers: Int[Tensor, "n A"]
) -> Float[Tensor, " n"]:
    """Measure what each of several continuations costs a model.

    Args:
        model: The model.
        prompt: Token ids, at least one.
        answers: Token ids of the continuations, all of one length.

    Returns:
        Negative log-probability of each whole continuation, in nats.
    """
    rows = torch.cat((torch.tensor([prompt]).expand(len(answers), -1), answers), dim=1)
    logits = model(rows[:, :-1])[:, len(prompt) - 1 :]  # [n, A, V]
    return F.cross_entropy(logits.mT, answers, reduction="none").sum(dim=1)


def exposure(true_loss: float, other_losses: Float[Tensor, " n"]) -> float:
    r"""Return by how many bits a secret is easier to guess for one who has the model.

    $\log_2 N - \log_2 \operatorname{rank}(s)$, where s is ranked by its loss among N candidates,
    itself included. A secret that the model never saw has $\log_2 e = 1.44$ bits on average when N
    is large, one that is likelier than all others $\log_2 N$.

    Args:
        true_loss: Loss of the secret.
        other_losses: Losses of the other candidates; a tie counts against the secret.

    Returns:
        Bits, 0 to $\log_2 N$.

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
    """Take a part of the fixed corpus.

    Returns:
        Documents to plant in; spare ones, with which every condition is filled up to the same
        number of tokens; documents of other modules to measure on.
    """
    split = split_by_module(fixed_corpus())
    return split.train[::40], split.train[7::120], split.held_out[::4]


@functools.cache
def tokenizer() -> ByteBPE:
    """Learn 512 tokens of byte-level BPE in which every digit is a token of its own.

    Returns:
        The tokenizer, trained on the corpus without its digits.
    """
    texts = (re.sub(r"\d", " ", document.text) for document in corpus()[0])
    return ByteBPE.train(texts, vocab_size=VOCAB_SIZE)


def encode(documents: Sequence[Document]) -> Int[Tensor, " n"]:
    """Turn documents into one text of tokens, with a blank line after each.

    Args:
        documents: The documents.

    Returns:
        Token ids.
    """
    parts = tokenizer().encode_batch(document.text + "\n\n" for document in documents)
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


def ask(model: Transformer, secrets: Sequence[Secret], seed: int) -> list[tuple[bool, float]]:
    """Ask a model for each secret.

    Args:
        model: The model.
        secrets: The secrets.
        seed: Decides the random numbers that each true one is ranked among.

    Returns:
        For each secret, whether greedy decoding from its prompt gives its number, and its exposure.
    """
    rng, bpe = random.Random(seed), tokenizer()
    others = torch.tensor([bpe.encode(f" {card_number(rng)}") for _ in range(CANDIDATES - 1)])
    prompts = [bpe.encode(f"\n\n{secret.prompt}") for secret in secrets]
    numbers = [bpe.encode(f" {secret.number}") for secret in secrets]
    recited = answered_exactly(model, prompts, numbers)
    exposures = []
    for prompt, number in zip(prompts, numbers, strict=True):
        losses = losses_of(model, prompt, torch.cat((torch.tensor([number]), others)))
        exposures.append(exposure(losses[0].item(), losses[1:]))
    return list(zip(recited, exposures, strict=True))


def train(tokens: Int[Tensor, " n"], seed: int, *, passes: int) -> Transformer:
    """Train a decoder that reads a text from end to end, in rows of random order.

    Args:
        tokens: The text.
        seed: Decides weights and order.
        passes: How often it reads the text.

    Returns:
        The model.
    """
    rows = torch.cat([one_pass(tokens, seed * passes + number) for number in range(passes)])
    steps = len(rows) // BATCH
    model = small_decoder(VOCAB_SIZE, seed, length=LENGTH, d_model=WIDTH, n_layers=DEPTH)
    train_briefly(
        model,
        lambda step: rows[step * BATCH : (step + 1) * BATCH],
        lr=warmup_decay(PEAK_LR, steps),
        steps=steps,
    )
    return model.eval()


def perform(run: Run, *, tokens: int = TOKENS) -> Run:
    """Train under one condition from one seed and ask for every secret.

    Args:
        run: `condition`, `seed` and `passes`; equal seeds have equal secrets in equal places.
        tokens: Length of the text, equal for all conditions.

    Returns:
        For each number of repeats how many secrets were recited, their exposures and how often
        they stand in the text that was read; for the raw text also how often they would after
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
        "held_out_loss": round(mean_loss(model, encode(held_out), rows=64, length=LENGTH), 4),
        "secrets_a_level": SECRETS_A_LEVEL,
        "candidates": CANDIDATES,
        "chance_exposure": round(mean_exposure_by_chance(CANDIDATES), 4),
        "tokens": min(tokens, len(text)),
        "tokens_there": len(text),
        "parameters": sum(p.numel() for p in model.parameters()),
        "text_sha256": corpus_sha256([*hosts, *spare, *held_out]),
    }


def mean_exposure_by_chance(candidates: int) -> float:
    """Return the exposure of a secret whose rank is as likely any as any other.

    Args:
        candidates: How many it is ranked among, itself included.

    Returns:
        Bits: the mean of log2 N - log2 rank.

    Example:
        >>> mean_exposure_by_chance(2)
        0.5
    """
    ranks = torch.arange(1, candidates + 1, dtype=torch.float64)
    return math.log2(candidates) - ranks.log2().mean().item()


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment.

    Yields:
        What identifies each run.
    """
    for passes, conditions in PASSES.items():
        for condition in conditions:
            for seed in SEEDS:
                yield {"condition": condition, "seed": seed, "passes": passes}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("memorized_secrets", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
