"""How every position scheme reads texts longer than those it was trained on.

`python -m llmlib.experiments length_extrapolation` makes the runs that `data/results` still lacks.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.seeding import seed_everything
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import make_missing_runs
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.experiments.short_training import train_briefly

TRAIN_LENGTH, TEST_LENGTH, BIN = 128, 1024, 64
STEPS, BATCH, PEAK_LR, WARMUP = 250, 16, 3e-3, 25
SEEDS = (0, 1, 2)
SCHEMES = ("sinusoidal", "learned", "t5", "relative", "rope", "alibi", "none")


def config_of(scheme: str, max_seq_len: int = TEST_LENGTH) -> ModelConfig:
    """Return the configuration that all schemes share but for their positions.

    Args:
        scheme: One of `SCHEMES`.
        max_seq_len: Longest text; with `learned`, the rows of its table.

    Returns:
        A decoder of two layers, about 170,000 parameters.
    """
    return ModelConfig.from_dict(
        {
            "vocab_size": VOCAB_SIZE,
            "d_model": 64,
            "n_layers": 2,
            "n_heads": 4,
            "max_seq_len": max_seq_len,
            "position": scheme,
            "tie_embeddings": False,
        }
    )


def train(
    scheme: str, seed: int, tokens: Int[Tensor, " n"], *, steps: int = STEPS, batch: int = BATCH
) -> Transformer:
    """Train a decoder on rows of 128 tokens.

    Token embeddings start with unit variance, as in the first Transformer, which multiplies them by
    the root of the width: sinusoids lie between -1 and 1 and drown embeddings of the usual start.
    A table of learned positions gets rows for the test's length; those beyond the training length
    stay as they were drawn.

    Args:
        scheme: One of `SCHEMES`.
        seed: Decides weights and rows; equal seeds see equal rows.
        tokens: Text to learn from.
        steps: Number of updates.
        batch: Rows an update.

    Returns:
        The model.

    References:
        Vaswani et al. (2017), Attention Is All You Need, section 3.4 (the root of the width).
    """

    def lr(step: int) -> float:
        return PEAK_LR * min((step + 1) / WARMUP, 1.0, 1.5 * (1 - step / steps))

    seed_everything(seed)
    model = Transformer(config_of(scheme))
    nn.init.normal_(model.embedding.weight)
    train_briefly(model, tokens, lr=lr, steps=steps, batch=batch, seed=seed, length=TRAIN_LENGTH)
    return model.eval()


@torch.no_grad()
def losses_by_position(
    model: Transformer, tokens: Int[Tensor, " n"], context: int | None = None, batch: int = 4
) -> Float[Tensor, "rows T"]:
    """Return the loss of every token of a text, cut into rows of the test's length.

    Args:
        model: The model.
        tokens: The text; what does not fill a row is left out.
        context: At most so many tokens are read to predict each; even. The model then reads pieces
            of that length, each half a piece after the other, and the second half of each counts:
            the *same* tokens, with half a piece or more before them. Default: the whole row.
        batch: Rows at a time.

    Returns:
        Nats, the token at position t of its row in column t.

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


def perform(run: Run, *, steps: int = STEPS) -> Run:
    """Train one scheme from one seed and measure it beyond its training length.

    Args:
        run: `scheme` and `seed`.
        steps: Number of updates.

    Returns:
        Losses for each 64 positions, with the whole row before a token and with 64 to 127 tokens;
        of T5 also what its heads learnt, a number a distance.
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
    before them in their row, once after 64 to 127 tokens.

    Args:
        run: A line of the record.
        start: First position, a multiple of 64.
        stop: Position after the last, a multiple of 64.

    Returns:
        Nats a token; negative where the longer context helps.
    """
    bins = slice(start // BIN, stop // BIN)
    pairs = zip(run["losses"][bins], run["short_context_losses"][bins], strict=True)
    differences = [long - short for long, short in pairs]
    return sum(differences) / len(differences)


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment.

    Yields:
        What identifies each run.
    """
    for seed in SEEDS:
        for scheme in SCHEMES:
            yield {"scheme": scheme, "seed": seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("length_extrapolation", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
