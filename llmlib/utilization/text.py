"""From token ids back to text, also while the tokens are still arriving."""

import codecs
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from llmlib.architecture.transformer import Transformer
from llmlib.utilization.generation import generate, stream
from llmlib.utilization.sampling import Sampling


@runtime_checkable
class TextTokenizer(Protocol):
    """What generation and evaluation need of a tokenizer; `llmlib.data.ByteBPE` has it."""

    def encode(self, text: str) -> Sequence[int]:
        """Return the token ids of a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids."""
        ...

    def token_bytes(self, token: int, /) -> bytes:
        """Return the bytes that a token stands for."""
        ...


class Utf8Stream:
    """Turns tokens into text as they come, holding back bytes of an unfinished character.

    A byte-level token may end in the middle of a character; printing its bytes at once would show
    a replacement mark for each half.

    Example:
        >>> class Bytes:
        ...     def encode(self, text): return list(text.encode())
        ...     def decode(self, ids): return bytes(ids).decode()
        ...     def token_bytes(self, token): return bytes([token])
        >>> stream = Utf8Stream(Bytes())
        >>> [stream.push(token) for token in "né".encode()], stream.close()
        (['n', '', 'é'], '')
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Add a token; return the characters that are complete now, perhaps none."""
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def close(self) -> str:
        """End the text; return a replacement mark for a character that was never finished."""
        return self._decoder.decode(b"", final=True)


def decode_stream(tokenizer: TextTokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """Turn a stream of tokens into a stream of text, no piece of it empty."""
    text = Utf8Stream(tokenizer)
    for token in tokens:
        piece = text.push(token)
        if piece:
            yield piece
    rest = text.close()
    if rest:
        yield rest


def generate_text(
    model: Transformer,
    tokenizer: TextTokenizer,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    start_token: int | None = None,
    sampling: Sampling | None = None,
    stop_tokens: Collection[int] = (),
    seed: int | Sequence[int] | None = None,
) -> list[str]:
    """Return what follows each prompt; bytes that are not UTF-8 become U+FFFD.

    Args:
        prompts: Texts to continue; one may be empty if there is a start token.
        start_token: Id put in front of each prompt, if the model was trained to expect one.
        stop_tokens: Ids that end a text. Their text is not part of the result.

    Raises:
        ValueError: As for `generate`.
    """
    start = [] if start_token is None else [start_token]
    continuations = generate(
        model,
        [[*start, *tokenizer.encode(prompt)] for prompt in prompts],
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        stop_tokens=stop_tokens,
        seed=seed,
    )
    return ["".join(decode_stream(tokenizer, tokens)) for tokens in continuations]


def stream_text(
    model: Transformer,
    tokenizer: TextTokenizer,
    prompt: str,
    *,
    max_new_tokens: int,
    start_token: int | None = None,
    sampling: Sampling | None = None,
    stop_tokens: Collection[int] = (),
    seed: int | None = None,
) -> Iterator[str]:
    """Continue a text as `generate_text` does, giving pieces when their characters are whole."""
    start = [] if start_token is None else [start_token]
    tokens = stream(
        model,
        [*start, *tokenizer.encode(prompt)],
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        stop_tokens=stop_tokens,
        seed=seed,
    )
    return decode_stream(tokenizer, tokens)
