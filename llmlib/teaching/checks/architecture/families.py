"""Checks of the exercises of chapters/04_architecture/06_families_and_objectives.ipynb."""

import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "04_architecture/06_families_and_objectives"

# The mask of a prefix decoder


def _prefix_mask(n_tokens: int, prefix_length: int) -> Tensor:
    places = torch.arange(n_tokens)
    return (places <= places[:, None]) | (places < prefix_length)


def _prefix_sees_all(n_tokens: int, prefix_length: int) -> Tensor:
    places = torch.arange(n_tokens)
    return (places <= places[:, None]) | (places[:, None] < prefix_length)


def _one_too_long(n_tokens: int, prefix_length: int) -> Tensor:
    places = torch.arange(n_tokens)
    return (places <= places[:, None]) | (places <= prefix_length)


def _prefix_only(n_tokens: int, prefix_length: int) -> Tensor:
    places = torch.arange(n_tokens)
    return (places == places[:, None]) | (places < prefix_length)


masks = Exercise(
    "prefix_mask",
    title="who sees whom in a prefix decoder",
    reference=_prefix_mask,
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
        (
            "this is the causal mask: the prefix's tokens must see each other, both ways"
        ): lambda n_tokens, prefix_length: torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril(),
        (
            "this is the encoder's mask: behind the prefix no token may see a later one"
        ): lambda n_tokens, prefix_length: torch.ones(n_tokens, n_tokens, dtype=torch.bool),
        (
            "the prefix's tokens see the text behind them: it is what they help to predict"
        ): _prefix_sees_all,
        "your prefix is one token too long: it is the places 0 to prefix_length - 1": _one_too_long,
        (
            "rows are queries and columns are keys: your mask is transposed"
        ): lambda n_tokens, prefix_length: _prefix_mask(n_tokens, prefix_length).T,
        (
            "the prefix is right, but the tokens behind it see each other only through it"
        ): _prefix_only,
    },
)


# Cross-attention with padding


def _cross_attention(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    is_text = torch.arange(keys.shape[1]) < lengths[:, None]
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=is_text[:, None])


def _two_texts(
    *lengths: int, n_queries: int = 4, n_keys: int = 6
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n_keys)
    sizes = ((n_queries, 8), (n_keys, 8), (n_keys, 5))
    tensors = (torch.randn(len(lengths), *size, generator=generator) for size in sizes)
    queries, keys, values = tensors
    return queries, keys, values, torch.tensor(lengths)


def _causal_cross(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    is_text = torch.arange(keys.shape[1]) < lengths[:, None]
    seen = torch.ones(queries.shape[1], keys.shape[1], dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=is_text[:, None] & seen)


def _masked_after(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    is_text = torch.arange(keys.shape[1]) < lengths[:, None]
    weights = (queries @ keys.mT / queries.shape[-1] ** 0.5).softmax(dim=-1)
    return (weights * is_text[:, None]) @ values


def _zeroed_keys(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    is_text = torch.arange(keys.shape[1]) < lengths[:, None]
    return F.scaled_dot_product_attention(queries, keys * is_text[..., None], values)


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
        "one text without padding": args(*_two_texts(6)),
        "as many queries as keys": args(*_two_texts(6, 6, n_queries=6)),
        "three texts of 6, 2 and 1 tokens": args(*_two_texts(6, 2, 1)),
    },
    mistakes={
        (
            "the padding is seen: a key counts only at places below its text's length"
        ): lambda queries, keys, values, lengths: F.scaled_dot_product_attention(
            queries, keys, values
        ),
        (
            "there is no causal mask here: the encoded text is complete before decoding starts"
        ): _causal_cross,
        "the scores are not divided by the root of the width K": lambda queries, keys, values, lengths: (
            _cross_attention(queries * queries.shape[-1] ** 0.5, keys, values, lengths)
        ),
        (
            "you zeroed the weights of the padding after the softmax: the rest sums to "
            "less than 1. Mask the scores instead"
        ): _masked_after,
        "a masked score of 0 still counts, since exp(0) is 1: it has to be -inf": _zeroed_keys,
    },
)
