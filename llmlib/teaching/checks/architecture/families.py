"""Checks of the exercises of chapters/04_architecture/06_families_and_objectives.ipynb."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attend

from llmlib.core.batch import IGNORE
from llmlib.teaching.authoring import Exercise, args, normal

NOTEBOOK = "04_architecture/06_families_and_objectives"

# The mask of a prefix decoder


def _mask(n_tokens: int, prefix_length: int) -> Tensor:
    places = torch.arange(n_tokens)
    return (places <= places[:, None]) | (places < prefix_length)


masks = Exercise(
    "prefix_mask",
    title="who sees whom in a prefix decoder",
    reference=_mask,
    hints=(
        "Start from the causal mask, and ask which squares turn from False to True.",
        "Every token sees the whole prefix; the prefix sees nothing of what follows it.",
        "`causal | (keys < prefix_length)`, with `keys = torch.arange(n_tokens)` along the rows.",
    ),
    cases={
        "6 tokens, a prefix of 3": args(6, 3),
        "a prefix of 1, which changes nothing": args(5, 1),
        "a prefix of all tokens": args(4, 4),
        "no prefix": args(4, 0),
    },
    mistakes={
        "this is the causal mask: the prefix must see itself both ways": lambda n, p: _mask(n, 0),
        "this is the encoder's mask: behind the prefix it must be causal": lambda n, p: _mask(n, n),
        "the prefix's tokens see the text behind them: it is what they help to predict": (
            lambda n, p: _mask(n, 0) | (torch.arange(n)[:, None] < p)
        ),
        "your prefix is one too long: places 0 to prefix_length - 1": lambda n, p: _mask(n, p + 1),
        "rows are queries, columns keys: yours is transposed": lambda n, p: _mask(n, p).T,
        "the prefix is right, but the tokens behind it see each other only through it": (
            lambda n, p: torch.eye(n, dtype=torch.bool) | (torch.arange(n) < p)
        ),
    },
)


# Cross-attention with padding


def _is_text(keys: Tensor, lengths: Tensor) -> Tensor:
    return (torch.arange(keys.shape[1]) < lengths[:, None]).unsqueeze(1)  # [B, 1, S]


def _cross_attention(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    return attend(queries, keys, values, attn_mask=_is_text(keys, lengths))


def _texts(*lengths: int, n_queries: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(6)
    sizes = ((n_queries, 8), (6, 8), (6, 5))
    tensors = [torch.randn(len(lengths), *size, generator=generator) for size in sizes]
    return [*tensors, torch.tensor(lengths)]


def _far_below() -> list[Tensor]:
    """Two texts of 3 and 2 tokens whose scores, the padding's too, are -20,000 and less."""
    queries, keys = torch.zeros(2, 4, 4), torch.zeros(2, 5, 4)
    queries[..., 0] = -2
    keys[..., 0] = 20_000 + torch.tensor([[0.0, 1, 2, 1, 0], [3, 1, 0, 2, 1]])
    return [queries, keys, normal(2, 5, 3), torch.tensor([3, 2])]


def _small_number(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    scores = queries @ keys.mT / queries.shape[-1] ** 0.5
    return scores.masked_fill(~_is_text(keys, lengths), -100).softmax(dim=-1) @ values


def _causal_too(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    seen = torch.ones(queries.shape[1], keys.shape[1], dtype=torch.bool).tril()
    return attend(queries, keys, values, attn_mask=_is_text(keys, lengths) & seen)


def _masked_after(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    weights = (queries @ keys.mT / queries.shape[-1] ** 0.5).softmax(dim=-1)
    return (weights * _is_text(keys, lengths)) @ values


cross = Exercise(
    "cross_attention",
    title="a decoder looks at an encoded text that is padded",
    points=3,
    reference=_cross_attention,
    hints=(
        "Every query may see every key of its own text: there is no order between the two texts.",
        "Only the padding must not be seen: `torch.arange(S) < lengths[:, None]` is [B, S].",
        "Scores [B, T, S] over the root of K, -inf where the key is padding, softmax, values.",
    ),
    cases={
        "one text without padding": args(*_texts(6)),
        "as many queries as keys": args(*_texts(6, 6, n_queries=6)),
        "three texts of 6, 2 and 1 tokens": args(*_texts(6, 2, 1)),
        "scores of -20,000 and less": args(*_far_below()),
    },
    mistakes={
        "the padding is seen: "
        "a key counts only at places below its text's length": lambda q, k, v, n: attend(q, k, v),
        "there is no causal mask here: the encoded text is complete before decoding": _causal_too,
        "the scores are not divided by the root of the width K": (
            lambda q, k, v, n: _cross_attention(q * q.shape[-1] ** 0.5, k, v, n)
        ),
        "you zeroed the weights of the padding after the softmax: "
        "the rest sums to less than 1. Mask the scores instead": _masked_after,
        "a masked score must be -inf: here the others lie below your number": _small_number,
        "a masked score of 0 still counts, since exp(0) is 1: "
        "it has to be -inf": lambda q, k, v, n: attend(q, k * _is_text(k, n).mT, v),
    },
)


# The targets of a prefix language model


def _prefix_targets(tokens: Tensor, prefix_lengths: Tensor) -> Tensor:
    in_prefix = torch.arange(1, tokens.shape[1]) < prefix_lengths[:, None]
    return tokens[:, 1:].masked_fill(in_prefix, IGNORE)


def _tokens(rows: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(rows * length + 3, generator=generator)[: rows * length].view(rows, -1)


def _not_shifted(tokens: Tensor, prefix_lengths: Tensor) -> Tensor:
    in_prefix = torch.arange(tokens.shape[1] - 1) < prefix_lengths[:, None]
    return tokens[:, :-1].masked_fill(in_prefix, IGNORE)


targets = Exercise(
    "prefix_targets",
    title="which tokens a prefix language model must predict",
    points=2,
    reference=_prefix_targets,
    hints=(
        "First without a prefix: the target at place t is token t + 1, so there is one less.",
        "The target at place t counts if token t + 1 is not in the prefix: t + 1 >= P.",
        "`tokens[:, 1:].masked_fill(torch.arange(1, T + 1) < prefix_lengths[:, None], -100)`.",
    ),
    cases={
        "one text of 6 tokens, a prefix of 3": args(_tokens(1, 6), torch.tensor([3])),
        "three texts, each with a prefix of its own": args(_tokens(3, 7), torch.tensor([2, 6, 4])),
        "a prefix of 1: a language model": args(_tokens(2, 5), torch.tensor([1, 1])),
        "no prefix, and one that is the whole text": args(_tokens(2, 5), torch.tensor([0, 5])),
    },
    mistakes={
        "nothing is ignored: the targets whose token is in the prefix "
        "do not count": lambda tokens, lengths: tokens[:, 1:].clone(),
        "the last token of the prefix predicts the first one behind it, and that one must count: "
        "your mask is one place too long": lambda tokens, n: _prefix_targets(tokens, n + 1),
        "the target at place t is token t + 1; yours are the inputs themselves": _not_shifted,
        "you ignore what comes behind the prefix, and count what is in it": (
            lambda tokens, n: tokens[:, 1:].where(_prefix_targets(tokens, n) == IGNORE, IGNORE)
        ),
        "0 is a token like any other: what does not count is marked with -100": (
            lambda tokens, n: _prefix_targets(tokens, n).clamp_min(0)
        ),
        "every text has its own prefix: compare with `prefix_lengths[:, None]`": (
            lambda tokens, n: _prefix_targets(tokens, n[:1].expand(len(tokens)))
        ),
    },
)


# Span corruption

Lists = tuple[list[int], list[int]]


def _cut_spans(tokens: list[int], cut: list[bool], first_sentinel: int) -> Lists:
    inputs: list[int] = []
    said: list[int] = []
    sentinel = first_sentinel - 1
    for place, (token, is_cut) in enumerate(zip(tokens, cut, strict=True)):
        if not is_cut:
            inputs.append(token)
            continue
        if place == 0 or not cut[place - 1]:
            sentinel += 1
            inputs.append(sentinel)
            said.append(sentinel)
        said.append(token)
    return inputs, [*said, sentinel + 1]


def _example(*cut: int) -> tuple[list[int], list[bool], int]:
    return list(range(20, 29)), [place in cut for place in range(9)], 100


def _one_each(tokens: list[int], cut: list[bool], first_sentinel: int) -> Lists:
    inputs, said, sentinel = [], [], first_sentinel
    for token, is_cut in zip(tokens, cut, strict=True):
        inputs.append(sentinel if is_cut else token)
        if is_cut:
            said += [sentinel, token]
            sentinel += 1
    return inputs, [*said, sentinel]


def _same_sentinel(tokens: list[int], cut: list[bool], first: int) -> Lists:
    inputs, said = _cut_spans(tokens, cut, first)
    return [min(x, first) for x in inputs], [*(min(x, first) for x in said[:-1]), said[-1]]


def _no_end(tokens: list[int], cut: list[bool], first: int) -> Lists:
    inputs, said = _cut_spans(tokens, cut, first)
    return inputs, said[:-1]


def _no_hole(tokens: list[int], cut: list[bool], first: int) -> Lists:
    inputs, said = _cut_spans(tokens, cut, first)
    return [x for x in inputs if x < first], said


def _spans_alone(tokens: list[int], cut: list[bool], first: int) -> Lists:
    inputs, said = _cut_spans(tokens, cut, first)
    return inputs, [*(x for x in said[:-1] if x < first), said[-1]]


spans = Exercise(
    "cut_spans",
    title="a text with holes, and what was in them",
    points=3,
    reference=_cut_spans,
    hints=(
        "Go through the text once. A kept token goes to the inputs, a cut one to the targets.",
        "A span begins where a token is cut and the one before it is not: a new sentinel there.",
        "The sentinel goes to both lists. At the end the targets get one more, which closes them.",
    ),
    cases={
        "9 tokens, one span of 2": args(*_example(3, 4)),
        "two spans": args(*_example(1, 2, 3, 6)),
        "spans at both ends": args(*_example(0, 1, 4, 7, 8)),
        "nothing cut out": args(*_example()),
        "everything cut out": args(*_example(*range(9))),
        "one token over and over": args([7, 7, 3, 7, 7], [False, True, False, True, False], 50),
    },
    mistakes={
        "you put a sentinel for each token: neighbors that are cut out share one": _one_each,
        "every span needs its own sentinel, or no one knows which hole it fills": _same_sentinel,
        "the targets lack their end: one more sentinel behind the last span": _no_end,
        "the inputs show no hole: the span's sentinel must stand in its place there": _no_hole,
        "in the targets each span stands behind its sentinel; yours has spans alone": _spans_alone,
    },
)
