"""What a pre-trained model is asked in the comparison of objectives: an ending, or a gap."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.core.batch import IGNORE, Batch
from llmlib.experiments.architecture.objective_designs import DESIGNS, LENGTH, SPECIAL
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.training.objectives.causal_and_prefix import split_prefix
from llmlib.training.objectives.denoising import as_one_sequence, denoise
from llmlib.training.objectives.next_token import LanguageModel, hidden_states

CHANCE = 0.25
ENDING = torch.arange(LENGTH) >= 48  # what "continue" asks for: the last 16 of 64 tokens
GAP = (torch.arange(LENGTH) >= 40) & (torch.arange(LENGTH) < 45)  # what "fill the gap" asks for


def evaluation_rows(n_rows: int) -> Int[Tensor, "rows T"]:
    """Cut evenly spaced rows of `LENGTH` tokens out of the held-out text."""
    tokens = short_text().held_out
    starts = torch.linspace(0, len(tokens) - LENGTH, n_rows).long().unsqueeze(1)
    return tokens[starts + torch.arange(LENGTH)]


def question(
    rows: Int[Tensor, "B T"], asked: Bool[Tensor, " T"], family: str, objective: str
) -> tuple[Batch, Bool[Tensor, "B T2"]]:
    """Put a part of each row, where `asked` is true, to a design in the form it was trained on.

    A language model reads what stands before the part and says the part and what follows. A
    denoiser reads the row with a sentinel in the part's place, and says the part.

    Returns:
        The batch, and which of its targets make up the answer. A language model's answer goes on
        to the end of the row: whatever follows a wrong part becomes unlikely.
    """
    if objective in ("lm", "prefix-lm"):
        batch = split_prefix(rows, SPECIAL, int(asked.nonzero()[0]))
    else:
        batch = denoise(rows, asked.expand_as(rows), SPECIAL)
        if objective == "denoisers":
            mode = torch.full((len(rows), 1), SPECIAL.mode("S" if asked[-1] else "R"))
            batch["encoder_inputs"] = torch.cat((mode, batch["encoder_inputs"]), dim=1)
            batch["encoder_lengths"] += 1
    one = batch if family == "encoder-decoder" else as_one_sequence(batch, SPECIAL)
    return one, (one["targets"] != IGNORE) & (one["targets"] < VOCAB_SIZE)


@torch.no_grad()
def answer_losses(
    model: LanguageModel, design: str, rows: Int[Tensor, "B T"], asked: Bool[Tensor, " T"]
) -> Float[Tensor, " B"]:
    """Return how unlikely a design finds each row's answer, in nats summed over its tokens."""
    losses = []
    for part in rows.split(256):
        batch, counts = question(part, asked, *DESIGNS[design])
        logits = model.unembed(hidden_states(model, batch))
        loss = F.cross_entropy(logits.mT, batch["targets"], ignore_index=IGNORE, reduction="none")
        losses.append((loss * counts).sum(dim=1))
    return torch.cat(losses)


def endings_loss(model: LanguageModel, design: str, rows: Int[Tensor, "B T"]) -> float:
    """Return the mean loss of the endings of texts, in nats a token."""
    return answer_losses(model, design, rows, ENDING).mean().item() / int(ENDING.sum())


def choice_accuracy(
    model: LanguageModel, design: str, rows: Int[Tensor, "B T"], asked: Bool[Tensor, " T"]
) -> float:
    """Let a design choose the true part of each row among four; a guess is right in `CHANCE`.

    The other three are the same places of other rows, a quarter, a half and three quarters of all
    rows further on. It chooses what it finds likeliest in the row. Four rows share the same four
    parts, so a model that does not look at the rest of a row is right exactly once in four times.
    """
    candidates = []
    for quarter in range(4):
        other = rows.roll(quarter * len(rows) // 4, dims=0)
        candidates.append(torch.where(asked, other, rows))
    losses = torch.stack([answer_losses(model, design, c, asked) for c in candidates])
    return (losses[0] < losses[1:].amin(dim=0)).float().mean().item()  # a tie is no choice
