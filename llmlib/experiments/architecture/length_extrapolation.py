"""How every position scheme reads texts longer than those it was trained on."""

import math
import statistics
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import Interval
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.experiments.short_training import train_briefly, warmup_hold_decay

TRAIN_LENGTH, TEST_LENGTH, BIN = 128, 1024, 64
STEPS, BATCH, PEAK_LR, WARMUP = 250, 16, 3e-3, 25
SEEDS = (0, 1, 2)
SCHEMES = ("sinusoidal", "learned", "t5", "relative", "rope", "alibi", "none")
BREAKING = ("sinusoidal", "rope")


def config_of(scheme: str, max_seq_len: int = TEST_LENGTH) -> ModelConfig:
    """Return the configuration that all schemes share but for their positions.

    A decoder of two layers, about 170,000 parameters; `learned` has a row for each position.
    """
    base = {"vocab_size": VOCAB_SIZE, "d_model": 64, "n_layers": 2, "n_heads": 4}
    changes = {"max_seq_len": max_seq_len, "position": scheme, "tie_embeddings": False}
    return ModelConfig.from_dict(base | changes)


def train(
    scheme: str, seed: int, tokens: Int[Tensor, " n"], *, steps: int = STEPS, batch: int = BATCH
) -> Transformer:
    """Train a decoder on rows of 128 tokens.

    Token embeddings start with unit variance, as in the first Transformer, which multiplies them by
    the root of the width: sinusoids lie between -1 and 1 and drown embeddings of the usual start.
    A table of learned positions gets rows for the test's length; those beyond the training length
    stay as they were drawn. Equal seeds see equal rows.

    References:
        Vaswani et al. (2017), Attention Is All You Need, section 3.4 (the root of the width).
    """
    seed_everything(seed)
    lr = warmup_hold_decay(PEAK_LR, steps, warmup=WARMUP, share=2 / 3)
    model = Transformer(config_of(scheme))
    nn.init.normal_(model.embedding.weight)
    train_briefly(model, tokens, lr=lr, steps=steps, batch=batch, seed=seed, length=TRAIN_LENGTH)
    return model.eval()


@torch.no_grad()
def losses_by_position(
    model: Transformer, tokens: Int[Tensor, " n"], context: int | None = None, batch: int = 4
) -> Float[Tensor, "rows T"]:
    """Return the loss of every token of a text, cut into rows of the test's length.

    With a `context`, even, at most so many tokens are read to predict each: the model reads pieces
    of that length, each half a piece after the other, and the second half of each counts. These are
    the *same* tokens, with half a piece or more before them. Default: the whole row.

    Raises:
        ValueError: When the text does not fill one row, or `context` is odd or does not fit.
    """
    n_rows = (len(tokens) - 1) // TEST_LENGTH
    if n_rows < 1:
        raise ValueError(f"{len(tokens)} tokens are less than a row of {TEST_LENGTH} and a target")
    inputs = tokens[: n_rows * TEST_LENGTH].view(n_rows, TEST_LENGTH)
    targets = tokens[1 : n_rows * TEST_LENGTH + 1].view(n_rows, TEST_LENGTH)
    if context is None:
        return torch.cat([_losses(model, *part) for part in zip(inputs.split(batch),
                                                                targets.split(batch),
                                                                strict=True)])  # fmt: skip
    half, odd = divmod(context, 2)
    if odd or context < 2 or TEST_LENGTH % half:
        raise ValueError(f"context={context}: its half must be whole and divide {TEST_LENGTH}")
    rows = []
    for row, target in zip(inputs, targets, strict=True):
        pieces, wanted = row.unfold(0, context, half), target.unfold(0, context, half)
        losses = _losses(model, pieces, wanted)  # [pieces, context]
        rows.append(torch.cat((losses[0, :half], losses[:, half:].flatten())))
    return torch.stack(rows)


def _losses(
    model: Transformer, inputs: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    return F.cross_entropy(model(inputs).mT, targets, reduction="none")


def measure(run: Run, *, steps: int = STEPS) -> Run:
    """Train one scheme from one seed and measure it beyond its training length.

    Losses are means of 64 positions, with the whole row before a token and with 64 to 127 tokens;
    of T5 it keeps what its heads learnt, a number a distance.
    """
    text = short_text()
    model = train(run["scheme"], run["seed"], text.train, steps=steps)
    long, short = (
        losses_by_position(model, text.held_out, context).mean(dim=0).view(-1, BIN).mean(dim=1)
        for context in (None, TRAIN_LENGTH)
    )
    learnt: Run = {}
    if run["scheme"] == "t5":
        reach = torch.arange(TRAIN_LENGTH).unsqueeze(0)
        bias = model.position_bias(reach[:, -1:], reach)[0, :, 0].flip(-1)  # [H, distance]
        learnt["t5_bias"] = [[round(x, 3) for x in head] for head in bias.tolist()]
    return {
        **learnt,
        "losses": [round(x, 4) for x in long.tolist()],
        "short_context_losses": [round(x, 4) for x in short.tolist()],
        "unigram_loss": round(text.unigram_loss, 4),
        "chance_loss": round(math.log(VOCAB_SIZE), 4),
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_length": TRAIN_LENGTH,
        "positions_a_loss": BIN,
        "steps": steps,
        "text_sha256": text.sha256,
    }


def rise(run: Run, start: int, stop: int) -> float:
    """Return what reading more than the training length costs on a stretch of positions.

    It is a paired difference: the same tokens, predicted by the same model, once after everything
    before them in their row, once after 64 to 127 tokens. `start` and `stop` are multiples of 64.
    In nats a token, negative where the longer context helps.
    """
    bins = slice(start // BIN, stop // BIN)
    pairs = zip(run["losses"][bins], run["short_context_losses"][bins], strict=True)
    differences = [long - short for long, short in pairs]
    return sum(differences) / len(differences)


def far(runs: Runs, scheme: str) -> Interval:
    """Return the rise at four to eight times the trained length, with its interval over seeds."""
    return runs.interval(lambda run: rise(run, 512, 1024), scheme=scheme)


def _reads_on(scheme: str) -> Callable[[Runs], bool]:
    def claim(runs: Runs) -> bool:
        found, breaking = far(runs, scheme), min(far(runs, s).low for s in BREAKING)
        return abs(found.value) < 0.03 and found.high < breaking

    return claim


def _breaks(runs: Runs) -> bool:
    return all(far(runs, scheme).low > 0.05 for scheme in BREAKING)


def _others_stand_between(runs: Runs) -> bool:
    rises = {scheme: far(runs, scheme).value for scheme in SCHEMES}
    best, worst = max(rises["alibi"], rises["relative"]), min(rises[s] for s in BREAKING)
    middle = [rises[scheme] for scheme in ("t5", "learned", "none")]
    return best < min(middle) and max(middle) < worst


def _best_and_worst_inside(runs: Runs) -> bool:
    inside = {scheme: runs.values(_inside, scheme=scheme) for scheme in SCHEMES}
    return all(
        min(SCHEMES, key=lambda scheme: inside[scheme][place]) == "relative"
        and max(SCHEMES, key=lambda scheme: inside[scheme][place]) == "sinusoidal"
        for place in range(len(SEEDS))
    )


def _inside(run: Run) -> float:
    return statistics.mean(run["losses"][: TRAIN_LENGTH // BIN])


def _contexts_agree_where_they_are_equal(runs: Runs) -> bool:
    return all(
        abs(long - short) <= 1e-3
        for run in runs
        for long, short in zip(run["losses"][:2], run["short_context_losses"][:2], strict=True)
    )


EXPERIMENT = Experiment(
    conditions={"scheme": SCHEMES},
    seeds=SEEDS,
    measure=measure,
    equal=(
        "steps",
        "train_length",
        "positions_a_loss",
        "unigram_loss",
        "chance_loss",
        "text_sha256",
    ),
    depends=(
        "llmlib.architecture.positions.alibi",
        "llmlib.architecture.positions.relative",
        "llmlib.architecture.positions.rope",
        "llmlib.architecture.positions.sinusoidal",
    ),
    claims={
        "arch.pos-alibi": {
            "at four to eight times the trained length ALiBi's loss rises by less than 0.03 nats "
            "on average, below the intervals of sinusoids and RoPE": _reads_on("alibi"),
        },
        "arch.pos-extrapolation": {
            "at four to eight times the trained length the loss with sinusoids and RoPE rises by "
            "over 0.05 nats": _breaks,
            "with Transformer-XL's positions it rises there by less than 0.03 nats on average, "
            "below the intervals of sinusoids and RoPE": _reads_on("relative"),
        },
        "": {
            "with T5's bias, a learned table and no positions the loss rises more than with ALiBi "
            "and Transformer-XL and less than with RoPE and sinusoids, on average": (
                _others_stand_between
            ),
            "no scheme gains over 0.01 nats from the longer context, on average": lambda runs: (
                min(far(runs, scheme).value for scheme in SCHEMES) > -0.01
            ),
            "within the trained length Transformer-XL is best and sinusoids are worst with every "
            "seed": _best_and_worst_inside,
            "within the trained length every model ends more than a nat below the loss of token "
            "frequencies": lambda runs: all(_inside(run) < run["unigram_loss"] - 1 for run in runs),
            "both ways to read give the first 128 tokens the same loss": (
                _contexts_agree_where_they_are_equal
            ),
        },
    },
)
