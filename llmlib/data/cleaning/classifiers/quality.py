r"""A quality classifier with Pareto sampling, after GPT-3, and what it does to informal language.

A linear model learns to tell a reference (edited text) from a raw crawl. A page with probability
$s$ of being reference is kept with

$$P(\text{keep}) = P(X > 1 - s) = (2 - s)^{-\alpha}, \qquad X \sim \mathrm{Lomax}(\alpha),$$

so that a few pages that look nothing like the reference survive. The classifier knows style, not
worth: where nobody in the reference writes as some people talk, their pages go.
"""

import hashlib
import random
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal, overload

import numpy as np

from llmlib.data.cleaning.classifiers.linear import LinearClassifier, LinearTraining
from llmlib.data.corpora.document import Document
from llmlib.data.corpora.fixed import fixed_corpus, king_james

REFERENCE, RAW = "reference", "raw"
ALPHA = 9.0
QUALITY_TRAINING = LinearTraining(unit="words", orders=(1, 2), buckets=2**16, epochs=4, batch=64)


def reference_texts(
    part: Literal["train", "held_out"], n: int = 2000, *, seed: int = 0
) -> list[str]:
    """Sample edited paragraphs: half from documentation, half from the King James Bible.

    The parts share no module and no book: a fifth of them, chosen by a hash of the name, is held
    out.

    Args:
        n: How many paragraphs of 80 to 300 characters; fewer if the corpora hold no more.
    """
    rng = random.Random(seed)
    chosen = []
    for pool in _pools(part == "held_out"):
        chosen += rng.sample(pool, min(n // 2, len(pool)))
    rng.shuffle(chosen)
    return chosen


@cache
def _pools(held_out: bool) -> list[list[str]]:
    """The different paragraphs of each corpus, sorted."""
    return [
        sorted(
            {
                paragraph
                for document in documents
                if _is_held_out(document.meta["module"]) == held_out
                for paragraph in _paragraphs(document.text)
            }
        )
        for documents in (fixed_corpus(), king_james())
    ]


def _is_held_out(module: str) -> bool:
    return hashlib.sha256(module.encode()).digest()[0] < 256 // 5


def _paragraphs(text: str) -> list[str]:
    """Prose paragraphs: no examples, tables or headings; a Bible chapter is cut at sentences."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        pieces = re.findall(r".{80,300}?[.!?](?=\s|$)", block, re.DOTALL)
        found += [piece for piece in pieces if ">>>" not in piece and "::" not in piece]
    found = [" ".join(piece.split()) for piece in found]
    return [p for p in found if len(p) >= 80 and _letters(p) > 0.85 * len(p)]


def _letters(text: str) -> int:
    return sum(c.isalpha() or c == " " for c in text)


def train_quality_model(
    reference: list[str], raw: list[str], recipe: LinearTraining = QUALITY_TRAINING
) -> LinearClassifier:
    """Train the classifier to tell reference from raw text, of which there is as much or more."""
    labels = [REFERENCE] * len(reference) + [RAW] * len(raw)
    return LinearClassifier.train([*reference, *raw], labels, recipe)


@overload
def keep_probability(score: float, alpha: float = ALPHA) -> float: ...
@overload
def keep_probability(score: np.ndarray, alpha: float = ALPHA) -> np.ndarray: ...
def keep_probability(score: float | np.ndarray, alpha: float = ALPHA) -> float | np.ndarray:
    """Return the probability that a page of this score is kept.

    Args:
        alpha: The Pareto distribution's shape; larger is stricter.

    Example:
        >>> keep_probability(1.0), keep_probability(0.0)
        (1.0, 0.001953125)

    References:
        Brown et al. (2020), Language Models are Few-Shot Learners, appendix A: keep if
        `np.random.pareto(9) > 1 - document_score`. numpy's Pareto is Lomax's, which starts at 0.
    """
    return (2 - score) ** -alpha


@dataclass(frozen=True, kw_only=True)
class QualityFilter:
    """Drops pages at random, the likelier the less they look like reference text.

    The random number of a page is a hash of its text and the seed, so the same pages are kept in
    any order and on any number of processes.
    """

    model: LinearClassifier
    alpha: float = ALPHA
    """The Pareto distribution's shape."""
    seed: int = 0
    max_characters: int = 10_000
    """How much of a page to look at, from its beginning."""
    name: str = "quality"

    def reason(self, document: Document) -> str | None:
        """Say `low quality` if the page lost its draw."""
        text = document.text[: self.max_characters]
        score = float(self.model.probability([text], REFERENCE)[0])
        key = f"{self.seed}:{document.text}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(key, digest_size=8).digest()
        draw = int.from_bytes(digest, "little") / 2**64  # uniform on 0..1
        return None if draw < keep_probability(score, self.alpha) else "low quality"
