"""Text in, text out: characters are never torn, streams equal the whole."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmlib.architecture import ModelConfig, Transformer
from llmlib.data import ByteBPE
from llmlib.utilization import Sampling, decode_stream, generate_text, stream_text

TEXT = ["the naïve café – 漢字 and 🙂 again, the café"] * 5


class Bytes:
    """Every byte is a token."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def token_bytes(self, token: int, /) -> bytes:
        return bytes([token])


def make(vocab_size: int) -> Transformer:
    torch.manual_seed(3)
    return Transformer(
        ModelConfig(vocab_size=vocab_size, d_model=16, n_layers=2, n_heads=2, max_seq_len=61)
    )


@given(st.text(max_size=17))
def test_characters_come_whole(text: str) -> None:
    pieces = list(decode_stream(Bytes(), text.encode()))
    assert "".join(pieces) == text
    assert all(piece for piece in pieces)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_an_unfinished_character_is_marked_once_at_the_end() -> None:
    assert "".join(decode_stream(Bytes(), "é漢".encode()[:-1])) == "é\ufffd"


def test_streamed_text_is_the_generated_text() -> None:
    tokenizer = ByteBPE.train(TEXT, 269, special_tokens=["<|end|>"])
    end = tokenizer.special_tokens["<|end|>"]
    model = make(tokenizer.vocab_size)
    options: dict[str, Any] = {
        "max_new_tokens": 29, "sampling": Sampling(temperature=1.1), "start_token": end,
        "stop_tokens": [end],
    }  # fmt: skip
    whole = generate_text(model, tokenizer, ["the", "", "漢"], seed=7, **options)
    assert len(set(whole)) == 3
    for row, prompt in enumerate(["the", "", "漢"]):
        assert "".join(stream_text(model, tokenizer, prompt, seed=7 + row, **options)) == whole[row]


def test_an_empty_prompt_needs_a_start_token() -> None:
    with pytest.raises(ValueError, match="begin it with a start token"):
        generate_text(make(256), Bytes(), [""], max_new_tokens=3)
    assert len(generate_text(make(256), Bytes(), [""], max_new_tokens=3, start_token=0)) == 1


@pytest.mark.parametrize("certainty", [0.0, 3e38, float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1e-30, 1.0])
def test_a_stop_token_that_has_all_the_mass_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, certainty: float, temperature: float
) -> None:
    model = make(256)
    logits = torch.full((256,), float("-inf"))
    logits[7] = certainty
    monkeypatch.setattr(model, "unembed", lambda hidden: logits.expand(len(hidden), -1))
    options: dict[str, Any] = {
        "max_new_tokens": 5, "sampling": Sampling(temperature=temperature), "stop_tokens": [7],
    }  # fmt: skip
    assert generate_text(model, Bytes(), ["a", "bcd"], seed=1, **options) == ["", ""]
    assert list(stream_text(model, Bytes(), "a", seed=1, **options)) == []
    options["stop_tokens"] = []
    assert generate_text(model, Bytes(), ["a", "bcd"], seed=1, **options) == ["\x07" * 5] * 2
