r"""A perplexity filter: an n-gram model of good text says how surprising a page is.

The unit is bits per byte of a byte-level Kneser-Ney model,

$$b(x) = -\frac1{|x|} \sum_i \log_2 P(x_i \mid x_{i-n+1} \dots x_{i-1}),$$

which compares pages of any length and needs no vocabulary; perplexity per byte is $2^b$. Noise lies
above prose, and so does prose with its words shuffled; a stock phrase repeated lies below.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from llmlib.data.corpora.document import Document
from llmlib.introduction.kneser_ney import KneserNey

_BYTES = 256


def train_perplexity_model(texts: Sequence[str], order: int = 6) -> KneserNey:
    """Count the byte n-grams of good text.

    Args:
        texts: For instance `reference_texts("train")`; a megabyte is counted in about two seconds
            and 200 MB of memory.

    Raises:
        ValueError: If there are no texts.
    """
    if not texts:
        raise ValueError("a perplexity model needs text to count")
    return KneserNey.fit(_tokens(texts), order=order, vocab_size=_BYTES)


def mean_surprisal(model: KneserNey, texts: Sequence[str]) -> Float[np.ndarray, " texts"]:
    """Measure how surprising each text is to the model.

    Returns:
        Bits for each byte of each text: 8 for an even guess, about 2 for prose like the model's;
        not a number for an empty text.

    Example:
        >>> model = train_perplexity_model(["the cat sat on the mat"] * 3, order=3)
        >>> bits = mean_surprisal(model, ["the cat sat", "tca eht sta"])
        >>> bool(bits[0] < bits[1])
        True
    """
    if not texts:
        return np.zeros(0)
    tokens = _tokens(texts)
    lengths = np.array([len(part) for part in tokens])
    owner = np.repeat(np.arange(len(texts)), lengths)
    nats = np.bincount(owner, -model.log_prob(tokens), minlength=len(texts))
    with np.errstate(invalid="ignore"):
        return nats / np.log(2) / lengths


def _tokens(texts: Sequence[str]) -> list[np.ndarray]:
    data = (text.encode("utf-8", "surrogatepass") for text in texts)
    return [np.frombuffer(part, dtype=np.uint8).astype(np.int64) for part in data]


@dataclass(frozen=True, kw_only=True)
class PerplexityFilter:
    """Drops pages that surprise the model too much, or too little.

    References:
        Wenzek et al. (2020), CCNet: Extracting High Quality Monolingual Datasets from Web Crawl
        Data, section 3.3, which sorts pages into thirds by the perplexity under a Wikipedia model.
    """

    model: KneserNey
    """From `train_perplexity_model`."""
    max_bits: float
    min_bits: float = 0.0
    """Stock phrases lie below."""
    max_characters: int = 10_000
    """How much of a page to look at, from its beginning."""
    name: str = "perplexity"

    @classmethod
    def calibrated(
        cls, model: KneserNey, prose: Sequence[str], *, lost: float = 0.02
    ) -> "PerplexityFilter":
        """Set both bounds so that a known share of good text is lost.

        Args:
            prose: Good texts that the model has not seen; a model knows its own texts too well.
            lost: Share of them to lose, half on either side.
        """
        if not prose or not 0 <= lost < 1:
            raise ValueError(f"{len(prose)} texts and lost={lost}: give prose, and a share below 1")
        low, high = np.quantile(mean_surprisal(model, prose), [lost / 2, 1 - lost / 2])
        return cls(model=model, min_bits=float(low), max_bits=float(high))

    def reason(self, document: Document) -> str | None:
        """Say `high perplexity`, as of noise, or `low perplexity`, as of stock phrases."""
        (bits,) = mean_surprisal(self.model, [document.text[: self.max_characters]])
        if bits > self.max_bits:
            return "high perplexity"
        return "low perplexity" if bits < self.min_bits else None
