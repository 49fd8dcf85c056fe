"""Long texts: stretched positions with and without fine-tuning, and a needle read through windows.

First small decoders are trained at 128 tokens and read to eight times that length, then SmolLM2
looks for a word it was told, through full attention and through windows that see a part of the
text.
"""

import functools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture.caches.base import AttentionCache
from llmlib.architecture.caches.memory_cache import MemoryCache
from llmlib.architecture.caches.parallel_windows import parallel_windows
from llmlib.architecture.caches.rolling_cache import RollingCache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.pretrained.loading import load_pretrained, load_tokenizer
from llmlib.architecture.transformer import Transformer
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import Interval, paired_interval
from llmlib.data.corpora.fixed import fixed_corpus
from llmlib.experiments.experiment import Experiment, Run, Runs
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
    read on without any new position. By name, what changes in the trained configuration.
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
    """Return the configuration that is trained, at 128 tokens: a LLaMA-like decoder of 3 layers."""
    return ModelConfig(
        vocab_size=VOCAB_SIZE, d_model=96, n_layers=3, n_heads=3, max_seq_len=max_seq_len,
        rope_original_len=TRAINED, tie_embeddings=False,
    )  # fmt: skip


def stretched(model: Transformer, method: str) -> Transformer:
    """Return a copy of a decoder that reads up to 1,024 tokens by one of `METHODS`."""
    longest = TRAINED * FACTORS[-1]
    copy = Transformer(base_config(longest).replace(**METHODS[method]))
    copy.load_state_dict(model.state_dict())
    return copy


@functools.lru_cache(maxsize=1)
def trained(seed: int) -> Transformer:
    seed_everything(seed)
    model = Transformer(base_config())
    train_briefly(
        model, short_text().train, lr=lambda step: _rate(step, STEPS, PEAK_LR, WARMUP),
        steps=STEPS, batch=BATCH, seed=seed, length=TRAINED,
    )  # fmt: skip
    return model


def _rate(step: int, steps: int, peak: float, warmup: int) -> float:
    rise = min(1.0, (step + 1) / warmup)
    fall = 0.55 + 0.45 * math.cos(math.pi * step / steps)
    return peak * rise * fall


@torch.no_grad()
def losses_at(model: Transformer, tokens: Int[Tensor, " n"]) -> dict[str, float]:
    """Measure the loss of the last 64 tokens of texts 1, 2, 4 and 8 times the trained length.

    The same tokens are predicted at every length; what grows is the text before them. In nats a
    token by factor.
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
    """Read with a method as it is, fine-tune at 1,024 tokens, and read again."""
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
    """Read a text in pieces of so many tokens and return the logits after its last one."""
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
    """Hide a sentence with a secret word at a depth of documentation, from 0 (beginning) to 1.

    The seed decides the word and the text round it. Returns the text, the question for the word,
    the word's place among the candidates, and these.
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
    """Ask for the hidden word `TRIES` times at every depth; chance is one in ten."""
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


def measure(run: Run) -> Run:
    return stretch(run) if run["part"] == "stretch" else find_needles(run)


def change(
    runs: Runs, method: str, factor: int, *, when: str, baseline: tuple[str, int, str]
) -> Interval:
    """Compare a loss, `before` or `after` fine-tuning, with another one, seed by seed.

    Lengths are a `factor` of the trained one; `baseline` is method, factor and when of what it is
    compared with. In nats a token, above zero where the method is worse.
    """
    ours, theirs = (
        runs.values(f"{when}.{factor}", part="stretch", method=method)
        for method, factor, when in ((method, factor, when), baseline)
    )
    return paired_interval(ours, theirs)


def accuracies(runs: Runs, reader: str) -> dict[float, float]:
    """Return the share of words found at each depth, over all seeds; chance is 0.1."""
    found = runs.where(part="needle", reader=reader)
    asked = sum(run["tries"] for run in found)
    return {depth: sum(run["right"][str(depth)] for run in found) / asked for depth in DEPTHS}


OWN, UNTOUCHED, TUNED = ("none", 1, "before"), ("none", 8, "before"), ("none", 8, "after")
WINDOW = ("window", 8, "before")
_OTHERS = tuple(method for method in METHODS if method != "window")


def _no_difference(
    methods: Sequence[str], when: str, baseline: tuple[str, int, str], margin: float
) -> Callable[[Runs], bool]:
    def claim(runs: Runs) -> bool:
        found = [change(runs, m, 8, when=when, baseline=baseline) for m in methods]
        return all(not d.shows_difference and d.within(margin) for d in found)

    return claim


def _some_stretches_help(runs: Runs) -> bool:
    helpful = ("yarn", "rerope", "basis", "window")
    return all(change(runs, m, 8, when="before", baseline=UNTOUCHED).high < 0 for m in helpful)


def _tuning_improves(runs: Runs) -> bool:
    return all(
        (change(runs, method, 8, when="after", baseline=(method, 8, "before")).high < 0)
        == (method != "window")
        for method in METHODS
    )


def _the_window_is_best(runs: Runs) -> bool:
    return all(
        change(runs, method, 8, when=when, baseline=WINDOW).low > 0
        for method in _OTHERS
        for when in ("before", "after")
    )


def _needles_in_sight_alone(runs: Runs) -> bool:
    found = accuracies(runs, "sinks and window")
    return found[0.95] == 1 and sum(found[depth] for depth in DEPTHS[:-1]) / 4 < 0.25


def _needles_beside_the_cut(runs: Runs) -> bool:
    found = accuracies(runs, "parallel windows")
    return found[0.5] < 0.25 and min(found[depth] for depth in DEPTHS if depth != 0.5) > 0.7


def _memories_are_ordered(runs: Runs) -> bool:
    tokens, blocks, window = (
        sum(accuracies(runs, reader).values())
        for reader in ("token selection", "block selection", "sinks and window")
    )
    return tokens > blocks > window


EXPERIMENT = Experiment(
    conditions=[
        *({"part": "stretch", "method": method} for method in METHODS),
        *({"part": "needle", "reader": reader} for reader in READERS),
    ],
    seeds=SEEDS,
    measure=measure,
    depends=(
        "llmlib.architecture.positions.rope_scaling",
        "llmlib.architecture.attention.rerope",
        "llmlib.architecture.caches.memory_cache",
        "llmlib.architecture.caches.parallel_windows",
        "llmlib.architecture.caches.rolling_cache",
    ),
    claims={
        "arch.long-interpolation": {
            "untouched, a decoder loses at eight times its trained length": lambda runs: (
                change(runs, "none", 8, when="before", baseline=OWN).low > 0
            ),
            "YaRN, ReRoPE, basis truncation and a window are better than that": (
                _some_stretches_help
            ),
            "no difference shows for linear, NTK-aware and dynamic stretching, below 0.43 nats": (
                _no_difference(("linear", "ntk", "dynamic"), "before", UNTOUCHED, 0.43)
            ),
            "24 steps at eight times the length improve every method but the window": (
                _tuning_improves
            ),
            "after tuning linear interpolation is worse than having changed nothing": lambda runs: (
                change(runs, "linear", 8, when="after", baseline=TUNED).low > 0
            ),
            "after tuning no difference to having changed nothing shows for the other stretches, "
            "below 0.32 nats": _no_difference(
                ("ntk", "dynamic", "yarn", "rerope", "basis"), "after", TUNED, 0.32
            ),
            "every other way, tuned or not, is worse than a window of the trained length": (
                _the_window_is_best
            ),
        },
        "arch.long-window": {
            "through a window of the trained length a text eight times as long changes the loss by "
            "less than 0.01 nats": lambda runs: change(
                runs, "window", 8, when="before", baseline=OWN
            ).within(0.01),
            "full attention finds the hidden word every time": lambda runs: (
                min(accuracies(runs, "full attention").values()) == 1
            ),
            "sinks and a window find it every time in sight and less than one time in four "
            "elsewhere": _needles_in_sight_alone,
            "parallel windows find it less than one time in four where a cut splits the sentence "
            "and over 70% of the times elsewhere": _needles_beside_the_cut,
            "on average chosen tokens find it more often than chosen blocks, and these more often "
            "than sinks and a window": _memories_are_ordered,
        },
    },
)
