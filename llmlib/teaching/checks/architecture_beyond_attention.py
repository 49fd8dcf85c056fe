"""Checks of the exercises of chapters/04_architecture/08_beyond_attention.ipynb."""

import math
from typing import Any

import torch
from torch import Tensor

from llmlib.architecture.recurrent import (
    causal_convolution,
    chunked_retention,
    ssm_kernel,
)
from llmlib.teaching.authoring import Exercise, expect, peak_bytes


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# The kernel of a state space


def _state_space_kernel(factors: Tensor, weights: Tensor, length: int) -> Tensor:
    return ssm_kernel(factors.log()[None], weights[None], length)[0]


kernel = Exercise(
    "state_space_kernel",
    chapter="04_architecture",
    notebook="08_beyond_attention",
    title="the convolution that a diagonal recurrence amounts to",
    points=2,
    reference=_state_space_kernel,
    hints=(
        "Send a single 1 through the recurrence: what comes out at step l is the kernel's tap l.",
        "After l steps state n holds factors[n] ** l. The output adds the states, each with its "
        "weight, and each with its conjugate partner: a complex number plus its conjugate is "
        "twice its real part.",
        "`powers = factors[:, None] ** torch.arange(length)`, then `2 * (weights @ powers).real`.",
    ),
)


def _poles(n: int, seed: int = 0) -> Tensor:
    size = torch.rand(n, generator=torch.Generator().manual_seed(seed)) * 0.3 + 0.65
    angle = torch.rand(n, generator=torch.Generator().manual_seed(seed + 1)) * 2 + 0.2
    return torch.polar(size, angle)


def _complex(n: int) -> Tensor:
    return torch.complex(_random(n, seed=5), _random(n, seed=6))


@kernel.check("one real factor, 4 taps")
def _(answer: Any) -> None:
    kernel.agree(answer, torch.tensor([0.7 + 0j]), torch.tensor([0.5 + 0j]), 4)


@kernel.check("three complex factors, 9 taps")
def _(answer: Any) -> None:
    kernel.agree(answer, _poles(3), _complex(3), 9)


@kernel.mistake("tap 0 is the weight itself, the factor to the power 0; yours begin at power 1")
def _from_power_one(factors: Tensor, weights: Tensor, length: int) -> Tensor:
    powers = factors[:, None] ** torch.arange(1, length + 1)
    return 2 * (weights @ powers).real


@kernel.mistake("half of the states are missing: add each state's conjugate, twice the real part")
def _without_conjugates(factors: Tensor, weights: Tensor, length: int) -> Tensor:
    return (weights @ factors[:, None] ** torch.arange(length)).real


@kernel.mistake("you took real parts before multiplying; the product's real part needs both parts")
def _real_too_early(factors: Tensor, weights: Tensor, length: int) -> Tensor:
    powers = factors[:, None] ** torch.arange(length)
    return 2 * weights.real @ powers.real


@kernel.mistake("your kernel runs backwards in time: tap 0 belongs to the newest token")
def _backwards(factors: Tensor, weights: Tensor, length: int) -> Tensor:
    return _state_space_kernel(factors, weights, length).flip(-1)


# A long convolution


def _long_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    return causal_convolution(x, kernel)


long = Exercise(
    "long_convolution",
    chapter="04_architecture",
    notebook="08_beyond_attention",
    title="a causal convolution by the FFT",
    points=2,
    reference=_long_convolution,
    atol=1e-4,
    rtol=1e-4,
    hints=(
        "The FFT's convolution goes round in a circle: what runs out at the end comes in again at "
        "the start, and the first tokens see the last ones.",
        "With as many zeros behind the signal as it is long, only zeros go round.",
        "`n = 2 * T`; `torch.fft.irfft(torch.fft.rfft(x, n=n) * torch.fft.rfft(kernel, n=n), n=n)`"
        " and of that the first T.",
    ),
)


@long.check("4 tokens by hand: 1, 0, 2, 4 with the taps 1, 1/2, 1/4, 1/8")
def _(answer: Any) -> None:
    long.agree(answer, torch.tensor([1.0, 0, 2, 4]), torch.tensor([1.0, 0.5, 0.25, 0.125]))


@long.check("an odd number of tokens, 3 rows with a kernel each")
def _(answer: Any) -> None:
    long.agree(answer, _random(3, 37), _random(3, 37, seed=1))


@long.mistake("the first tokens see the last ones: pad with zeros to twice the length (n=2 * T)")
def _circular(x: Tensor, kernel: Tensor) -> Tensor:
    n = x.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(kernel), n=n)


@long.mistake("the padding is right; the first T outputs are the causal ones, you took the last")
def _last_half(x: Tensor, kernel: Tensor) -> Tensor:
    n, t = 2 * x.shape[-1], x.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(x, n=n) * torch.fft.rfft(kernel, n=n), n=n)[..., t:]


@long.mistake("the padding is right; keep the first T outputs only")
def _not_cut(x: Tensor, kernel: Tensor) -> Tensor:
    n = 2 * x.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(x, n=n) * torch.fft.rfft(kernel, n=n), n=n)


@long.mistake("this is the correlation, which looks ahead: do not conjugate or flip the kernel")
def _correlated(x: Tensor, kernel: Tensor) -> Tensor:
    n, t = 2 * x.shape[-1], x.shape[-1]
    product = torch.fft.rfft(x, n=n) * torch.fft.rfft(kernel, n=n).conj()
    return torch.fft.irfft(product, n=n)[..., :t]


# Retention in chunks


def _retention_in_chunks(
    queries: Tensor, keys: Tensor, values: Tensor, decay: float, chunk: int = 4
) -> Tensor:
    q, k, v = (x[None, None] for x in (queries, keys, values))
    return chunked_retention(q, k, v, torch.tensor([decay]), chunk=chunk)[0][0, 0]


chunks = Exercise(
    "retention_in_chunks",
    chapter="04_architecture",
    notebook="08_beyond_attention",
    title="retention, a chunk of tokens at a time",
    points=4,
    reference=_retention_in_chunks,
    atol=1e-4,
    rtol=1e-4,
    hints=(
        "Two kinds of pairs: both tokens in this chunk, and a token of this chunk with all earlier "
        "ones. The first is the parallel form on the chunk; the second goes through the state.",
        "When token j of a chunk (counted from 0) reads the state, it is j + 1 tokens old.",
        "`output = (q @ k.mT * D) @ v + decay ** (j + 1) * (q @ state)`, then `state = decay ** C "
        "* state + (k * decay ** (C - 1 - j)).mT @ v`, with C the length of this chunk.",
    ),
)


def _qkv(n_tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    sizes = ((n_tokens, 3), (n_tokens, 3), (n_tokens, 2))
    q, k, v = (_random(*size, seed=i) for i, size in enumerate(sizes))
    return q, k, v


@chunks.check("one chunk")
def _(answer: Any) -> None:
    chunks.agree(answer, *_qkv(4), 0.5, 4)


@chunks.check("two chunks of 4 tokens")
def _(answer: Any) -> None:
    chunks.agree(answer, *_qkv(8), 0.8, 4)


@chunks.check("three chunks of 4 tokens")
def _(answer: Any) -> None:
    chunks.agree(answer, *_qkv(12), 0.8, 4)


@chunks.check("11 tokens in chunks of 4: the last chunk is short")
def _(answer: Any) -> None:
    chunks.agree(answer, *_qkv(11), 0.9, 4)


@chunks.check("memory for 2003 tokens")
def _(answer: Any) -> None:
    inputs = _qkv(2003)
    chunks.agree(answer, *inputs, 0.99, 50)
    expect(
        peak_bytes(answer, *inputs, 0.99, 50) < 2003 * 2003 * 4 / 4,
        "the result is right, but somewhere you made a tensor as large as all T x T pairs; look "
        "at one chunk at a time",
    )


def _chunked(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    decay: float,
    chunk: int,
    *,
    read_age: int = 1,
    state_decay: str = "chunk",
    ages_written: bool = True,
    inside: bool = True,
) -> Tensor:
    state = torch.zeros(keys.shape[-1], values.shape[-1])
    outputs = []
    for q, k, v in zip(queries.split(chunk), keys.split(chunk), values.split(chunk), strict=True):
        j = torch.arange(len(q))[:, None]
        ages = (j - j.mT).clamp_min(0)
        pairs = (q @ k.mT * decay**ages).tril() if inside else torch.zeros(len(q), len(q))
        outputs.append(pairs @ v + decay ** (j + read_age) * (q @ state))
        faded = {"chunk": decay ** len(q), "token": decay, "none": 1.0}[state_decay] * state
        state = faded + (k * decay ** (len(q) - 1 - j if ages_written else 0 * j)).mT @ v
    return torch.cat(outputs)


@chunks.mistake("each chunk stands by itself: carry a state from chunk to chunk")
def _no_state(
    queries: Tensor, keys: Tensor, values: Tensor, decay: float, chunk: int = 4
) -> Tensor:
    parts = zip(queries.split(chunk), keys.split(chunk), values.split(chunk), strict=True)
    return torch.cat([_retention_in_chunks(q, k, v, decay) for q, k, v in parts])


@chunks.mistake(
    "token j of a chunk (counted from 0) comes j + 1 tokens after the state was made, so it reads "
    "it faded by decay ** (j + 1); yours is one power off"
)
def _state_too_young(
    queries: Tensor, keys: Tensor, values: Tensor, decay: float, chunk: int = 4
) -> Tensor:
    return _chunked(queries, keys, values, decay, chunk, read_age=0)


@chunks.mistake("a chunk of C tokens must fade the old state by decay ** C, not by one token's")
def _faded_once(
    queries: Tensor, keys: Tensor, values: Tensor, decay: float, chunk: int = 4
) -> Tensor:
    return _chunked(queries, keys, values, decay, chunk, state_decay="token")


@chunks.mistake("the old state never fades: multiply it by decay ** C at the end of each chunk")
def _never_faded(
    queries: Tensor, keys: Tensor, values: Tensor, decay: float, chunk: int = 4
) -> Tensor:
    return _chunked(queries, keys, values, decay, chunk, state_decay="none")


@chunks.mistake(
    "the tokens of a chunk enter the state with equal weight; token j is C - 1 - j tokens old by "
    "the end of its chunk"
)
def _written_without_age(
    queries: Tensor, keys: Tensor, values: Tensor, decay: float, chunk: int = 4
) -> Tensor:
    return _chunked(queries, keys, values, decay, chunk, ages_written=False)


@chunks.mistake("the pairs inside a chunk are missing: a token sees itself and its neighbors too")
def _nothing_inside(
    queries: Tensor, keys: Tensor, values: Tensor, decay: float, chunk: int = 4
) -> Tensor:
    return _chunked(queries, keys, values, decay, chunk, inside=False)


@chunks.mistake("there is no softmax in retention, and no root of K in this exercise")
def _scaled(queries: Tensor, keys: Tensor, values: Tensor, decay: float, chunk: int = 4) -> Tensor:
    root = math.sqrt(queries.shape[-1])
    return _retention_in_chunks(queries / root, keys, values, decay, chunk)
