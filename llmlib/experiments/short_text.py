"""Texts that two cores learn from in a minute: documents as few different tokens."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from llmlib.data.corpora.document import Document, corpus_sha256
from llmlib.data.corpora.fixed import fixed_corpus
from llmlib.data.stream.splits import split_by_module
from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE

VOCAB_SIZE = 512


@dataclass(frozen=True)
class ShortText:
    """Documents as tokens, in two parts that share no module."""

    train: Int[Tensor, " n"]
    held_out: Int[Tensor, " m"]
    sha256: str
    """Hash of both parts' documents."""
    unigram_loss: float
    """`frequency_loss` of the held-out tokens after the training part."""


def cut_text(
    train: Sequence[Document], held_out: Sequence[Document], tokenizer: ByteBPE
) -> ShortText:
    """Cut two parts of a corpus into tokens, documents one behind the other."""
    tokens, measured = (
        torch.tensor([i for document in part for i in tokenizer.encode(document.text)])
        for part in (train, held_out)
    )
    loss = frequency_loss(tokens, measured, tokenizer.vocab_size)
    return ShortText(tokens, measured, corpus_sha256([*train, *held_out]), loss)


@functools.cache
def short_text() -> ShortText:
    """Cut an eighth of the fixed corpus into the 512 tokens that byte-level BPE learns from it.

    About 430,000 tokens to learn from, the same on every machine.
    """
    split = split_by_module(fixed_corpus())
    train = split.train[::8]
    bpe = ByteBPE.train([document.text for document in train], vocab_size=VOCAB_SIZE)
    return cut_text(train, split.held_out[::4], bpe)


def frequency_loss(
    tokens: Int[Tensor, " n"], held_out: Int[Tensor, "*m"], vocab_size: int = VOCAB_SIZE
) -> float:
    """Return what a model pays that has learnt how common the tokens are, and no context.

    Each token counts once more than it is there, so that none is impossible. In nats a token.

    Example:
        >>> text = torch.tensor([0, 0, 1])
        >>> round(frequency_loss(text, torch.tensor([0]), vocab_size=3), 4)  # ln(6 / 3)
        0.6931
    """
    counts = torch.bincount(tokens, minlength=vocab_size) + 1.0
    return -(counts / counts.sum()).log()[held_out].mean().item()
