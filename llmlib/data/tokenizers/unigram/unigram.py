"""The unigram language model as a tokenizer: a text's likeliest cut, or one drawn by chance.

Each piece has a probability of its own, a way of cutting has the product of its pieces', and the
text's ids are those of the likeliest way. Since every way has a probability, a text can also be
cut differently each time it is seen: subword regularization.
"""

import heapq
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from llmlib.data.tokenizers.base import (
    BaseTokenizer,
    PieceCache,
    check_special_tokens,
    check_text,
    checked_texts,
)
from llmlib.data.tokenizers.cutting import cut_named
from llmlib.data.tokenizers.normalization import Normalizer, byte_pieces
from llmlib.data.tokenizers.unigram.paths import Edges, best_path, best_paths, draw_path, log_sums
from llmlib.data.tokenizers.unigram.training import EMStep, learn_pieces

_UNKNOWN_PENALTY = 10.0  # nats below the rarest piece, as in SentencePiece


class Unigram(BaseTokenizer):
    """A unigram-language-model tokenizer.

    Ids run from 0: the special tokens in the order given, the 256 bytes (with `byte_fallback`),
    then the pieces in the order given. With `byte_fallback`, no normalizer and a cut that loses
    nothing, `decode(encode(text))` is the text, whatever it is; a character that no piece spells
    becomes its UTF-8 bytes.

    Args:
        pieces: Pieces and their log-probabilities in nats.
        special_tokens: Texts that get the first ids; without `byte_fallback` one is `unknown`.
        byte_fallback: Spell a character without a piece in bytes instead of `unknown`.
        unknown: The token of such a character without `byte_fallback`.
        normalizer: What happens to a text first.
        cut: How it is then cut into words, which no piece crosses (a key of `CUTS`).

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

    def __init__(
        self,
        pieces: Iterable[tuple[str, float]],
        special_tokens: Sequence[str] = (),
        *,
        byte_fallback: bool = True,
        unknown: str = "<unk>",
        normalizer: Normalizer | None = None,
        cut: str = "gpt2",
    ) -> None:
        check_special_tokens(special_tokens)
        self.special_tokens = {token: i for i, token in enumerate(special_tokens)}
        if not byte_fallback and unknown not in self.special_tokens:
            raise ValueError(f"without byte_fallback {unknown!r} must be a special token")
        self.pieces = [(str(piece), float(score)) for piece, score in pieces]
        self.byte_fallback, self.unknown = byte_fallback, unknown
        self.normalizer, self.cut = normalizer or Normalizer(), cut
        self.history: list[EMStep] = []
        self._tokens = list(special_tokens) + (byte_pieces() if byte_fallback else [])
        self._first_byte, first = len(special_tokens), len(self._tokens)
        self._tokens += [piece for piece, _ in self.pieces]
        self._edges_of: dict[str, tuple[tuple[int, ...], float]] = {}
        for i, (piece, score) in enumerate(self.pieces, first):
            check_text(piece)
            if not piece or piece in self._edges_of or not math.isfinite(score):
                raise ValueError(f"the piece {piece!r} is empty, given twice or without a score")
            self._edges_of[piece] = ((i,), score)
        self._longest = max((len(piece) for piece, _ in self.pieces), default=1)
        lowest = min((score for _, score in self.pieces), default=0.0)
        self._unknown_score = lowest - _UNKNOWN_PENALTY
        self._cut = cut_named(cut)
        self._words = PieceCache(lambda word: best_path(self._edges(word)))

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
        """Learn a vocabulary from texts.

        Args:
            texts: The corpus; read once, words are kept with their counts.
            vocab_size: Number of ids wanted, special tokens and bytes included.
            special_tokens: Texts that get the first ids; `unknown` is added if it is needed.
            byte_fallback: Spell a character without a piece in bytes instead of `unknown`.
            unknown: The token of such a character without `byte_fallback`.
            normalizer: What happens to a text first.
            cut: How it is then cut into words, which no piece crosses (a key of `CUTS`).
            coverage: Share of the corpus's characters that get a piece, in (0, 1].
            **options: `seed_size`, `max_length`, `shrink` and `em_steps` of `learn_pieces`.

        Returns:
            The tokenizer, with exactly `vocab_size` ids.

        Raises:
            ValueError: If the vocabulary is too small for the characters or larger than the texts
                allow, or a text holds a lone surrogate.
        """
        check_special_tokens(special_tokens)
        special = [*special_tokens]
        if not byte_fallback and unknown not in special:
            special.append(unknown)
        reserved = len(special) + (256 if byte_fallback else 0)
        if vocab_size <= reserved:
            raise ValueError(
                f"vocab_size={vocab_size} must be above {reserved}: {len(special)} special tokens"
                + (" and 256 bytes" if byte_fallback else "")
            )
        normal, cut_words = normalizer or Normalizer(), cut_named(cut)
        words: Counter[str] = Counter()
        for text in checked_texts(texts):
            words.update(cut_words(normal(text)))
        learnt = learn_pieces(words, vocab_size - reserved, coverage=coverage, **options)
        tokenizer = cls(
            learnt.pieces,
            special,
            byte_fallback=byte_fallback,
            unknown=unknown,
            normalizer=normal,
            cut=cut,
        )
        tokenizer.history = learnt.history
        return tokenizer

    def log_probability(self, text: str) -> float:
        """Sum the probabilities of all ways of cutting a text.

        Args:
            text: Any text without lone surrogates.

        Returns:
            The logarithm of the sum, in nats.
        """
        return sum(log_sums(self._edges(word))[-1] for word in self._split(text))

    def n_best(self, text: str, n: int) -> list[tuple[list[int], float]]:
        """Return the likeliest ways of cutting a text.

        Args:
            text: Any text without lone surrogates.
            n: How many are wanted, at least 1.

        Returns:
            At most `n` pairs of ids and their log-probability in nats, likeliest first.

        Raises:
            ValueError: If `n` is below 1.
        """
        if n < 1:
            raise ValueError(f"n={n} must be at least 1")
        ways: list[tuple[list[int], float]] = [([], 0.0)]
        for word in self._split(text):
            of_word = best_paths(self._edges(word), n)
            both = [(a + b, p + q) for a, p in ways for b, q in of_word]
            ways = heapq.nlargest(n, both, key=lambda way: way[1])
        return ways

    def sample(self, text: str, rng: random.Random, *, alpha: float = 1.0) -> list[int]:
        r"""Draw one way of cutting a text, with probability $\propto p(\text{way})^\alpha$.

        Args:
            text: Any text without lone surrogates.
            rng: Source of chance.
            alpha: At least 0. 1 draws from the model, 0 takes all ways for equally likely, and a
                large value the best way almost always.

        Returns:
            The ids; `decode` gives the same text for all of them.

        Raises:
            ValueError: If `alpha` is negative.

        References:
            Kudo (2018), section 3.3: there over the n best ways; here over all of them, by
            filtering forwards and sampling backwards.
        """
        if alpha < 0:
            raise ValueError(f"alpha={alpha} must not be negative")
        ids: list[int] = []
        for word in self._split(text):
            ids += draw_path(self._edges(word), rng, alpha)
        return ids

    def _split(self, text: str) -> list[str]:
        check_text(text)
        return self._cut(self.normalizer(text))

    def _encode_ordinary(self, text: str) -> np.ndarray:
        return self._words.encode(self._cut(self.normalizer(text)))

    def _edges(self, word: str) -> Edges:
        """The edges that end at each place, the longest first."""
        edges: Edges = [[]]
        known = self._edges_of
        for end in range(1, len(word) + 1):
            here = [
                (start, *known[word[start:end]])
                for start in range(max(0, end - self._longest), end)
                if word[start:end] in known
            ]
            if not here or here[-1][0] != end - 1:
                here.append((end - 1, self._spelt(word[end - 1]), self._unknown_score))
            edges.append(here)
        return edges

    def _spelt(self, character: str) -> tuple[int, ...]:
        """The ids of a character that no piece spells."""
        if not self.byte_fallback:
            return (self.special_tokens[self.unknown],)
        return tuple(self._first_byte + byte for byte in character.encode())

    def _join(self, ids: list[int]) -> str:
        data = b"".join(
            bytes([i - self._first_byte])
            if self.byte_fallback and 0 <= i - self._first_byte < 256
            else self._tokens[i].encode()
            for i in ids
        )
        return data.decode("utf-8", errors="replace")

    def _content(self) -> dict[str, Any]:
        return {
            "pieces": [list(piece) for piece in self.pieces],
            "special_tokens": list(self.special_tokens),
            "byte_fallback": self.byte_fallback,
            "unknown": self.unknown,
            "normalizer": self.normalizer.as_dict(),
            "cut": self.cut,
        }

    @classmethod
    def _from_content(cls, content: Mapping[str, Any]) -> "Unigram":
        return cls(
            [(piece, score) for piece, score in content["pieces"]],
            content["special_tokens"],
            byte_fallback=content["byte_fallback"],
            unknown=content["unknown"],
            normalizer=Normalizer(**content["normalizer"]),
            cut=content["cut"],
        )
