"""Answers of students that a check could misjudge: right ones refused, wrong ones, wrong blame."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.teaching.exercises import evaluate

Edits = list[tuple[int, int, int]]


def takes_the_edits(place: int, edits: Edits, sign: int = -1) -> int:
    shift = 0
    while edits:
        start, stop, length = edits.pop(0)
        if place < start + shift:
            break
        if place < start + shift + length:
            return start
        shift += length - (stop - start)
    return place + sign * shift


def by_beginnings(place: int, edits: Edits) -> int:
    shift = 0
    for start, stop, length in edits:
        if place <= start + shift:
            return place - shift
        if place < start + shift + length:
            return start
        shift += length - (stop - start)
    return place - shift


def by_a_map(place: int, edits: Edits) -> int:
    """Give every character of the new text its place: a deleted stretch then maps to its stop."""
    places: list[int] = []
    old = 0
    for start, stop, length in edits:
        places += [*range(old, start), *[start] * length]
        old = stop
    return places[place] if place < len(places) else old + place - len(places)


def removes_what_is_too_large(
    sizes: dict[int, float], layers: float, d: int, tied: bool = True, budget: float | None = None
) -> int | None:
    for size in list(sizes):
        if budget is not None and layers + (1 if tied else 2) * d * size > budget:
            del sizes[size]
    return min(sizes, key=lambda size: (layers + d * size) * sizes[size], default=None)


def only_the_list_works(sizes: dict[int, float], layers: float, d: int, **_: Any) -> int:
    return min(sizes, key=lambda size: d * size * sizes[size])


def half_turns(frequencies: Tensor, factor: float, trained: int) -> Tensor:
    kept = ((trained * frequencies / math.pi - 1) / 31).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / factor


def gradient_at_x(grad_y: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x.clone()


def complex_taps(factors: Tensor, weights: Tensor, length: int) -> Tensor:
    return 2 * (weights @ factors[:, None] ** torch.arange(length))


def q4_0_array(blocks: np.ndarray) -> np.ndarray:
    d = blocks[:, :2].copy().view("<f2").astype(np.float64)
    return d * (np.hstack([blocks[:, 2:] % 16, blocks[:, 2:] // 16]).astype(np.float64) - 8)


def exposures_in_float32(losses: Tensor, others: Tensor) -> Tensor:
    rank = 1 + (others <= losses[:, None]).sum(dim=1)
    return torch.log2((others.shape[1] + 1) / rank.float())


def cut_as_a_list(word: str, scores: dict[str, float]) -> list[Any]:
    best: list[Any] = [[[], 0.0]]
    for end in range(1, len(word) + 1):
        ways = [
            [[*best[start][0], word[start:end]], best[start][1] + scores[word[start:end]]]
            for start in range(end)
            if word[start:end] in scores and best[start]
        ]
        best.append(max(ways, key=lambda way: way[1], default=None))
    return best[-1]


def reweighed_in_a_loop(weights: Tensor, proxy: Tensor, reference: Tensor, domains: Tensor) -> Any:
    raised = []
    for domain, weight in enumerate(weights.tolist()):
        lags = [
            max(a - b, 0)
            for a, b in zip(proxy[domains == domain], reference[domains == domain], strict=True)
        ]
        raised.append(weight * math.exp(sum(lags) / len(lags) if lags else 0))
    return [0.999 * x / sum(raised) + 0.001 / len(raised) for x in raised]


def width_by_searching(d_model: int, multiple: int) -> float:
    width = float(multiple)
    while 3 * d_model * width < 8 * d_model * d_model:
        width += multiple
    return width


def masked_and_renormalized(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Any:
    weights = (queries @ keys.mT / queries.shape[-1] ** 0.5).softmax(dim=-1)
    weights = weights * (torch.arange(keys.shape[1]) < lengths[:, None])[:, None]
    return (weights / weights.sum(dim=-1, keepdim=True)) @ values


def online(queries: Tensor, keys: Tensor, values: Tensor, block: int, first: float) -> Tensor:
    m = torch.full((len(queries),), first)
    total, mixed = torch.zeros(len(queries)), torch.zeros(len(queries), values.shape[1])
    for k, v in zip(keys.split(block), values.split(block), strict=True):
        s = queries @ k.T / math.sqrt(k.shape[1])
        new = torch.maximum(m, s.max(dim=1).values)
        p = (s - new[:, None]).exp()
        total = total * (m - new).exp() + p.sum(dim=1)
        mixed = mixed * (m - new).exp()[:, None] + p @ v
        m = new
    return mixed / total[:, None]


def window_by_place(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    rows = torch.arange(len(keys) - len(queries), len(keys))[:, None]
    columns = torch.arange(len(keys))
    return (columns <= rows) & ((columns > rows - window) | (keys < n_sinks))


def padded_with(fill: float) -> Callable[..., Any]:
    def attend(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
        scores = queries @ keys.mT / queries.shape[-1] ** 0.5
        padding = torch.arange(keys.shape[1]) >= lengths[:, None]
        return scores.masked_fill(padding[:, None], fill).softmax(dim=-1) @ values

    return attend


def joined_by(text: str) -> Callable[[str, str, int], float]:
    def similarity(a: str, b: str, n: int) -> float:
        first, second = (
            {text.join(words[i : i + n]) for i in range(len(words) - n + 1)}
            for words in (a.split(), b.split())
        )
        return len(first & second) / len(first | second)

    return similarity


def norm_by_torch(grad_y: Tensor, x: Tensor, weight: Tensor, eps: float) -> Any:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = weight * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    y.backward(grad_y)
    return x.grad, weight.grad


def swiglu_by_func(grad_y: Tensor, gate: Tensor, values: Tensor) -> Any:
    return torch.func.vjp(lambda g, u: F.silu(g) * u, gate, values)[1](grad_y)


def flops(shape: dict[str, Any], length: int, keys: float, width: str = "heads") -> float:
    d, layers = shape["d_model"], shape["n_layers"]
    heads = shape["n_heads"] * shape["head_dim"] if width == "heads" else d
    qkv = heads + 2 * shape["n_kv_heads"] * shape["head_dim"]
    matrices = d * (qkv + heads + (3 if shape["gated"] else 2) * shape["d_ff"])
    return 6 * (layers * matrices + shape["vocab_size"] * d) + 12 * layers * heads * keys


def balance(probabilities: Tensor, experts: Tensor, factor: Callable[..., Any]) -> Tensor:
    n_experts = probabilities.shape[-1]
    shares = torch.bincount(experts.flatten(), minlength=n_experts) / experts.numel()
    return factor(probabilities, experts) * (shares * probabilities.mean(dim=0)).sum()


def most_common_of_apart(words: list[str], n: int) -> float:
    """Count occurrences that do not overlap, as `str.count` does."""
    text = "".join(f"<{word}>" for word in words)
    grams = {"".join(f"<{w}>" for w in words[i : i + n]) for i in range(len(words) - n + 1)}
    count, gram = max(((text.count(gram), gram) for gram in grams), default=(0, ""))
    return (
        count * len(gram.replace("<", "").replace(">", "")) / len("".join(words))
        if count > 1
        else 0
    )


def looks_up_texts(lines: list[str]) -> list[str]:
    holds: dict[str, Any] = {}
    said = []
    for line in lines:
        name, operator, right = line.split()
        value = holds.get(right.strip("'"), right.strip("'"))
        if operator != "=":
            value = int(holds[name]) + (1 if operator == "+=" else -1) * int(value)
        holds[name] = str(value)
        said.append(holds[name])
    return said


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("place_before", by_a_map),
        ("decode_q4_0", q4_0_array),
        ("exposures", exposures_in_float32),
        ("talk_after", lambda n, asks, talks: (n * asks * talks).sum() / (n * asks).sum()),
        ("best_cut", cut_as_a_list),
        ("reweigh", reweighed_in_a_loop),
        ("matched_width", width_by_searching),
        ("matched_width", lambda d, n: math.ceil(8 * d / 3 / n) * n),
        ("cross_attention", masked_and_renormalized),
        ("cross_attention", padded_with(-1e9)),
        ("online_softmax_attention", partial(online, first=-math.inf)),
        ("online_softmax_attention", partial(online, first=torch.finfo(torch.float32).min)),
        ("shingle_jaccard", joined_by(" ")),
        ("flops_per_token", lambda shape, length: flops(shape, length, (length + 1) / 2)),
        (
            "kept_tokens",
            lambda n, s, w: (
                [[*range(s), *range(s, n)][:n]] * 2
                if n <= s + w
                else ([*range(s), *range(n - w, n)], range(s + w))
            ),
        ),
    ],
)
def test_a_right_answer_passes(name: str, answer: Callable[..., Any]) -> None:
    outcome = evaluate(name, answer)
    assert outcome.status == "passed", outcome.message


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("place_before", takes_the_edits, "changes its argument 2 in place"),
        (
            "place_before",
            lambda place, edits: takes_the_edits(place, list(edits), sign=1),
            "the shift has the wrong sign",
        ),
        ("place_before", by_beginnings, "nothing stands for what was deleted"),
        ("online_softmax_attention", partial(online, first=0.0), "must start at -inf"),
        ("window_with_sinks", window_by_place, "positions in the text"),
        ("cross_attention", padded_with(-100), "a masked score must be -inf"),
        ("cross_attention", padded_with(-1e4), "a masked score must be -inf"),
        ("shingle_jaccard", joined_by(""), "keep tuples, or join words by a space"),
        ("shingle_jaccard", joined_by("-"), "is right, yours is"),
        ("rms_norm_backward", norm_by_torch, "torch differentiated for you"),
        ("swiglu_backward", swiglu_by_func, "torch differentiated for you"),
        (
            "flops_per_token",
            lambda shape, length: flops(shape, length, (length - 1) / 2),
            "not (T - 1) / 2",
        ),
        ("flops_per_token", lambda shape, n: flops(shape, n, n / 2), "not T / 2"),
        (
            "flops_per_token",
            lambda shape, n: flops(shape, n, (n + 1) / 2, width="d_model"),
            "need not be `d_model`",
        ),
        ("balance_loss", partial(balance, factor=lambda p, e: e.shape[-1]), "you took k"),
        ("balance_loss", partial(balance, factor=lambda p, e: e.max() + 1), "were chosen"),
        ("balance_loss", partial(balance, factor=lambda p, e: 1), "the factor E is missing"),
        ("top_gram_share", most_common_of_apart, "you went on behind each one"),
        ("trace_program", looks_up_texts, "a text in quotation marks is a text"),
        ("matched_width", lambda d, n: n * round(8 * d / (3 * n) + 0.5), "is right, yours is"),
        (
            "reweigh",
            lambda w, p, r, d: (
                reweighed_in_a_loop(w, p, r, d) if len(set(d.tolist())) == len(w) else w * math.nan
            ),
            "0 / 0 is no number",
        ),
        ("best_vocabulary", removes_what_is_too_large, "changes its argument 1 in place"),
        ("best_vocabulary", only_the_list_works, "layers work on every token of a byte"),
        ("matched_width", lambda d, n: round(8 * d / 3 / n) * n, "rounded down"),
        ("pareto_keep", lambda s, u, a: (1 - u) ** (1 / a) - 1 > 1 - s, "True is right, yours"),
        ("interpolate_by_parts", half_turns, "values differ"),
        ("rms_norm_backward", gradient_at_x, "a tuple is expected, yours is a tensor"),
        ("state_space_kernel", complex_taps, "`.real` leaves the imaginary part out"),
    ],
)
def test_a_wrong_answer_gets_its_own_diagnosis(
    name: str, answer: Callable[..., Any], message: str
) -> None:
    outcome = evaluate(name, answer)
    assert outcome.status == "wrong", outcome
    assert message in outcome.message
