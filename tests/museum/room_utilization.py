"""Faults of utilization: choosing tokens, and text while it arrives."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from llmlib.utilization import Sampling, choose, decode_stream, keep_top_p
from museum.exhibit import Exhibit

# A cold temperature. An implementation chooses a token a row.

Chooser = Callable[[Tensor, float, Tensor], list[int]]


def _divide_then_draw(logits: Tensor, temperature: float, uniform: Tensor) -> list[int]:
    cumulative = (logits / temperature).softmax(-1).cumsum(-1)
    return torch.searchsorted(cumulative, uniform[:, None].to(logits.dtype), right=True)[
        :, 0
    ].tolist()


def _choose_at(logits: Tensor, temperature: float, uniform: Tensor) -> list[int]:
    return choose(logits, Sampling(temperature=temperature), uniform).tolist()


def _plausible_choice(chooser: Chooser) -> None:
    logits = torch.tensor([[1.0, 12.0, 3.0]], dtype=torch.float16).expand(3, -1)
    draws = torch.tensor([0.1, 0.5, 0.9])
    assert chooser(logits, 0.7, draws) == [1, 1, 1]
    assert chooser(logits, 0.01, draws) == [1, 1, 1]


def _cold_choice(chooser: Chooser) -> None:
    logits = torch.tensor([[1.0, 12.0, 3.0]], dtype=torch.float16)
    for temperature in (1e-4, 1e-5, 1e-30):
        assert chooser(logits, temperature, torch.tensor([0.5])) == [1]


# A nucleus. An implementation returns the tokens that are kept.

Nucleus = Callable[[Tensor, float], list[int]]


def _nucleus_past_the_border(probability: Tensor, p: float) -> list[int]:
    ordered, order = probability.sort(descending=True)
    before = ordered.cumsum(-1) - ordered
    return sorted(order[before <= p].tolist())


def _nucleus_from_below(probability: Tensor, p: float) -> list[int]:
    ordered, order = probability.sort()
    return sorted(order[ordered.cumsum(-1) > 1 - p].tolist())


def _nucleus(probability: Tensor, p: float) -> list[int]:
    return keep_top_p(probability.log(), p).isfinite().nonzero().flatten().tolist()


def _plausible_nucleus(nucleus: Nucleus) -> None:
    probability = torch.tensor([0.3, 0.1, 0.1, 0.5])
    assert nucleus(probability, 0.7) == [0, 3]
    assert nucleus(probability, 0.4) == [3]


def _nucleus_that_reaches_p(nucleus: Nucleus) -> None:
    assert nucleus(torch.tensor([0.25, 0.125, 0.125, 0.5]), 0.75) == [0, 3]
    assert nucleus(torch.tensor([0.3, 0.1, 0.1, 0.5]), 0.8) == [0, 3]


def _tiny_nucleus(nucleus: Nucleus) -> None:
    assert nucleus(torch.tensor([0.3, 0.1, 0.1, 0.5]), 1e-9) == [3]


# A draw. An implementation chooses the token for one number.

Draw = Callable[[list[float], float], int]


def _draw_up_to(probability: list[float], uniform: float) -> int:
    cumulative = torch.tensor(probability).cumsum(-1)
    return int(torch.searchsorted(cumulative, torch.tensor([uniform]))[0])


def _draw(probability: list[float], uniform: float) -> int:
    return int(choose(torch.tensor([probability]).log(), Sampling(), torch.tensor([uniform]))[0])


def _plausible_draw(draw: Draw) -> None:
    assert [draw([0.0, 0.5, 0.5, 0.0], u) for u in (0.1, 0.4, 0.6, 0.9)] == [1, 1, 2, 2]


def _draw_at_the_ends(draw: Draw) -> None:
    for uniform in (0.0, 1 - 2**-24):
        assert draw([0.0, 0.7, 0.3, 0.0], uniform) in (1, 2)


# Text in a stream. An implementation turns single bytes into pieces of text.

Stream = Callable[[Iterable[int]], list[str]]


class _Bytes:
    """Every byte is a token."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def token_bytes(self, token: int, /) -> bytes:
        return bytes([token])


def _each_token_alone(tokens: Iterable[int]) -> list[str]:
    return [_Bytes().decode([token]) for token in tokens]


def _plausible_stream(stream: Stream) -> None:
    assert "".join(stream(b"Hello, world")) == "Hello, world"


def _stream_of_characters(stream: Stream) -> None:
    assert "".join(stream("né 漢 🙂".encode())) == "né 漢 🙂"


EXHIBITS = [
    Exhibit(
        name="Too cold to choose",
        threads=("vllm-project/vllm#1623", "vllm-project/vllm#2937", "vllm-project/vllm#3063"),
        fault="Logits in half precision are divided by a tiny temperature and overflow.",
        looks="Temperatures down to 0.01 work, and so does 0, which is another path.",
        faulty=_divide_then_draw,
        sound=_choose_at,
        plausible=_plausible_choice,
        check=_cold_choice,
    ),
    Exhibit(
        name="One token too many",
        threads=("huggingface/transformers#18976", "BlinkDL/ChatRWKV#170"),
        fault="A nucleus whose mass is exactly p gets the next token too.",
        looks="Random probabilities never sum to p exactly; those that people write down do.",
        faulty=_nucleus_past_the_border,
        sound=_nucleus,
        plausible=_plausible_nucleus,
        check=_nucleus_that_reaches_p,
    ),
    Exhibit(
        name="The empty nucleus",
        threads=("ml-explore/mlx-lm#1912",),
        fault="Tokens count from the least probable, and 1 - p rounds to 1.",
        looks="Every usual p works; the narrowest keeps nothing, and noise is drawn.",
        faulty=_nucleus_from_below,
        sound=_nucleus,
        plausible=_plausible_nucleus,
        check=_tiny_nucleus,
    ),
    Exhibit(
        name="A token of no probability",
        threads=("pytorch/pytorch#4858",),
        fault="The draw finds the first token whose cumulative sum is not below it, also at 0.",
        looks="Shares of a million draws are right; an excluded token comes once in many.",
        faulty=_draw_up_to,
        sound=_draw,
        plausible=_plausible_draw,
        check=_draw_at_the_ends,
    ),
    Exhibit(
        name="Halves of characters",
        threads=("mlc-ai/mlc-llm#804", "mlc-ai/mlc-llm#1142"),
        fault="Each token is decoded alone, though a character may take several.",
        looks="English arrives whole; an emoji becomes a row of replacement marks.",
        faulty=_each_token_alone,
        sound=lambda tokens: list(decode_stream(_Bytes(), tokens)),
        plausible=_plausible_stream,
        check=_stream_of_characters,
    ),
]
