"""The unigram language model as a tokenizer: a text's likeliest cut, or one drawn by chance.

Each piece has a probability of its own, a way of cutting has the product of its pieces', and the
text's ids are those of the likeliest way. Since every way has a probability, a text can also be
cut differently each time it is seen: subword regularization.
"""

import heapq
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from typing_extensions import Unpack, override

from llmlib.data.tokenizers.base import check_text
from llmlib.data.tokenizers.normalization import Normalizer
from llmlib.data.tokenizers.unigram.paths import (
    UNKNOWN_PENALTY,
    Edges,
    best_path,
    best_paths,
    draw_path,
    log_sums,
    piece_edges,
)
from llmlib.data.tokenizers.unigram.training import EMStep, learn_pieces
from llmlib.data.tokenizers.words import (
    SPELLING_FIELDS,
    FallbackTokenizer,
    SpellingOptions,
    with_unknown,
)


class Unigram(FallbackTokenizer):
    """A unigram-language-model tokenizer.

    Ids run from 0: the special tokens in the order given, the 256 bytes (with `byte_fallback`),
    then the pieces in the order given.

    Args:
        pieces: Pieces and their log-probabilities in nats.
        **options: See `SpellingOptions`.

    Attributes:
        history: The training's steps; empty for a tokenizer that was not trained here.

    Raises:
        ValueError: If a piece is empty, given twice or has no finite score, or `unknown` is missing
            from the special tokens.

    Example:
        >>> unigram = Unigram([("a", -2.0), ("b", -2.0), ("ab", -1.0)])
        >>> [unigram.tokens[i] for i in unigram.encode("abba")]
        ['ab', 'b', 'a']
        >>> unigram.decode(unigram.encode("a湖"))
        'a湖'

    References:
        Kudo (2018), Subword Regularization: Improving Neural Network Translation Models with
        Multiple Subword Candidates, section 3.
    """

    kind: ClassVar[str] = "Unigram"
    _fields: ClassVar[tuple[str, ...]] = ("pieces", "special_tokens", *SPELLING_FIELDS)

    def __init__(
        self,
        pieces: Iterable[tuple[str, float]],
        special_tokens: Sequence[str] = (),
        **options: Unpack[SpellingOptions],
    ) -> None:
        super().__init__(special_tokens, **options)
        self.pieces = [(str(piece), float(score)) for piece, score in pieces]
        self.history: list[EMStep] = []
        self._tokens += [piece for piece, _ in self.pieces]
        self._known: dict[str, tuple[tuple[int, ...], float]] = {}
        for i, (piece, score) in enumerate(self.pieces, self._first):
            check_text(piece)
            if not piece or piece in self._known or not math.isfinite(score):
                raise ValueError(f"the piece {piece!r} is empty, given twice or without a score")
            self._known[piece] = ((i,), score)
        self._longest = max(map(len, self._known), default=1)
        self._unknown_score = min((score for _, score in self.pieces), default=0.0)
        self._unknown_score -= UNKNOWN_PENALTY

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        *,
        byte_fallback: bool = True,
        unknown: str = "<unk>",
        normalizer: Normalizer | None = None,
        cut: str = "gpt2",
        coverage: float = 0.9995,
        **options: Any,
    ) -> "Unigram":
        """Learn a vocabulary of exactly `vocab_size` ids from texts, which are read once.

        Args:
            vocab_size: Number of ids wanted, special tokens and bytes included.
            special_tokens: Texts that get the first ids; `unknown` is added if it is needed.
            byte_fallback: See `SpellingOptions`, as for the next three.
            coverage: Share of the corpus's characters that get a piece, in (0, 1].
            **options: `seed_size`, `max_length`, `shrink` and `em_steps` of `learn_pieces`.

        Raises:
            ValueError: If the vocabulary is too small for the characters or larger than the texts
                allow, or a text holds a lone surrogate.
        """
        spelling: SpellingOptions = {
            "byte_fallback": byte_fallback,
            "unknown": unknown,
            "normalizer": normalizer,
            "cut": cut,
        }
        special = with_unknown(special_tokens, spelling)
        empty = cls((), special, **spelling)
        if vocab_size <= empty.vocab_size:
            raise ValueError(
                f"vocab_size={vocab_size} must be above {empty.vocab_size}: {len(special)} special "
                "tokens" + (" and 256 bytes" if byte_fallback else "")
            )
        n_pieces = vocab_size - empty.vocab_size
        learnt = learn_pieces(empty.count_words(texts), n_pieces, coverage=coverage, **options)
        tokenizer = cls(learnt.pieces, special, **spelling)
        tokenizer.history = learnt.history
        return tokenizer

    def log_probability(self, text: str) -> float:
        """Sum the probabilities of all ways of cutting a text; the sum's logarithm, in nats."""
        return sum(log_sums(edges)[-1] for edges in self._lattices(text))

    def n_best(self, text: str, n: int) -> list[tuple[list[int], float]]:
        """Return the likeliest ways of cutting a text.

        Returns:
            At most `n` pairs of ids and their log-probability in nats, likeliest first.

        Raises:
            ValueError: If `n` is below 1.
        """
        if n < 1:
            raise ValueError(f"n={n} must be at least 1")
        ways: list[tuple[list[int], float]] = [([], 0.0)]
        for edges in self._lattices(text):
            of_word = best_paths(edges, n)
            both = [(a + b, p + q) for a, p in ways for b, q in of_word]
            ways = heapq.nlargest(n, both, key=lambda way: way[1])
        return ways

    def sample(self, text: str, rng: random.Random, *, alpha: float = 1.0) -> list[int]:
        r"""Draw one way of cutting a text, with probability $\propto p(\text{way})^\alpha$.

        Args:
            alpha: At least 0. 1 draws from the model, 0 takes all ways for equally likely, and a
                large value the best way almost always.

        Returns:
            The ids; `decode` gives the same text for all of them.

        Raises:
            ValueError: If `alpha` is negative or infinite.

        References:
            Kudo (2018), section 3.3: there over the n best ways; here over all of them, by
            filtering forwards and sampling backwards.
        """
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha={alpha} must not be negative, and finite")
        return [i for edges in self._lattices(text) for i in draw_path(edges, rng, alpha)]

    def _lattices(self, text: str) -> list[Edges]:
        check_text(text)
        return [self._edges(word) for word in self._split(text)]

    def _edges(self, word: str) -> Edges:
        return piece_edges(word, self._known, self._longest, self._spelt, self._unknown_score)

    @override
    def _encode_word(self, word: str) -> list[int]:
        return best_path(self._edges(word))

    @classmethod
    @override
    def _from_content(cls, content: Mapping[str, Any]) -> "Unigram":
        pieces = [(piece, score) for piece, score in content["pieces"]]
        return super()._from_content({**content, "pieces": pieces})
