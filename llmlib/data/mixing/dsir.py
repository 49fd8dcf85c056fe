r"""Documents chosen from a large corpus so that they look like a small one (DSIR).

Each document is a bag of hashed words and pairs of words. Two multinomial models, of the target
and of the raw corpus, give it the importance weight $w(x) = \prod_j (p_j / q_j)^{c_j(x)}$, and
$k$ documents are drawn without replacement in proportion to it: those with the largest
$\log w(x) + g$, with $g$ from the standard Gumbel distribution.
"""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import regex
from jaxtyping import Float, Int64

from llmlib.data.corpora.units import JOINED_WORD, LONE_WORD

_WORD = regex.compile(rf"{LONE_WORD}|{JOINED_WORD}|[^\p{{L}}\p{{N}}_\s]+")
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio, as in Fibonacci hashing
_SHIFT = np.uint64(32)


def ngram_buckets(text: str, n_buckets: int) -> Int64[np.ndarray, " features"]:
    """Hash the words of a text, then its pairs of neighbouring words; capitals do not count.

    Example:
        >>> len(ngram_buckets("One fish, two fish", 10_000))
        9
    """
    words = _WORD.findall(text.lower())
    single = np.array(
        [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words], dtype=np.uint64
    )
    pairs = (single[:-1] * _MIX >> _SHIFT) + single[1:]
    hashed = np.concatenate([single, pairs]) * _MIX >> _SHIFT
    return (hashed % np.uint64(n_buckets)).astype(np.int64)


class ImportanceModel:
    r"""Two hashed n-gram models and the importance weight of a text.

    Args:
        target: Texts like those wanted; read once, and so is `raw`: the corpus to choose from, or a
            sample of it.
        n_buckets: Memory is a few times 8 bytes each.
        smoothing: Added to the count of every bucket.

    Attributes:
        log_ratio: $\log p_j - \log q_j$ of each bucket.

    Raises:
        ValueError: If either side holds no word.

    References:
        Xie et al. (2023), Data Selection for Language Models via Importance Resampling, section 3
        (10,000 buckets, unigrams and bigrams).
    """

    def __init__(
        self,
        target: Iterable[str],
        raw: Iterable[str],
        *,
        n_buckets: int = 10_000,
        smoothing: float | int = 1.0,
    ):
        if n_buckets < 1 or not smoothing > 0:
            raise ValueError(f"n_buckets={n_buckets} and smoothing={smoothing} must be positive")
        self.n_buckets = n_buckets
        wanted = _log_frequencies(target, n_buckets, smoothing, "target")
        self.log_ratio = wanted - _log_frequencies(raw, n_buckets, smoothing, "raw")

    def log_weight(self, text: str) -> float:
        """Return a text's log-weight in nats, positive where the target is likelier.

        It is a sum over words, so long texts lie further from zero than short ones: compare
        documents of about the same length, as the paper does.
        """
        return float(self.log_ratio[ngram_buckets(text, self.n_buckets)].sum())

    def log_weights(self, texts: Iterable[str]) -> Float[np.ndarray, " texts"]:
        """Weigh many texts, one in memory at a time."""
        return np.fromiter(map(self.log_weight, texts), dtype=np.float64)


def gumbel_top_k(
    log_weights: Sequence[float | int] | np.ndarray, k: int, seed: int
) -> Int64[np.ndarray, " k"]:
    """Draw items without replacement, each time in proportion to the weights that are left.

    Weights come as logarithms, up to a constant; the numbers drawn are ascending.

    Raises:
        ValueError: If there are fewer than `k` items, or a weight is NaN.

    Example:
        >>> gumbel_top_k([0.0, -50.0, 1.0], k=2, seed=0).tolist()
        [0, 2]

    References:
        Kool et al. (2019), Stochastic Beams and Where to Find Them, section 2.3.
    """
    scores = np.asarray(log_weights, dtype=np.float64)
    if not 0 < k <= len(scores) or np.isnan(scores).any():
        raise ValueError(f"cannot draw k={k} of {len(scores)} items; k is at least 1, no NaN")
    keys = scores + np.random.default_rng(seed).gumbel(size=len(scores))
    return np.sort(np.argpartition(-keys, k - 1)[:k])


def _log_frequencies(
    texts: Iterable[str], n_buckets: int, smoothing: float, side: str
) -> np.ndarray:
    counts = np.zeros(n_buckets)
    for text in texts:
        counts += np.bincount(ngram_buckets(text, n_buckets), minlength=n_buckets)
    if not counts.sum():
        raise ValueError(f"the {side} texts hold no word")
    counts += smoothing
    return np.log(counts) - np.log(counts.sum())
