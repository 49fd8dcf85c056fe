"""WordPiece: BPE's way of growing pieces, chosen by likelihood, and used greedily.

It differs from byte-pair encoding twice. In training, the pair to merge is not the commonest but
the one whose parts occur together more than their own counts explain. In use, the merges are
forgotten: from the left, the longest piece of the vocabulary that fits is taken.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from llmlib.data.tokenizers.base import check_special_tokens
from llmlib.data.tokenizers.bpe.pair_table import by_count, by_gain, by_ratio, learn_symbols
from llmlib.data.tokenizers.normalization import BERT_UNCASED, Normalizer
from llmlib.data.tokenizers.words import WordTokenizer

BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SCORES = {"ratio": by_ratio, "gain": by_gain, "count": by_count}


class WordPiece(WordTokenizer):
    """A WordPiece tokenizer: whole words, beginnings of words, and `##` continuations.

    It is not lossless: normalization, white space and unknown words cannot be given back.

    Args:
        tokens: The spelling of each id, in order; special tokens among them.
        special_tokens: Those of the tokens that text never gives; the unknown token is one.
        unknown: The token of a word that no pieces spell.
        prefix: How the spelling of a piece inside a word begins.
        max_characters: Longer words are unknown; at least 1.

    Raises:
        ValueError: If a token is given twice, or a special or the unknown token is missing.

    Example:
        >>> pieces = WordPiece(["[UNK]", "un", "##aff", "##able", "##a"], ["[UNK]"])
        >>> [pieces.tokens[i] for i in pieces.encode("Unaffable unaffordable")]
        ['un', '##aff', '##able', '[UNK]']

    References:
        Schuster and Nakajima (2012), Japanese and Korean Voice Search, section 3; Wu et al.
        (2016), Google's Neural Machine Translation System, section 4.1; Devlin et al. (2019), BERT.
    """

    kind: ClassVar[str] = "WordPiece"
    _fields: ClassVar[tuple[str, ...]] = (
        "tokens",
        "special_tokens",
        "unknown",
        "prefix",
        "max_characters",
        "normalizer",
        "cut",
    )

    def __init__(
        self,
        tokens: Sequence[str],
        special_tokens: Sequence[str] = BERT_SPECIAL,
        *,
        unknown: str = "[UNK]",
        prefix: str = "##",
        max_characters: int = 100,
        normalizer: Normalizer = BERT_UNCASED,
        cut: str = "bert",
    ) -> None:
        super().__init__(normalizer, cut)
        check_special_tokens(special_tokens)
        self._tokens = list(tokens)
        ids = {token: i for i, token in enumerate(self._tokens)}
        if len(ids) != len(self._tokens):
            twice = next(token for i, token in enumerate(self._tokens) if ids[token] != i)
            raise ValueError(f"the token {twice!r} is given twice")
        missing = [token for token in (*special_tokens, unknown) if token not in ids]
        if missing or unknown not in special_tokens:
            raise ValueError(
                f"tokens lacks {missing}" if missing else f"{unknown!r} must be a special token"
            )
        if max_characters < 1:
            raise ValueError(f"max_characters={max_characters} must be at least 1")
        self.special_tokens = {token: ids[token] for token in special_tokens}
        self.unknown, self.prefix, self.max_characters = unknown, prefix, max_characters
        self._unknown_id = ids[unknown]
        # Text that spells a special token is text, so it is not looked up among them.
        ordinary = {t: i for t, i in ids.items() if t not in self.special_tokens}
        n = len(prefix)
        self._starts = ordinary
        self._continuations = {t[n:]: i for t, i in ordinary.items() if t.startswith(prefix)}
        self._longest = max(map(len, ordinary), default=1)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = BERT_SPECIAL,
        *,
        score: str = "ratio",
        min_frequency: int = 2,
        unknown: str = "[UNK]",
        prefix: str = "##",
        normalizer: Normalizer = BERT_UNCASED,
        cut: str = "bert",
        alphabet: Sequence[str] | None = None,
    ) -> "WordPiece":
        """Learn a vocabulary of exactly `vocab_size` ids from texts, which are read once.

        Args:
            vocab_size: Number of ids wanted: special tokens, single characters (each up to twice,
                first in a word and inside one) and merged pieces.
            special_tokens: Texts that get the first ids; the unknown token is added if missing.
            score: Which pair is merged next: "ratio" n(ab) / (n(a) n(b)), "gain" the first-order
                gain of log-likelihood, or "count" as byte-pair encoding (and the trainer of
                Hugging Face `tokenizers`) chooses.
            min_frequency: Pairs seen fewer times are not merged; at least 1. The ratio is highest
                for pairs of rare symbols, so with 1 it learns the corpus's accidents.
            alphabet: Single-character tokens in the order of their ids, if it matters; by default
                the characters that begin words, then those inside words, each sorted.

        Raises:
            ValueError: If the vocabulary is too small for the alphabet or larger than the texts
                allow, or a text holds a lone surrogate.
        """
        if score not in _SCORES:
            raise ValueError(f"score={score!r} is not known; choose one of {sorted(_SCORES)}")
        check_special_tokens(special_tokens)
        special = [*special_tokens] if unknown in special_tokens else [*special_tokens, unknown]
        options: dict[str, Any] = {"unknown": unknown, "prefix": prefix}
        options |= {"normalizer": normalizer, "cut": cut}
        empty = cls(special, special, **options)
        words = empty.count_words(texts)
        learnt, _ = learn_symbols(
            words,
            _alphabet(words, prefix) if alphabet is None else alphabet,
            vocab_size,
            reserved=empty.vocab_size,
            min_frequency=min_frequency,
            continuing=prefix,
            score=_SCORES[score],
        )
        return cls([*special, *learnt], special, **options)

    @classmethod
    def from_vocabulary_file(
        cls,
        path: str | Path,
        special_tokens: Sequence[str] = BERT_SPECIAL,
        *,
        normalizer: Normalizer = BERT_UNCASED,
        cut: str = "bert",
    ) -> "WordPiece":
        """Read a `vocab.txt` as BERT's models come with: one token a line, in order of ids."""
        # Only "\n" ends a line: a token may itself be a character that Unicode calls a line end.
        lines = Path(path).read_text("utf-8").removesuffix("\n").split("\n")
        tokens = [line.removesuffix("\r") for line in lines]
        return cls(tokens, special_tokens, normalizer=normalizer, cut=cut)

    @override
    def _encode_word(self, word: str) -> list[int]:
        """Longest match first; a word of which any part fits nothing is unknown as a whole."""
        if len(word) > self.max_characters:
            return [self._unknown_id]
        ids: list[int] = []
        start, table = 0, self._starts
        while start < len(word):
            end = min(len(word), start + self._longest)
            while end > start and word[start:end] not in table:
                end -= 1
            if end == start:
                return [self._unknown_id]
            ids.append(table[word[start:end]])
            start, table = end, self._continuations
        return ids

    @override
    def _join(self, ids: list[int]) -> str:
        parts = []
        for i in ids:
            token = self._tokens[i]
            inside = token.startswith(self.prefix) and token not in self.special_tokens
            parts.append(token[len(self.prefix) :] if inside else f" {token}")
        return "".join(parts).strip(" ")


def _alphabet(words: Iterable[str], prefix: str) -> list[str]:
    starts = {word[0] for word in words if word}
    inside = {character for word in words for character in word[1:]}
    return sorted(starts) + [prefix + character for character in sorted(inside)]
