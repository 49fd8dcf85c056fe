"""Checks of the exercises of chapters/04_architecture/06_families_and_objectives.ipynb."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attend

from llmlib.teaching.authoring import Exercise, args

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
        "a masked score of 0 still counts, since exp(0) is 1: "
        "it has to be -inf": lambda q, k, v, n: attend(q, k * _is_text(k, n).mT, v),
    },
)
