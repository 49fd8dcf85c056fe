"""Checks of the exercises of chapters/04_architecture/08_beyond_attention.ipynb."""

import math
from functools import partial

import torch
from torch import Tensor

from llmlib.architecture.recurrent.convolution import causal_convolution
from llmlib.architecture.recurrent.retnet import chunked_retention
from llmlib.architecture.recurrent.s4 import ssm_kernel
from llmlib.teaching.answers.measured import peak_bytes
from llmlib.teaching.authoring import Exercise, args, expect, normal, uniform

NOTEBOOK = "04_architecture/08_beyond_attention"

# The kernel of a state space


def _state_space_kernel(factors: Tensor, weights: Tensor, length: int) -> Tensor:
    return ssm_kernel(factors.log()[None], weights[None], length)[0]


def _powers(factors: Tensor, *span: int) -> Tensor:
    return factors[:, None] ** torch.arange(*span)


_POLES = torch.polar(0.65 + 0.3 * uniform(3), 0.2 + 2 * uniform(3, seed=1))

kernel = Exercise(
    "state_space_kernel",
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
    cases={
        "one real factor, 4 taps": args(torch.tensor([0.7 + 0j]), torch.tensor([0.5 + 0j]), 4),
        "three complex factors, 9 taps": args(
            _POLES, torch.complex(normal(3, seed=5), normal(3, seed=6)), 9
        ),
    },
    mistakes={
        "tap 0 is the weight itself, the factor to the power 0; "
        "yours begin at power 1": lambda a, w, n: 2 * (w @ _powers(a, 1, n + 1)).real,
        "half of the states are missing: add each state's conjugate, "
        "twice the real part": lambda a, w, n: (w @ _powers(a, n)).real,
        "you took real parts before multiplying; the product's real part needs both parts": (
            lambda a, w, n: 2 * w.real @ _powers(a, n).real
        ),
        "your kernel runs backwards in time: tap 0 belongs to the newest token": (
            lambda *inputs: _state_space_kernel(*inputs).flip(-1)
        ),
    },
)


# A long convolution


def _fft(x: Tensor, kernel: Tensor, n: int) -> Tensor:
    return torch.fft.irfft(torch.fft.rfft(x, n=n) * torch.fft.rfft(kernel, n=n), n=n)


def _correlated(x: Tensor, kernel: Tensor) -> Tensor:
    n = 2 * x.shape[-1]
    product = torch.fft.rfft(x, n=n) * torch.fft.rfft(kernel, n=n).conj()
    return torch.fft.irfft(product, n=n)[..., : x.shape[-1]]


long = Exercise(
    "long_convolution",
    title="a causal convolution by the FFT",
    points=2,
    reference=causal_convolution,
    atol=1e-4,
    rtol=1e-4,
    hints=(
        "The FFT's convolution goes round in a circle: what runs out at the end comes in again at "
        "the start, and the first tokens see the last ones.",
        "With as many zeros behind the signal as it is long, only zeros go round.",
        "`n = 2 * T`; `torch.fft.irfft(torch.fft.rfft(x, n=n) * torch.fft.rfft(kernel, n=n), n=n)`"
        " and of that the first T.",
    ),
    cases={
        "4 tokens by hand: 1, 0, 2, 4 with the taps 1, 1/2, 1/4, 1/8": args(
            torch.tensor([1.0, 0, 2, 4]), torch.tensor([1.0, 0.5, 0.25, 0.125])
        ),
        "an odd number of tokens, 3 kernels": args(normal(3, 37), normal(3, 37, seed=1)),
    },
    mistakes={
        "the first tokens see the last ones: "
        "pad with zeros to twice the length (n=2 * T)": lambda x, k: _fft(x, k, x.shape[-1]),
        "the padding is right; the first T outputs are the causal ones, you took the last": (
            lambda x, k: _fft(x, k, 2 * x.shape[-1])[..., x.shape[-1] :]
        ),
        "the padding is right; keep the first T outputs": lambda x, k: _fft(x, k, 2 * x.shape[-1]),
        "this is the correlation: do not conjugate or flip the kernel": _correlated,
    },
)


# Retention in chunks


def _retention_in_chunks(
    queries: Tensor, keys: Tensor, values: Tensor, decay: float, chunk: int = 4
) -> Tensor:
    q, k, v = (x[None, None] for x in (queries, keys, values))
    return chunked_retention(q, k, v, torch.tensor([decay]), chunk=chunk)[0][0, 0]


def _qkv(n_tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    return normal(n_tokens, 3), normal(n_tokens, 3, seed=1), normal(n_tokens, 2, seed=2)


_LARGE = *_qkv(2003), 0.99, 50


def _chunked(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    decay: float,
    chunk: int = 4,
    *,
    read_age: int = 1,
    faded_by: int | None = None,
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
        faded = decay ** (len(q) if faded_by is None else faded_by) * state
        state = faded + (k * decay ** (len(q) - 1 - j if ages_written else 0 * j)).mT @ v
    return torch.cat(outputs)


def _no_state(
    queries: Tensor, keys: Tensor, values: Tensor, decay: float, chunk: int = 4
) -> Tensor:
    parts = zip(queries.split(chunk), keys.split(chunk), values.split(chunk), strict=True)
    return torch.cat([_retention_in_chunks(q, k, v, decay) for q, k, v in parts])


chunks = Exercise(
    "retention_in_chunks",
    title="retention, a chunk of tokens at a time",
    points=4,
    kind=True,  # NumPy's arrays would not be counted as memory
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
    cases={
        "one chunk": args(*_qkv(4), 0.5, 4),
        "two chunks of 4 tokens": args(*_qkv(8), 0.8, 4),
        "three chunks of 4 tokens": args(*_qkv(12), 0.8, 4),
        "11 tokens in chunks of 4: the last chunk is short": args(*_qkv(11), 0.9, 4),
        "2003 tokens in chunks of 50": args(*_LARGE),
        "memory for 2003 tokens": lambda f: expect(
            peak_bytes(f, *_LARGE) < 2003 * 2003 * 4 / 4,
            "the result is right, but somewhere you made a tensor as large as all T x T pairs; "
            "look at one chunk at a time",
        ),
    },
    mistakes={
        "each chunk stands by itself: carry a state from chunk to chunk": _no_state,
        "token j of a chunk (counted from 0) comes j + 1 tokens after the state was made, so it "
        "reads it faded by decay ** (j + 1); yours is one power off": partial(_chunked, read_age=0),
        "a chunk of C tokens must fade the old state by decay ** C, not by one token's": partial(
            _chunked, faded_by=1
        ),
        "the old state never fades: multiply it by decay ** C at the end of each chunk": partial(
            _chunked, faded_by=0
        ),
        "the tokens of a chunk enter the state with equal weight; token j is C - 1 - j tokens old "
        "by the end of its chunk": partial(_chunked, ages_written=False),
        "the pairs inside a chunk are missing: a token sees itself and its neighbors too": partial(
            _chunked, inside=False
        ),
        "there is no softmax in retention, and no root of K in this exercise": (
            lambda q, *rest: _retention_in_chunks(q / math.sqrt(q.shape[-1]), *rest)
        ),
    },
)
