"""Bits per byte: known values, no dependence on the tokenizer, each token scored once."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmlib.architecture import ModelConfig, Transformer
from llmlib.evaluation import (
    bits_per_byte,
    score_documents,
    score_documents_ngram,
    score_tokens,
    sliding_windows,
)
from llmlib.introduction import KneserNey

TEXTS = [
    "the cat sat on the mat",
    "naïve – 漢字",
    "a",
    "so it goes, and so it went, again and again",
]
END = 256


class Bytes:
    """Every byte is a token."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode()

    def token_bytes(self, token: int, /) -> bytes:
        return bytes([token])


class Nibbles:
    """Every byte is two tokens of four bits."""

    def encode(self, text: str) -> list[int]:
        return [half for byte in text.encode() for half in divmod(byte, 16)]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(16 * a + b for a, b in zip(ids[::2], ids[1::2], strict=True)).decode()

    def token_bytes(self, token: int, /) -> bytes:
        raise NotImplementedError


class Lowercase(Bytes):
    """Loses the case of letters."""

    def encode(self, text: str) -> list[int]:
        return super().encode(text.lower())


def model(vocab_size: int = 257, max_seq_len: int = 13, **fields: object) -> Transformer:
    config = ModelConfig(
        vocab_size=vocab_size,
        d_model=16,
        n_layers=2,
        n_heads=2,
        max_seq_len=max_seq_len,
        init_std=0.3,
        **fields,  # pyright: ignore[reportArgumentType]
    )
    return Transformer(config)


@torch.no_grad()
def make_uniform(transformer: Transformer) -> Transformer:
    transformer.output_weight.zero_()
    return transformer


@pytest.mark.covers("eval.lm")
def test_a_uniform_model_costs_eight_bits_a_byte_however_the_text_is_cut() -> None:
    by_byte = make_uniform(model(vocab_size=256))
    by_nibble = make_uniform(model(vocab_size=16))
    one = score_documents(by_byte, Bytes(), TEXTS, start_token=0)
    two = score_documents(by_nibble, Nibbles(), TEXTS, start_token=0)
    assert one.bits_per_byte == pytest.approx(8, abs=1e-5)
    assert two.bits_per_byte == pytest.approx(8, abs=1e-5)
    assert one.perplexity == pytest.approx(256, rel=1e-5)
    assert two.perplexity == pytest.approx(16, rel=1e-5)
    assert two.n_tokens.tolist() == (2 * one.n_tokens).tolist()
    assert one.n_bytes.tolist() == [len(text.encode()) for text in TEXTS]


class OfNibbles(torch.nn.Module):
    """A byte model that is the exact product of a nibble model's two steps."""

    def __init__(self, halves: Transformer) -> None:
        super().__init__()
        self.halves = halves

    def log_probs(self, data: bytes) -> float:
        nibbles = [0] + [half for byte in data for half in divmod(byte, 16)]
        total = 0.0
        for i in range(len(data)):
            prefix = torch.tensor([nibbles[: 2 * i + 1]])
            high = self.halves(prefix)[0, -1].log_softmax(-1)  # [16]
            extended = torch.cat([prefix.expand(16, -1), torch.arange(16)[:, None]], dim=1)
            low = self.halves(extended)[:, -1].log_softmax(-1)  # [16, 16]
            of_bytes = (high[:, None] + low).flatten()  # [256]
            assert of_bytes.exp().sum().item() == pytest.approx(1, abs=1e-5)
            total += of_bytes[data[i]].item()
        return total


@pytest.mark.covers("eval.lm")
@torch.no_grad()
def test_the_same_distribution_costs_the_same_as_bytes_and_as_nibbles() -> None:
    halves = model(vocab_size=16, max_seq_len=64)
    text = TEXTS[1]
    by_nibble = score_documents(halves, Nibbles(), [text], start_token=0)
    by_byte = -OfNibbles(halves).log_probs(text.encode())
    assert by_nibble.total_nats == pytest.approx(by_byte, rel=1e-5)
    assert by_nibble.bits_per_byte == pytest.approx(bits_per_byte(by_byte, len(text.encode())))


@given(st.integers(0, 67), st.integers(1, 13), st.data())
def test_windows_predict_each_token_once_with_enough_context(
    n_tokens: int, max_len: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, max_len))
    predicted = []
    for number, window in enumerate(sliding_windows(n_tokens, max_len, stride)):
        assert 1 <= window.length <= max_len
        assert 0 <= window.start < window.first <= window.start + window.length
        if number:
            assert window.first - window.start >= max_len - stride + 1
        else:
            assert window.start == 0
        predicted.extend(range(window.first, window.start + window.length + 1))
    assert predicted == list(range(1, n_tokens))


@torch.no_grad()
def test_scores_equal_a_plain_forward_pass_and_a_plain_loop_over_windows() -> None:
    transformer = model()
    generator = torch.Generator().manual_seed(3)
    sequences = [
        torch.randint(257, (n,), generator=generator).tolist() for n in (1, 2, 7, 14, 15, 41, 29)
    ]
    scores = score_tokens(transformer, sequences, stride=5, batch_size=3)
    for sequence, nats in zip(sequences, scores, strict=True):
        expected = np.zeros(len(sequence) - 1)
        for target in range(1, len(sequence)):
            # The window that counts ends `stride` further each time, or at the last token.
            ends = [*range(13, len(sequence) - 1, 5), len(sequence) - 1]
            end = next(end for end in ends if end >= target)
            start = max(0, end - 13)
            logits = transformer(torch.tensor([sequence[start:target]]))[0, -1]
            expected[target - 1] = -logits.log_softmax(-1)[sequence[target]].item()
        np.testing.assert_allclose(nats, expected, atol=1e-4)


def test_scores_do_not_depend_on_the_batch_and_leave_the_mode_alone() -> None:
    transformer = model(dropout=0.5).train()
    one = score_documents(transformer, Bytes(), TEXTS, start_token=END, batch_size=1)
    all_at_once = score_documents(transformer, Bytes(), TEXTS, start_token=END, batch_size=17)
    np.testing.assert_allclose(one.nats, all_at_once.nats, rtol=1e-5)
    assert transformer.training


def test_the_end_of_a_document_costs_nats_and_no_bytes() -> None:
    transformer = model(max_seq_len=64)
    without = score_documents(transformer, Bytes(), TEXTS, start_token=END)
    with_end = score_documents(transformer, Bytes(), TEXTS, start_token=END, end_token=END)
    assert (with_end.nats > without.nats).all()
    assert with_end.n_bytes.tolist() == without.n_bytes.tolist()
    assert with_end.n_tokens.tolist() == (without.n_tokens + 1).tolist()
    empty = score_documents(transformer, Bytes(), ["", "a"], start_token=END)
    assert empty.nats[0] == 0


def test_large_vocabularies_are_scored_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    transformer = model()
    whole = score_documents(transformer, Bytes(), TEXTS, start_token=END)
    monkeypatch.setattr("llmlib.evaluation.bits.LOGITS_AT_ONCE", 5 * 257)
    pieces = score_documents(transformer, Bytes(), TEXTS, start_token=END)
    np.testing.assert_allclose(whole.nats, pieces.nats, rtol=1e-6)


def test_ngram_scores_are_those_of_each_document() -> None:
    documents = [[*Bytes().encode(text), END] for text in TEXTS]
    ngram = KneserNey.fit(documents, order=3, vocab_size=257, end_token=END)
    texts = ["the mat", "", "and again"]
    score = score_documents_ngram(ngram, Bytes(), texts)
    expected = [-ngram.log_prob(list(text.encode())).sum() for text in texts]
    np.testing.assert_allclose(score.nats, expected, atol=1e-12)
    assert score.bits_per_byte == pytest.approx(sum(expected) / 16 / math.log(2))
    ended = score_documents_ngram(ngram, Bytes(), texts, end_token=END)
    assert (ended.nats > score.nats).all()


def test_bad_input_is_named() -> None:
    transformer = model()
    with pytest.raises(ValueError, match="no text to score"):
        bits_per_byte(1.0, 0)
    with pytest.raises(ValueError, match="no text to score"):
        score_documents(transformer, Bytes(), [], start_token=END)
    with pytest.raises(ValueError, match="does not give this text back"):
        score_documents(transformer, Lowercase(), ["Capital"], start_token=END)
    with pytest.raises(ValueError, match="max_seq_len=13"):
        score_tokens(transformer, [[1, 2]], max_len=14)
    with pytest.raises(ValueError, match="stride must lie in 1..max_len=5"):
        score_tokens(transformer, [[1, 2]], max_len=5, stride=6)
    with pytest.raises(ValueError, match="max_len must be at least 1"):
        sliding_windows(3, 0, 1)
    with pytest.raises(ValueError, match="batch_size"):
        score_tokens(transformer, [[1, 2]], batch_size=0)
    with pytest.raises(ValueError, match="put a start token first"):
        score_tokens(transformer, [[]])
