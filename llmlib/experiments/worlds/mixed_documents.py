"""Documents of several kinds in the words of `instruction_world`, mixed, and a model of them."""

import random
from collections.abc import Callable, Mapping
from functools import cache

import torch

from llmlib.architecture.transformer import Transformer
from llmlib.experiments.short_training import Rows, small_decoder, train_briefly, warmup_decay
from llmlib.experiments.worlds.instruction_world import as_document, words

Kind = Callable[[random.Random], list[str]]
"""A function that writes a document: its lines."""
LENGTH, BATCH, STEPS, PEAK_LR = 64, 16, 600, 6e-3


def fresh_rows(
    kinds: Mapping[str, Kind],
    shares: Mapping[str, float],
    *,
    length: int,
    batch: int,
    seed: int,
) -> Rows:
    """Write new documents for every step, each kind with its share of the tokens.

    A row begins with the beginning of a document and is filled with further ones, all kinds mixed;
    the last one is cut off. It has `length` inputs, and a target more. Shares are of
    tokens and sum to one; the seed decides all documents.
    """
    rng = random.Random(f"rows:{seed}")
    names = [name for name in kinds if shares[name] > 0]
    sizes = {name: mean_size(kinds[name]) for name in names}
    weights = [shares[name] / sizes[name] for name in names]

    def row() -> list[int]:
        tokens: list[int] = []
        while len(tokens) <= length:
            name = rng.choices(names, weights)[0]
            tokens += as_document(kinds[name](rng))
        return tokens[: length + 1]

    return lambda step: torch.tensor([row() for _ in range(batch)])


@cache
def mean_size(kind: Kind) -> float:
    """Estimate the mean length of a kind of document in tokens, from 4,000 of them."""
    rng = random.Random("sizes")
    return sum(len(as_document(kind(rng))) for _ in range(4000)) / 4000


def train_on_documents(
    kinds: Mapping[str, Kind],
    shares: Mapping[str, float],
    seed: int,
    *,
    steps: int = STEPS,
    batch: int = BATCH,
) -> Transformer:
    """Train a decoder of two layers on `fresh_rows`; the seed decides weights and documents."""
    rows = fresh_rows(kinds, shares, length=LENGTH, batch=batch, seed=seed)
    model = small_decoder(len(words()), seed, length=2 * LENGTH, d_model=64, n_layers=2)
    train_briefly(model, rows, lr=warmup_decay(PEAK_LR, steps), steps=steps)
    return model.eval()
