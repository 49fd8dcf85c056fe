"""What a tokenizer costs on a text: fertility, bytes per token, tokens per character, unknowns."""

from collections.abc import Iterable
from dataclasses import dataclass

from llmlib.data.tokenizers.base import checked_texts
from llmlib.data.tokenizers.protocol import Tokenizer
from llmlib.data.tokenizers.words_and_digits import bert_words


@dataclass(frozen=True)
class TokenizerQuality:
    """Counts of one tokenizer on one set of texts."""

    tokens: int

    words: int
    """By BERT's rule: cut at white space, round punctuation and round each Chinese character (so
    that a text without spaces has words too)."""

    characters: int
    """Unicode characters."""

    bytes: int
    """In UTF-8."""

    unknown: int
    """Tokens that stand for what the vocabulary cannot spell."""

    @property
    def fertility(self) -> float:
        """Tokens per word."""
        return self.tokens / self.words if self.words else float("nan")

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text that a token carries on average."""
        return self.bytes / self.tokens if self.tokens else float("nan")

    @property
    def tokens_per_character(self) -> float:
        """Tokens per Unicode character."""
        return self.tokens / self.characters if self.characters else float("nan")

    @property
    def unknown_share(self) -> float:
        """Share of the tokens that are unknown, from 0 to 1."""
        return self.unknown / self.tokens if self.tokens else float("nan")


def tokenizer_quality(
    tokenizer: Tokenizer, texts: Iterable[str], unknown: str | None = None
) -> TokenizerQuality:
    """Count what a tokenizer makes of texts.

    Args:
        texts: Read lazily and one at a time.
        unknown: The unknown token's text; by default `tokenizer.unknown` or `<unk>`, where there
            is such a token.

    Raises:
        ValueError: If `unknown` is given and is no token of the tokenizer, or a text holds a lone
            surrogate.

    Example:
        >>> from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE
        >>> quality = tokenizer_quality(ByteBPE([]), ["深い湖"])
        >>> quality.tokens, quality.tokens_per_character, quality.bytes_per_token
        (9, 3.0, 1.0)

    References:
        Rust et al. (2021), How Good is Your Tokenizer?, section 3.2 (fertility); Petrov et al.
        (2023), Language Model Tokenizers Introduce Unfairness Between Languages.
    """
    spelt: list[str] = getattr(tokenizer, "tokens", [])
    known = {token: i for i, token in enumerate(spelt)} | dict(tokenizer.special_tokens)
    if unknown is not None and unknown not in known:
        raise ValueError(f"{unknown!r} is no token of this tokenizer")
    unknown_id = known.get(unknown or getattr(tokenizer, "unknown", "<unk>"), -1)
    tokens = words = characters = size = unknowns = 0
    for text in checked_texts(texts):
        ids = tokenizer.encode(text)
        tokens += len(ids)
        unknowns += ids.count(unknown_id)
        words += len(bert_words(text))
        characters += len(text)
        size += len(text.encode())
    return TokenizerQuality(tokens, words, characters, size, unknowns)
