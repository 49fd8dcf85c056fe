r"""Bits per byte: how well a model predicts text, whatever its tokenizer.

A loss per token cannot be compared between tokenizers: a larger vocabulary cuts the text into
fewer, harder tokens. The probability of the whole text can, because the tokens' probabilities
multiply to it however the text is cut. Divided by the number of bytes, which no tokenizer
changes, and in base 2, it is the size a compressor driven by the model would reach:

$$\mathrm{bits\ per\ byte} = \frac{-\sum_t \ln P(x_t \mid x_{<t})}{n_\mathrm{bytes} \ln 2}$$

What is scored is the one way in which the tokenizer cuts the text. The same text could be spelled
with other tokens too, so the sum is an upper bound of the text's true cost, and a fair one: a
compressor would pay it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture.context import PLAIN, Layout
from llmlib.architecture.transformer import Transformer
from llmlib.introduction.ngram import NgramModel
from llmlib.utilization.text import TextTokenizer

LOGITS_AT_ONCE = 2**25  # numbers, 128 MiB in float32: bounds memory for large vocabularies


def bits_per_byte(total_nats: int | float, n_bytes: int) -> float:
    """Convert the negative log-likelihood of a text into bits per byte of its UTF-8.

    8 for uniform bytes, 0 for certainty.

    Raises:
        ValueError: If there are no bytes.

    Example:
        >>> round(bits_per_byte(3 * math.log(256), 3), 12)
        8.0
    """
    if n_bytes < 1:
        raise ValueError(f"n_bytes must be at least 1, got {n_bytes}: there is no text to score")
    return total_nats / (n_bytes * math.log(2))


@dataclass(frozen=True)
class TextScore:
    """The cost of texts under a model, one entry for each text."""

    nats: np.ndarray
    """Negative log-likelihoods, in nats."""
    n_bytes: np.ndarray
    """Lengths in UTF-8, in bytes."""
    n_tokens: np.ndarray
    """Numbers of tokens predicted."""

    @property
    def total_nats(self) -> float:
        """Negative log-likelihood of all texts, in nats."""
        return float(self.nats.sum())

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte over all texts, long ones counting more."""
        return bits_per_byte(self.total_nats, int(self.n_bytes.sum()))

    @property
    def nats_per_token(self) -> float:
        """Mean cost of a token, which depends on the tokenizer."""
        return self.total_nats / int(self.n_tokens.sum())

    @property
    def perplexity(self) -> float:
        """Exponential of `nats_per_token`."""
        return math.exp(self.nats_per_token)


@dataclass(frozen=True)
class Window:
    """A piece of a sequence that a model reads at once."""

    start: int
    """Position of the first token read."""
    length: int
    """Tokens read; they predict the tokens from start + 1 to start + length."""
    first: int
    """Position of the first prediction that counts; earlier ones only give context."""


def sliding_windows(n_tokens: int, max_len: int, stride: int) -> list[Window]:
    """Cover a sequence so that each token but the first is predicted once.

    From the second window on, each prediction that counts has at least `max_len - stride + 1`
    tokens of context. A small stride, of 1 at least, gives more context and costs
    `max_len / stride` times the work.

    Raises:
        ValueError: If stride or max_len is out of range.

    Example:
        >>> sliding_windows(8, max_len=4, stride=2)[:2]
        [Window(start=0, length=4, first=1), Window(start=2, length=4, first=5)]
    """
    if max_len < 1:
        raise ValueError(f"max_len must be at least 1, got {max_len}")
    if not 1 <= stride <= max_len:
        raise ValueError(f"stride must lie in 1..max_len={max_len}, got {stride}")
    windows = []
    end, first = min(max_len, n_tokens - 1), 1  # `end` is the last position predicted
    while first < n_tokens:
        start = max(0, end - max_len)
        windows.append(Window(start, end - start, first))
        end, first = min(end + stride, n_tokens - 1), end + 1
    return windows


@torch.inference_mode()
def score_tokens(
    model: Transformer,
    sequences: Sequence[Sequence[int]],
    *,
    max_len: int | None = None,
    stride: int | None = None,
    batch_size: int = 16,
) -> list[np.ndarray]:
    """Return the negative log-likelihood in nats of each token but the first of each sequence.

    The model's mode is left as it was.

    Args:
        sequences: Token ids. The first of each is only context: put a start token there.
        max_len: Tokens the model reads at once; default and at most its `max_seq_len`.
        stride: Tokens by which the window moves over a longer sequence; default half of max_len.
        batch_size: Windows in one pass of the model.

    Raises:
        ValueError: If a size is out of range or a sequence is empty.
    """
    limit = model.config.max_seq_len
    max_len = limit if max_len is None else max_len
    stride = max(1, max_len // 2) if stride is None else stride
    if max_len > limit:
        raise ValueError(f"max_len={max_len} exceeds the model's max_seq_len={limit}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if any(len(sequence) == 0 for sequence in sequences):
        raise ValueError("each sequence needs at least one token: put a start token first")
    results = [np.zeros(len(sequence) - 1) for sequence in sequences]
    work = [
        (index, window)
        for index, sequence in enumerate(sequences)
        for window in sliding_windows(len(sequence), max_len, stride)
    ]
    # Windows of like length share a batch, so that little padding is computed.
    work.sort(key=lambda item: item[1].length)
    was_training = model.training
    model.eval()
    try:
        for begin in range(0, len(work), batch_size):
            batch = work[begin : begin + batch_size]
            nats = _score_batch(model, [(sequences[index], window) for index, window in batch])
            offset = 0
            for index, window in batch:
                count = window.start + window.length - window.first + 1
                place = slice(window.first - 1, window.first - 1 + count)
                results[index][place] = nats[offset : offset + count]
                offset += count
    finally:
        model.train(was_training)
    return results


def _score_batch(model: Transformer, batch: Sequence[tuple[Sequence[int], Window]]) -> np.ndarray:
    """Score the predictions that count in some windows, end to end."""
    device = model.output_weight.device
    width = max(window.length for _, window in batch)
    # Padding stands on the right, where causal attention keeps every scored token from seeing it;
    # but it would count as length where RoPE stretches with the text.
    inputs = torch.zeros(len(batch), width, dtype=torch.long)
    counts = torch.zeros(len(batch), width, dtype=torch.bool)
    is_padding = torch.ones(len(batch), width, dtype=torch.bool)
    is_dynamic = model.config.rope_scaling == "dynamic"
    targets = []
    for row, (sequence, window) in enumerate(batch):
        start, end = window.start, window.start + window.length
        is_padding[row, : window.length] = False
        inputs[row, : window.length] = torch.as_tensor(list(sequence[start:end]))
        counts[row, window.first - 1 - start : window.length] = True
        targets.extend(sequence[window.first : end + 1])
    layout = Layout(documents=is_padding.long().to(device)) if is_dynamic else PLAIN
    hidden = model.hidden(inputs.to(device), layout=layout)[counts.to(device)]  # [B, T, D], [n, D]
    return _cross_entropy(model, hidden, torch.as_tensor(targets, device=device))


def _cross_entropy(model: Transformer, hidden: Tensor, targets: Tensor) -> np.ndarray:
    """Nats of each target in float32 arithmetic, a bounded number of logits at a time."""
    rows = max(1, LOGITS_AT_ONCE // model.config.vocab_size)
    parts = [
        F.cross_entropy(model.unembed(h).float(), t, reduction="none")
        for h, t in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(parts).double().cpu().numpy()


def _encode(
    tokenizer: TextTokenizer, texts: Sequence[str], end_token: int | None
) -> tuple[list[list[int]], np.ndarray]:
    """Encode texts, checking that nothing is lost, and count their bytes."""
    if not texts:
        raise ValueError("there is no text to score")
    documents = []
    for text in texts:
        ids = list(tokenizer.encode(text))
        if tokenizer.decode(ids) != text:
            raise ValueError(
                "the tokenizer does not give this text back, so its bytes are not what the model "
                f"predicts: {text[:40]!r}"
            )
        documents.append(ids if end_token is None else [*ids, end_token])
    return documents, np.array([len(text.encode()) for text in texts])


def score_documents(
    model: Transformer,
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    *,
    start_token: int,
    end_token: int | None = None,
    max_len: int | None = None,
    stride: int | None = None,
    batch_size: int = 16,
) -> TextScore:
    """Score texts under a Transformer, each on its own behind a start token.

    Args:
        tokenizer: It must give every text back exactly.
        start_token: What stood before each document in training, so that the first token of the
            text is predicted too.
        end_token: If given, the end of each document is predicted as well: its nats count, its
            bytes do not.
        max_len: For this, `stride` and `batch_size` see `score_tokens`.

    Raises:
        ValueError: If there is no text, the tokenizer loses some of it or a size is out of range.
    """
    documents, n_bytes = _encode(tokenizer, texts, end_token)
    nats = score_tokens(
        model,
        [[start_token, *ids] for ids in documents],
        max_len=max_len,
        stride=stride,
        batch_size=batch_size,
    )
    n_tokens = np.array([len(ids) for ids in documents])
    return TextScore(np.array([part.sum() for part in nats]), n_bytes, n_tokens)


def score_documents_ngram(
    model: NgramModel,
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    *,
    end_token: int | None = None,
) -> TextScore:
    """Score texts under an n-gram model, as `score_documents` does under a Transformer.

    The model was fitted on documents of the same tokenizer.
    """
    documents, n_bytes = _encode(tokenizer, texts, end_token)
    n_tokens = np.array([len(ids) for ids in documents])
    cost = np.concatenate([[0.0], np.cumsum(-model.log_prob(documents))])
    ends = np.cumsum(n_tokens)
    return TextScore(cost[ends] - cost[ends - n_tokens], n_bytes, n_tokens)
