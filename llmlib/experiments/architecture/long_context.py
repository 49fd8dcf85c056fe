"""Long texts: stretched positions with and without fine-tuning, and a needle read through windows.

`python -m llmlib.experiments long_context` makes the runs that `data/results` still lacks: first
small decoders trained at 128 tokens and read to eight times that length, then SmolLM2 looking for
a word it was told, through full attention and through windows that see a part of the text.
"""

import argparse
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.cache import AttentionCache
from llmlib.architecture.long_context.memory_cache import MemoryCache
from llmlib.architecture.long_context.parallel_windows import parallel_windows
from llmlib.architecture.long_context.rolling_cache import RollingCache
from llmlib.architecture.pretrained import load_pretrained, load_tokenizer
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import t_interval
from llmlib.data import fixed_corpus
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import run_missing
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.experiments.short_training import train_briefly

SEEDS = (0, 1, 2)

TRAINED, FACTORS = 128, (1, 2, 4, 8)
STEPS, BATCH, PEAK_LR, WARMUP = 400, 16, 3e-3, 40
TUNING_STEPS, TUNING_BATCH, TUNING_LR = 24, 2, 5e-4
READ_ROWS = 36


def methods(trained: int, factor: float) -> dict[str, dict[str, object]]:
    """List the ways to read a text that is longer than the training's.

    All but `dynamic` are set for one stretch; that one changes its base by exactly the text's share
    of the trained length. `window` sees the last tokens alone, as many as in training: the way to
    read on without any new position.

    Args:
        trained: Length of training, in tokens.
        factor: The stretch.

    Returns:
        By name, what changes in the trained configuration.
    """
    return {
        "none": {},
        "linear": {"rope_scaling": "linear", "rope_factor": factor},
        "ntk": {"rope_scaling": "ntk", "rope_factor": factor},
        "dynamic": {"rope_scaling": "dynamic", "rope_factor": 1.0},
        "yarn": {"rope_scaling": "yarn", "rope_factor": factor},
        "rerope": {"rope_scaling": "rerope", "rope_window": trained // 2},
        "basis": {"rope_scaling": "basis", "rope_factor": factor},
        "window": {"attention": "window", "window": trained},
    }


METHODS = methods(TRAINED, 8.0)


def base_config(max_seq_len: int = TRAINED) -> ModelConfig:
    """Return the configuration that is trained.

    Args:
        max_seq_len: Longest text; the trained length stays 128.

    Returns:
        A LLaMA-like decoder of three layers.
    """
    return ModelConfig(
        vocab_size=VOCAB_SIZE, d_model=96, n_layers=3, n_heads=3, max_seq_len=max_seq_len,
        rope_original_len=TRAINED, tie_embeddings=False,
    )  # fmt: skip


def stretched(model: Transformer, method: str) -> Transformer:
    """Return the same weights under another rule for long texts.

    Args:
        model: A decoder trained at 128 tokens.
        method: One of `METHODS`.

    Returns:
        A copy that reads up to 1,024 tokens.
    """
    longest = TRAINED * FACTORS[-1]
    copy = Transformer(base_config(longest).replace(**METHODS[method]))
    copy.load_state_dict(model.state_dict())
    return copy


@functools.lru_cache(maxsize=1)
def trained(seed: int) -> Transformer:
    """Train the decoder of a seed on rows of 128 tokens.

    Args:
        seed: Decides weights and rows.

    Returns:
        The model.
    """
    seed_everything(seed)
    model = Transformer(base_config())
    train_briefly(
        model, short_text().train, lr=lambda step: _rate(step, STEPS, PEAK_LR, WARMUP),
        steps=STEPS, batch=BATCH, seed=seed, length=TRAINED,
    )  # fmt: skip
    return model


def _rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Rise over the warm-up, then fall along a cosine to a tenth."""
    rise = min(1.0, (step + 1) / warmup)
    fall = 0.55 + 0.45 * math.cos(math.pi * step / steps)
    return peak * rise * fall


@torch.no_grad()
def losses_at(model: Transformer, tokens: Int[Tensor, " n"]) -> dict[str, float]:
    """Measure the loss of the last 64 tokens of texts 1, 2, 4 and 8 times the trained length.

    The same tokens are predicted at every length; what grows is the text before them.

    Args:
        model: The model.
        tokens: Held-out text.

    Returns:
        Nats a token by factor.
    """
    longest = TRAINED * FACTORS[-1]
    ends = torch.linspace(longest, len(tokens) - 2, READ_ROWS).long()
    found = {}
    for factor in FACTORS:
        length = TRAINED * factor
        rows = tokens[ends.unsqueeze(1) + torch.arange(-length, 1)]  # [rows, length + 1]
        losses = []
        for part in rows.split(4):
            hidden = model.hidden(part[:, :-1])[:, -64:]
            logits = model.unembed(hidden).flatten(0, 1)
            losses.append(F.cross_entropy(logits, part[:, -64:].flatten(), reduction="sum"))
        found[str(factor)] = round(torch.stack(losses).sum().item() / (64 * READ_ROWS), 5)
    return found


def stretch(run: Run) -> Run:
    """Read with a method as it is, fine-tune at 1,024 tokens, and read again.

    Args:
        run: `method` and `seed`.

    Returns:
        Losses by factor, before and after.
    """
    text, seed = short_text(), run["seed"]
    model = stretched(trained(seed), run["method"]).eval()
    before = losses_at(model, text.held_out)
    model.train()
    train_briefly(
        model, text.train, lr=TUNING_LR, steps=TUNING_STEPS, batch=TUNING_BATCH, seed=1000 + seed,
        length=TRAINED * FACTORS[-1],
    )  # fmt: skip
    return {"before": before, "after": losses_at(model.eval(), text.held_out)}


WORDS = (
    "river", "garden", "winter", "silver", "music", "doctor", "window", "bread", "horse", "paper",
)  # fmt: skip
DEPTHS = (0.05, 0.275, 0.5, 0.725, 0.95)
CONTEXT, PIECE, VISIBLE, SINKS = 768, 128, 128, 4
TRIES = 3

Reader = Callable[[Transformer, Sequence[int], Sequence[int]], Float[Tensor, " V"]]


def read_through(
    model: Transformer, cache: AttentionCache, tokens: Sequence[int], piece: int
) -> Float[Tensor, " V"]:
    """Read a text in pieces and return the logits after its last token.

    Args:
        model: The model.
        cache: What it may keep.
        tokens: Token ids.
        piece: Tokens a call.

    Returns:
        Logits of the next token.
    """
    hidden = torch.empty(0)
    for part in torch.tensor(list(tokens)).split(piece):
        hidden = model.hidden(part[None], cache=cache)
    return model.unembed(hidden[0, -1])


def _full(model: Transformer, text: Sequence[int], question: Sequence[int]) -> Tensor:
    cache = model.new_cache(1, len(text) + len(question))
    assert isinstance(cache, AttentionCache)
    return read_through(model, cache, [*text, *question], PIECE)


def _rolling(model: Transformer, text: Sequence[int], question: Sequence[int]) -> Tensor:
    cache = RollingCache(model.config, 1, window=VISIBLE, n_sinks=SINKS)
    return read_through(model, cache, [*text, *question], PIECE)


def _windows(model: Transformer, text: Sequence[int], question: Sequence[int]) -> Tensor:
    size = CONTEXT // 4
    windows = [text[start : start + size] for start in range(0, len(text), size)]
    cache = parallel_windows(model, windows, len(question))
    return read_through(model, cache, question, PIECE)


def _memory(unit: str) -> Reader:
    def read(model: Transformer, text: Sequence[int], question: Sequence[int]) -> Tensor:
        cache = MemoryCache(
            model.config, 1, window=VISIBLE // 2, n_chosen=VISIBLE // 2, n_sinks=SINKS,
            unit="token" if unit == "token" else "block",
        )  # fmt: skip
        # Only the question chooses from the memory alone; the text is read in pieces before it.
        read_through(model, cache, text, PIECE)
        return read_through(model, cache, question, len(question))

    return read


READERS: dict[str, Reader] = {
    "full attention": _full,
    "sinks and window": _rolling,
    "parallel windows": _windows,
    "token selection": _memory("token"),
    "block selection": _memory("block"),
}
"""How the text is seen; all but the first and third see 128 tokens of 768, and the sinks."""


@functools.cache
def _smollm2() -> Transformer:
    return load_pretrained("smollm2-135m-instruct", max_seq_len=1024).eval()


@functools.cache
def _filler() -> list[int]:
    tokenizer = load_tokenizer("smollm2-135m-instruct")
    text = "\n\n".join(document.text for document in fixed_corpus()[:400])
    return list(tokenizer.encode(text))


def haystack(depth: float, seed: int) -> tuple[list[int], list[int], int, list[int]]:
    """Hide a sentence with a secret word in documentation, and ask for the word.

    Args:
        depth: Where it stands, from 0 (beginning) to 1.
        seed: Decides the word and the text round it.

    Returns:
        The text, the question, the place of the word among the candidates, and these.
    """
    generator = torch.Generator().manual_seed(seed)
    tokenizer = load_tokenizer("smollm2-135m-instruct")
    chosen = int(torch.randint(len(WORDS), (1,), generator=generator))
    needle = list(tokenizer.encode(f"\n\nRemember: the secret word is {WORDS[chosen]}.\n\n"))
    question = list(tokenizer.encode("\n\nWhat is the secret word? The secret word is"))
    filler, room = _filler(), CONTEXT - len(needle)
    start = int(torch.randint(len(filler) - room, (1,), generator=generator))
    hay = filler[start : start + room]
    place = round(depth * room)
    text = [*hay[:place], *needle, *hay[place:]]
    return text, question, chosen, [tokenizer.encode(f" {word}")[0] for word in WORDS]


@torch.inference_mode()
def find_needles(run: Run) -> Run:
    """Ask for the hidden word at every depth.

    Args:
        run: `reader` and `seed`.

    Returns:
        Right answers of `TRIES`, by depth; chance is one in ten.
    """
    model, reader = _smollm2(), READERS[run["reader"]]
    right = {}
    for depth in DEPTHS:
        hits = 0
        for attempt in range(TRIES):
            seed = 10_000 * run["seed"] + 100 * attempt + round(100 * depth)
            text, question, chosen, candidates = haystack(depth, seed)
            logits = reader(model, text, question)[candidates]
            hits += int(logits.argmax()) == chosen
        right[str(depth)] = hits
    return {"right": right, "tries": TRIES, "context": CONTEXT}


def change(
    runs: Sequence[Run], method: str, factor: int, *, when: str, baseline: tuple[str, int, str]
) -> tuple[float, float, float]:
    """Compare a loss with another one, seed by seed.

    Args:
        runs: The record.
        method: One of `METHODS`.
        factor: Length of the text as a multiple of the trained one.
        when: `before` or `after` fine-tuning.
        baseline: The same three of what it is compared with.

    Returns:
        Mean difference in nats a token, above zero where the method is worse, and its 95% interval.
    """

    def losses(method: str, factor: int, when: str) -> dict[int, float]:
        found = [run for run in runs if run["part"] == "stretch" and run["method"] == method]
        return {run["seed"]: run[when][str(factor)] for run in found}

    ours, theirs = losses(method, factor, when), losses(*baseline)
    return t_interval([ours[seed] - theirs[seed] for seed in ours])


def accuracies(runs: Sequence[Run], reader: str) -> dict[float, float]:
    """Return the share of words found at each depth, over all seeds.

    Args:
        runs: The record.
        reader: One of `READERS`.

    Returns:
        By depth, from 0 to 1; chance is 0.1.
    """
    found = [run for run in runs if run["part"] == "needle" and run["reader"] == reader]
    asked = sum(run["tries"] for run in found)
    return {depth: sum(run["right"][str(depth)] for run in found) / asked for depth in DEPTHS}


def plan() -> Iterator[Run]:
    """List all runs.

    Yields:
        What identifies each.
    """
    for seed in SEEDS:
        for method in METHODS:
            yield {"part": "stretch", "method": method, "seed": seed}
    for seed in SEEDS:
        for reader in READERS:
            yield {"part": "needle", "reader": reader, "seed": seed}


def perform(run: Run) -> Run:
    """Do one run.

    Args:
        run: An entry of `plan`.

    Returns:
        What it measured.
    """
    return stretch(run) if run["part"] == "stretch" else find_needles(run)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing.

    Args:
        arguments: Command line; default: the process's.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, default=Path("data/results/long_context.jsonl"))
    parser.add_argument("--minutes", type=float, default=math.inf)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    missing = run_missing(
        "long_context", list(plan()), perform, options.record, minutes=options.minutes
    )
    print("complete" if not missing else f"{missing} runs to go: the same command goes on")


if __name__ == "__main__":
    main()
