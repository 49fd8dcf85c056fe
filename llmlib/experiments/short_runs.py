"""What experiments with many short training runs share: model, text, rows, loop and record."""

import argparse
import functools
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.files import atomic_write
from llmlib.core.machine import machine_class, versions
from llmlib.core.resources import resource
from llmlib.core.seeding import seed_everything
from llmlib.data import ByteBPE, corpus_sha256, fixed_corpus, split_by_module
from llmlib.training import language_modeling, next_token_loss

VOCAB_SIZE = 512
T_975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)
"""Student's t at 97.5%, for 1 to 9 degrees of freedom."""

Run = dict[str, Any]
Rows = Callable[[int], Int[Tensor, "B T"]]
"""A function from the step to its batch: rows of inputs with one target more at the end."""


@dataclass(frozen=True)
class ShortText:
    """An eighth of the fixed corpus as tokens, and text of other modules to measure on.

    Attributes:
        train: Token ids to learn from.
        held_out: Token ids of modules that the training part has nothing of.
        sha256: Hash of both parts' documents.
        unigram_loss: Cross-entropy of the held-out tokens under the training part's token
            frequencies, in nats a token: what a model pays that has learnt no context.
    """

    train: Int[Tensor, " n"]
    held_out: Int[Tensor, " m"]
    sha256: str
    unigram_loss: float


@functools.cache
def short_text() -> ShortText:
    """Cut the text of the short runs into the 512 tokens that byte-level BPE learns from it.

    Returns:
        The text, the same on every machine; about 430,000 tokens to learn from.
    """
    split = split_by_module(fixed_corpus())
    parts = split.train[::8], split.held_out[::4]
    bpe = ByteBPE.train([document.text for document in parts[0]], vocab_size=VOCAB_SIZE)
    train, held_out = (
        torch.tensor([i for document in part for i in bpe.encode(document.text)]) for part in parts
    )
    sha256 = corpus_sha256([*parts[0], *parts[1]])
    return ShortText(train, held_out, sha256, frequency_loss(train, held_out))


def frequency_loss(
    tokens: Int[Tensor, " n"], held_out: Int[Tensor, "*m"], vocab_size: int = VOCAB_SIZE
) -> float:
    """Return what a model pays that has learnt how common the tokens are, and no context.

    Args:
        tokens: The text whose frequencies are known.
        held_out: The text that is predicted.
        vocab_size: Number of tokens; each counts once more, so that none is impossible.

    Returns:
        Cross-entropy of the held-out tokens, in nats a token.

    Example:
        >>> text = torch.tensor([0, 0, 1])
        >>> round(frequency_loss(text, torch.tensor([0]), vocab_size=3), 4)  # ln(6 / 3)
        0.6931
    """
    counts = torch.bincount(tokens, minlength=vocab_size) + 1.0
    return -(counts / counts.sum()).log()[held_out].mean().item()


def small_decoder(
    vocab_size: int, seed: int, *, length: int, d_model: int = 128, n_layers: int = 4
) -> Transformer:
    """Build a decoder of LLaMA's choices that two cores train in a minute.

    The tied embeddings are scaled by the root of the width (Vaswani et al. 2017, section 3.4).

    Args:
        vocab_size: Number of tokens.
        seed: Decides the weights.
        length: Longest row it is to read.
        d_model: Width, a multiple of 32: heads have 32 dimensions.
        n_layers: Depth.

    Returns:
        The model; 0.8 million parameters besides the embeddings at the default size.
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
    """Return a schedule: a twentieth of the steps up to the peak, then straight down to zero.

    Args:
        peak: Largest learning rate.
        steps: Length of the run.

    Returns:
        A function from the step to the rate.
    """
    warmup = max(1, steps // 20)
    falling = max(1, steps - warmup)
    return lambda step: peak * min((step + 1) / warmup, (steps - step) / falling)


def random_rows(tokens: Int[Tensor, " n"], *, length: int, batch: int, seed: int) -> Rows:
    """Draw rows that begin anywhere in a text, each place as likely.

    Args:
        tokens: The text, longer than a row.
        length: Inputs of a row; a target more is drawn.
        batch: Rows a step.
        seed: Decides which; equal seeds see equal rows if the steps are asked for in order.

    Returns:
        A function from the step to its rows.
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

    Args:
        sources: The texts, each longer than a row.
        weights: Share of each, or a function from the step to the shares.
        length: Inputs of a row.
        batch: Rows a step.
        seed: Decides sources and places.

    Returns:
        A function from the step to its rows.
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
    tokens: Int[Tensor, " n"] | Rows,
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
        model: The model, changed in place.
        tokens: Text to draw rows from, or a function from the step to its rows, which then decides
            `batch`, `length` and `seed` itself.
        lr: Learning rate, or a function from the step to it.
        steps: Number of updates.
        batch: Rows a step.
        seed: Decides which rows; equal seeds see equal rows.
        length: Tokens of a row.
        after_backward: Called with the step when the gradients are there.

    Returns:
        The loss before each update, in nats a token; shorter than `steps` if one was not finite.
    """
    if isinstance(tokens, Tensor):
        tokens = random_rows(tokens, length=length, batch=batch, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), foreach=True)
    losses: list[float] = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr(step) if callable(lr) else lr
        rows = tokens(step)  # [B, T + 1]
        loss = next_token_loss(model, language_modeling(rows))
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
def mean_loss(
    model: Transformer, tokens: Int[Tensor, " n"], *, rows: int = 128, length: int = 64
) -> float:
    """Measure a model on evenly spaced rows of a text.

    Args:
        model: The model.
        tokens: The text.
        rows: How many rows.
        length: Tokens of a row.

    Returns:
        Nats a token; not finite if the model is broken.
    """
    starts = torch.linspace(0, len(tokens) - length - 1, rows).long().unsqueeze(1)
    chosen = tokens[starts + torch.arange(length + 1)]  # [rows, T + 1]
    losses = [
        next_token_loss(model, language_modeling(part)) * len(part) for part in chosen.split(32)
    ]
    return (torch.stack(losses).sum() / rows).item()


@torch.no_grad()
def answered_exactly(
    model: Transformer, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[bool]:
    """Say which prompts a model continues greedily with exactly the expected answer.

    No text is generated: greedy decoding gives the answer if and only if each of its tokens is the
    likeliest one after the prompt and the answer's tokens before it, which one pass tells.

    Args:
        model: The model.
        prompts: Token ids, at least one each.
        answers: Token ids expected after each prompt, an end mark included where it counts.

    Returns:
        Whether each answer is right, in the order of the prompts.
    """
    model.eval()
    right = []
    for start in range(0, len(prompts), 64):
        pairs = list(zip(prompts[start : start + 64], answers[start : start + 64], strict=True))
        rows = torch.zeros(len(pairs), max(len(p) + len(a) for p, a in pairs), dtype=torch.long)
        for row, (prompt, answer) in zip(rows, pairs, strict=True):
            row[: len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
        hits = model(rows[:, :-1]).argmax(-1) == rows[:, 1:]  # [pairs, T - 1]
        right += [
            bool(hit[len(p) - 1 : len(p) + len(a) - 1].all())
            for hit, (p, a) in zip(hits, pairs, strict=True)
        ]
    return right


def t_interval(values: Sequence[float] | Float[Tensor, " n"]) -> tuple[float, float, float]:
    r"""Return the mean of a few independent measurements and its 95% interval.

    $\bar x \pm t_{0.975,\,n-1}\, s / \sqrt n$

    Args:
        values: Two measurements or more, as many seeds give.

    Returns:
        Mean, lower and upper end.

    Raises:
        ValueError: For fewer than two values, which have no spread, or more than ten.

    Example:
        >>> [round(x, 2) for x in t_interval([1.0, 2.0, 3.0])]
        [2.0, -0.48, 4.48]

    References:
        Student (1908), The Probable Error of a Mean.
    """
    numbers = torch.as_tensor(values, dtype=torch.float64)
    if not 2 <= len(numbers) <= len(T_975) + 1:
        raise ValueError(f"{len(numbers)} values: give 2 to {len(T_975) + 1}, one a seed")
    half = T_975[len(numbers) - 2] * numbers.std().item() / math.sqrt(len(numbers))
    mean = numbers.mean().item()
    return mean, mean - half, mean + half


def paired_interval(
    runs: Sequence[Run], varied: str, first: str, second: str, value: Callable[[Run], float]
) -> tuple[float, float, float]:
    """Compare two conditions of an experiment seed by seed.

    Args:
        runs: Lines of its record.
        varied: The field that tells conditions apart, as `mix`.
        first: A condition.
        second: Another one, with the same seeds.
        value: What a run measured.

    Returns:
        Mean of the first less the second, and its 95% interval.

    Example:
        >>> runs = [{"mix": m, "seed": s, "loss": x} for m, s, x in
        ...         (("a", 0, 1.0), ("b", 0, 0.5), ("b", 1, 1.5), ("a", 1, 2.0))]
        >>> paired_interval(runs, "mix", "a", "b", lambda run: run["loss"])
        (0.5, 0.5, 0.5)
    """
    found = {(run[varied], run["seed"]): value(run) for run in runs}
    seeds = sorted({run["seed"] for run in runs})
    return t_interval([found[first, seed] - found[second, seed] for seed in seeds])


def read_runs(name: str) -> list[Run]:
    """Read the committed runs of an experiment.

    Args:
        name: The experiment, as `norm_placement`.

    Returns:
        One entry a run, in the order they were made.
    """
    text = resource(f"results/{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def run_missing(
    name: str,
    plan: Iterable[Run],
    perform: Callable[[Run], Run],
    record: Path,
    *,
    minutes: float = math.inf,
) -> int:
    """Do those runs of a plan that a record does not hold yet, a line each.

    Args:
        name: The experiment.
        plan: What identifies each run, as JSON values.
        perform: Does one run; returns what it measured.
        record: The file of results; whole after every run, so an interrupted experiment goes on.
        minutes: Begin no run after so long.

    Returns:
        How many runs are still missing.
    """
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    done = [json.loads(line) for line in lines]
    missing = [run for run in plan if not any(run.items() <= line.items() for line in done)]
    begun = time.monotonic()
    for place, run in enumerate(missing):
        if time.monotonic() - begun > 60 * minutes:
            return len(missing) - place
        start, cpu = time.perf_counter(), time.process_time()
        measured = perform(run)
        line = {
            **run,
            **measured,
            "seconds": round(time.perf_counter() - start, 2),
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "command": f"python -m llmlib.experiments.{name}",
            "machine": machine_class(),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }
        lines.append(json.dumps(line))
        atomic_write(record, "\n".join(lines) + "\n")
        print(f"{place + 1}/{len(missing)} {run}: {measured}"[:150], file=sys.stderr, flush=True)
    return 0


def make_missing_runs(
    name: str,
    plan: Iterable[Run],
    perform: Callable[[Run], Run],
    description: str | None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Be the command of an experiment: do on one thread what its record does not hold yet.

    Args:
        name: The experiment; its runs are recorded in `data/results/NAME.jsonl`.
        plan: What identifies each run.
        perform: Does one run.
        description: The module's docstring, whose first line is shown by `--help`.
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0] if description else "")
    parser.add_argument("--record", type=Path, default=Path(f"data/results/{name}.jsonl"))
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after this")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    return int(run_missing(name, plan, perform, options.record, minutes=options.minutes) > 0)
