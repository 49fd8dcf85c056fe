"""Short training runs: a small model, a schedule, rows of text, one loop, and what it learnt."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.core.seeding import seed_everything
from llmlib.training.objectives.causal_and_prefix import language_modeling
from llmlib.training.objectives.next_token import next_token_loss

Rows = Callable[[int], Int[Tensor, "B T"]]
"""A function from the step to its batch: rows of inputs with one target more at the end."""


def small_decoder(
    vocab_size: int, seed: int, *, length: int, d_model: int = 128, n_layers: int = 4
) -> Transformer:
    """Build a decoder of LLaMA's choices that two cores train in a minute.

    It has 0.8 million parameters besides the embeddings at the default size. The tied embeddings
    are scaled by the root of the width (Vaswani et al. 2017, section 3.4).

    Args:
        length: Longest row it is to read.
        d_model: A multiple of 32: heads have 32 dimensions.
    """
    seed_everything(seed)
    return Transformer(
        ModelConfig(
            vocab_size=vocab_size,
            d_model=d_model,
            n_layers=n_layers,
            n_heads=d_model // 32,
            max_seq_len=length,
            embedding_scale=math.sqrt(d_model),
        )
    )


def warmup_decay(peak: float, steps: int) -> Callable[[int], float]:
    """Return a schedule: a twentieth of the steps up to the peak, then straight down to zero."""
    warmup = max(1, steps // 20)
    falling = max(1, steps - warmup)
    return lambda step: peak * min((step + 1) / warmup, (steps - step) / falling)


def warmup_hold_decay(
    peak: float, steps: int, *, warmup: int, share: float
) -> Callable[[int], float]:
    """Return a schedule: up to the peak, there for a while, then straight down to zero.

    It rises for `warmup` steps, and falls over the last `share` of the run.
    """
    slope = 1 / share
    return lambda step: peak * min((step + 1) / warmup, 1.0, slope * (1 - step / steps))


def random_rows(tokens: Int[Tensor, " n"], *, length: int, batch: int, seed: int) -> Rows:
    """Draw rows that begin anywhere in a text, each place as likely.

    Equal seeds see equal rows if the steps are asked for in order. A row has `length` inputs and a
    target more, so the text must be longer.
    """
    generator = torch.Generator().manual_seed(seed)

    def rows(step: int) -> Int[Tensor, "B T"]:
        starts = torch.randint(len(tokens) - length, (batch, 1), generator=generator)
        return tokens[starts + torch.arange(length + 1)]

    return rows


def mixed_rows(
    sources: Sequence[Int[Tensor, " _"]],
    weights: Sequence[float] | Callable[[int], Sequence[float]],
    *,
    length: int,
    batch: int,
    seed: int,
) -> Rows:
    """Draw every row from one of several texts, chosen with the probability that is its weight.

    The weights may change with the step. Rows are as those of `random_rows`.
    """
    generator = torch.Generator().manual_seed(seed)
    ends = torch.tensor([len(source) - length for source in sources])

    def rows(step: int) -> Int[Tensor, "B T"]:
        shares = torch.as_tensor(weights(step) if callable(weights) else weights)
        chosen = torch.multinomial(shares.double(), batch, replacement=True, generator=generator)
        places = torch.rand(batch, generator=generator, dtype=torch.float64)
        starts = (places * ends[chosen]).long().tolist()
        return torch.stack([
            sources[source][start : start + length + 1]
            for source, start in zip(chosen.tolist(), starts, strict=True)
        ])  # fmt: skip

    return rows


def train_briefly(
    model: Transformer,
    source: Int[Tensor, " n"] | Rows | Iterable[Batch],
    *,
    lr: float | Callable[[int], float],
    steps: int,
    batch: int = 16,
    seed: int = 0,
    length: int = 64,
    after_backward: Callable[[int], None] | None = None,
) -> list[float]:
    """Train with Adam, without clipping or weight decay, until the end or until the loss is lost.

    Args:
        model: Changed in place.
        source: Text to draw rows from; or what then decides `batch`, `length` and `seed` itself:
            a function from the step to its rows, or batches, as many as there are steps or more.
        after_backward: Called with the step when the gradients are there.

    Returns:
        What was minimized before each update: nats a token, and with experts their balance loss;
        shorter than `steps` if one was not finite.
    """
    if isinstance(source, Tensor):
        source = random_rows(source, length=length, batch=batch, seed=seed)
    batches = map(language_modeling, map(source, itertools.count())) if callable(source) else source
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), foreach=True)
    losses: list[float] = []
    for step, one in zip(range(steps), batches, strict=False):
        optimizer.param_groups[0]["lr"] = lr(step) if callable(lr) else lr
        loss = next_token_loss(model, one)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimizer.zero_grad()
        loss.backward()
        if after_backward is not None:
            after_backward(step)
        optimizer.step()
    return losses


@torch.no_grad()
def loss_on_text(
    model: Transformer, tokens: Int[Tensor, " n"], *, rows: int = 128, length: int = 64
) -> float:
    """Measure a model, in nats a token, on evenly spaced rows; not finite if it is broken."""
    starts = torch.linspace(0, len(tokens) - length - 1, rows).long().unsqueeze(1)
    chosen = tokens[starts + torch.arange(length + 1)]  # [rows, T + 1]
    losses = [
        next_token_loss(model, language_modeling(part)) * len(part) for part in chosen.split(32)
    ]
    return (torch.stack(losses).sum() / rows).item()
