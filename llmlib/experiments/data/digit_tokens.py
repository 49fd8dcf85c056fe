"""How a small decoder learns to add, by the tokens that its numbers are cut into.

`python -m llmlib.experiments digit_tokens` makes the runs that `data/results` still lacks.

Four ways to write the same sums: digit by digit; in groups of two from the left (`123` is `12` and
`3`); in groups of two from the right (`1` and `23`); by the merges that byte-pair encoding learns
from the numbers in Python documentation and code. Published tokenizers make groups of three; a
hundred groups can be learnt in a minute, a thousand cannot. Every way has 113 tokens, so that all
models are equally large; in the first way most are never used. All see the same sums in the same
order, one a row, and the loss counts what stands behind the equals sign.

Settings were chosen by trying the first and the third way with one seed, until both were neither
at nothing nor at everything: learnt positions and four heads instead of RoPE and two, with which
no way got beyond a fifth in the time; three digits instead of four.
"""

import math
import random
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.core.seeding import seed_everything
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import make_missing_runs
from llmlib.experiments.short_training import answered_exactly, warmup_decay
from llmlib.experiments.worlds.digit_groups import GROUPS, WAYS, Spelling, groups, spelling
from llmlib.training import next_token_loss

SEEDS = (0, 1, 2, 3, 4)
DIGITS = 3
STEPS, BATCH, PEAK_LR = 2500, 64, 4e-3
N_TESTED = 1000
Sum = tuple[int, int]


def held_out(pair: Sum) -> bool:
    """Say whether a sum is for testing: a tenth of all, spread over the digits.

    Args:
        pair: The two numbers.

    Returns:
        True where no training row may hold it.
    """
    return (pair[0] * 7919 + pair[1] * 104729) % 1009 % 10 == 0


def draw(rng: random.Random, digits: int, *, test: bool) -> Sum:
    """Draw a sum whose numbers have one to `digits` digits, each length as likely.

    Args:
        rng: Source of chance.
        digits: Most digits.
        test: Whether a held-out sum is wanted, or one to learn from.

    Returns:
        The two numbers.
    """
    while True:
        lengths = rng.randint(1, digits), rng.randint(1, digits)
        a, b = (rng.randrange(10 ** (n - 1) if n > 1 else 0, 10**n) for n in lengths)
        if held_out((a, b)) == test:
            return a, b


def question(pair: Sum, spell: Spelling) -> list[int]:
    """Write a sum as far as the equals sign.

    Args:
        pair: The two numbers.
        spell: From `spelling`.

    Returns:
        Token ids.
    """
    return [*spell(pair[0]), 1, *spell(pair[1]), 2]


def answer(pair: Sum, spell: Spelling) -> list[int]:
    """Write what follows the equals sign.

    Args:
        pair: The two numbers.
        spell: From `spelling`.

    Returns:
        Token ids, the end mark last.
    """
    return [*spell(pair[0] + pair[1]), 0]


def width(way: str, digits: int) -> int:
    """Return the tokens of the longest sum.

    Args:
        way: One of `WAYS`.
        digits: Most digits of a number.

    Returns:
        The length of a row; with learnt merges no number is longer than its digits.
    """
    n = [len(groups("9" * d, way)) if way in ("left", "right") else d for d in (digits, digits + 1)]
    return 2 * n[0] + n[1] + 3


def sums(way: str, seed: int, *, digits: int = DIGITS, batch: int = BATCH) -> Iterator[Batch]:
    """Yield batches to learn from, without end: one sum a row.

    Args:
        way: One of `WAYS`.
        seed: Decides the sums; equal seeds see equal sums whatever the way.
        digits: Most digits of a number.
        batch: Rows a batch.

    Yields:
        The rows, filled up with end marks, and the target of each place: the token that follows, or
        -100 in the question and behind the answer.
    """
    spell, rng, length = spelling(way), random.Random(seed), width(way, digits)
    while True:
        rows = torch.zeros(batch, length, dtype=torch.long)
        targets = torch.full((batch, length), IGNORE)
        for row, target in zip(rows, targets, strict=True):
            write_sum(row, target, draw(rng, digits, test=False), spell)
        yield {"inputs": rows, "targets": targets}


def decoder(seed: int, *, length: int, d_model: int = 64) -> Transformer:
    """Build a decoder of two layers and four heads with learnt positions.

    Args:
        seed: Decides the weights.
        length: Tokens of the longest sum.
        d_model: Width.

    Returns:
        The model, 0.1 million parameters.
    """
    seed_everything(seed)
    return Transformer(
        ModelConfig(
            vocab_size=len(GROUPS) + 3,
            d_model=d_model,
            n_layers=2,
            n_heads=4,
            max_seq_len=length,
            position="learned",
            embedding_scale=math.sqrt(d_model),
        )
    )


def train(way: str, seed: int, *, steps: int, digits: int = DIGITS) -> Transformer:
    """Train a decoder to add.

    Args:
        way: One of `WAYS`.
        seed: Decides weights and sums.
        steps: Number of updates.
        digits: Most digits of a number.

    Returns:
        The model.
    """
    batches = sums(way, seed, digits=digits)
    return train_on(batches, seed, steps=steps, length=width("single", DIGITS))


def train_on(
    batches: Iterable[Batch],
    seed: int,
    *,
    steps: int,
    length: int,
) -> Transformer:
    """Train a decoder on batches of sums.

    Args:
        batches: Rows and targets, at least as many as there are steps.
        seed: Decides the weights.
        steps: Number of updates.
        length: Longest row that the model can read.

    Returns:
        The model.
    """
    model = decoder(seed, length=length)
    lr = warmup_decay(PEAK_LR, steps)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), foreach=True)
    for step, batch in zip(range(steps), batches, strict=False):
        optimizer.param_groups[0]["lr"] = lr(step)
        loss = next_token_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def accuracy(model: Transformer, way: str, pairs: Sequence[Sum]) -> list[bool]:
    """Ask a model for sums.

    Args:
        model: The model.
        way: How it writes numbers.
        pairs: The sums.

    Returns:
        Whether each answer is right to the last digit.
    """
    spell = spelling(way)
    prompts = [question(pair, spell) for pair in pairs]
    return answered_exactly(model, prompts, [answer(pair, spell) for pair in pairs])


@torch.no_grad()
def answer_nats(model: Transformer, way: str, pairs: Sequence[Sum]) -> float:
    """Measure how surprised a model is by right answers, whole ones, however they are cut.

    Args:
        model: The model.
        way: How it writes numbers.
        pairs: The sums.

    Returns:
        Mean negative log-likelihood of an answer with its end mark, in nats a sum: comparable
        between ways, as nats a token are not.
    """
    spell = spelling(way)
    rows = torch.zeros(len(pairs), width(way, DIGITS), dtype=torch.long)
    targets = torch.full(rows.shape, IGNORE)
    for row, target, pair in zip(rows, targets, pairs, strict=True):
        write_sum(row, target, pair, spell)
    counted = int((targets != IGNORE).sum())
    batch = {"inputs": rows, "targets": targets}
    return next_token_loss(model.eval(), batch).item() * counted / len(pairs)


def write_sum(
    row: Int[Tensor, " T"], target: Int[Tensor, " T"], pair: Sum, spell: Spelling
) -> None:
    """Write a sum into a row of end marks and its answer into the targets.

    Args:
        row: Token ids, changed in place.
        target: What follows each of them, changed where the answer stands.
        pair: The two numbers.
        spell: From `spelling`.
    """
    asked, wanted = question(pair, spell), answer(pair, spell)
    row[: len(asked) + len(wanted)] = torch.tensor(asked + wanted)
    target[len(asked) - 1 : len(asked) + len(wanted) - 1] = torch.tensor(wanted)


def without_carrying(pair: Sum) -> bool:
    """Say whether adding column by column, and forgetting every carry, gives the sum.

    Args:
        pair: The two numbers.

    Returns:
        True where no column reaches ten.

    Example:
        >>> without_carrying((123, 45)), without_carrying((128, 45))
        (True, False)
    """
    a, b = pair
    while a and b:
        if a % 10 + b % 10 > 9:
            return False
        a, b = a // 10, b // 10
    return True


def perform(run: Run, *, steps: int = STEPS, n_tested: int = N_TESTED) -> Run:
    """Train one decoder and ask it for sums that it has not seen.

    Args:
        run: `way` and `seed`.
        steps: Number of updates.
        n_tested: Held-out sums asked for.

    Returns:
        Share of exact answers, in all and by the digits of the larger number, and nats an answer;
        the shares of a reader who forgets to carry; the chance of the commonest sum; tokens a sum.
    """
    way, seed = run["way"], run["seed"]
    model = train(way, seed, steps=steps)
    rng = random.Random(1000 + seed)
    pairs = [draw(rng, DIGITS, test=True) for _ in range(n_tested)]
    right = accuracy(model, way, pairs)
    totals = [a + b for a, b in pairs]
    spell = spelling(way)
    tokens = sum(len(question(pair, spell) + answer(pair, spell)) for pair in pairs)
    return {
        "accuracy": sum(right) / n_tested,
        "answer_nats": round(answer_nats(model, way, pairs), 4),
        "by_digits": _by_digits(pairs, right),
        "without_carrying": sum(map(without_carrying, pairs)) / n_tested,
        "without_carrying_by_digits": _by_digits(pairs, [without_carrying(p) for p in pairs]),
        "chance": max(map(totals.count, set(totals))) / n_tested,
        "tokens_a_sum": round(tokens / n_tested, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": steps,
        "sums_seen": steps * BATCH,
        "tested": n_tested,
    }


def _by_digits(pairs: Sequence[Sum], right: Sequence[bool]) -> list[float]:
    shares = []
    for digits in range(1, DIGITS + 1):
        chosen = [ok for pair, ok in zip(pairs, right, strict=True)
                  if len(str(max(pair))) == digits]  # fmt: skip
        shares.append(round(sum(chosen) / len(chosen), 4) if chosen else math.nan)
    return shares


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment.

    Yields:
        What identifies each run.
    """
    for seed in SEEDS:
        for way in WAYS:
            yield {"way": way, "seed": seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("digit_tokens", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
