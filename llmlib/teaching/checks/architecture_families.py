"""Checks of the exercises of chapters/04_architecture/06_families_and_objectives.ipynb."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.teaching.authoring import Exercise

# The mask of a prefix decoder


def _prefix_mask(n_tokens: int, prefix_length: int) -> Tensor:
    places = torch.arange(n_tokens)
    return (places <= places[:, None]) | (places < prefix_length)


masks = Exercise(
    "prefix_mask",
    chapter="04_architecture",
    notebook="06_families_and_objectives",
    title="who sees whom in a prefix decoder",
    reference=_prefix_mask,
    hints=(
        "Start from the causal mask, and ask which squares turn from False to True.",
        "Every token sees the whole prefix; the prefix sees nothing of what follows it.",
        "`causal | (keys < prefix_length)`, with `keys = torch.arange(n_tokens)` along the rows.",
    ),
)


@masks.check("6 tokens, a prefix of 3")
def _(answer: Any) -> None:
    masks.agree(answer, 6, 3)


@masks.check("a prefix of 1, which changes nothing")
def _(answer: Any) -> None:
    masks.agree(answer, 5, 1)


@masks.check("a prefix of all tokens")
def _(answer: Any) -> None:
    masks.agree(answer, 4, 4)


@masks.check("no prefix")
def _(answer: Any) -> None:
    masks.agree(answer, 4, 0)


@masks.mistake("this is the causal mask: the prefix's tokens must see each other, both ways")
def _causal(n_tokens: int, prefix_length: int) -> Tensor:
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()


@masks.mistake("this is the encoder's mask: behind the prefix no token may see a later one")
def _bidirectional(n_tokens: int, prefix_length: int) -> Tensor:
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool)


@masks.mistake("the prefix's tokens see the text behind them: it is what they help to predict")
def _prefix_sees_all(n_tokens: int, prefix_length: int) -> Tensor:
    places = torch.arange(n_tokens)
    return (places <= places[:, None]) | (places[:, None] < prefix_length)


@masks.mistake("your prefix is one token too long: it is the places 0 to prefix_length - 1")
def _one_too_long(n_tokens: int, prefix_length: int) -> Tensor:
    places = torch.arange(n_tokens)
    return (places <= places[:, None]) | (places <= prefix_length)


@masks.mistake("rows are queries and columns are keys: your mask is transposed")
def _transposed(n_tokens: int, prefix_length: int) -> Tensor:
    return _prefix_mask(n_tokens, prefix_length).T


@masks.mistake("the prefix is right, but the tokens behind it see each other only through it")
def _prefix_only(n_tokens: int, prefix_length: int) -> Tensor:
    places = torch.arange(n_tokens)
    return (places == places[:, None]) | (places < prefix_length)


# Cross-attention with padding


def _cross_attention(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    is_text = torch.arange(keys.shape[1]) < lengths[:, None]
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=is_text[:, None])


cross = Exercise(
    "cross_attention",
    chapter="04_architecture",
    notebook="06_families_and_objectives",
    title="a decoder looks at an encoded text that is padded",
    points=3,
    reference=_cross_attention,
    hints=(
        "Every query may see every key of its own text: there is no order between the two texts.",
        "Only the padding must not be seen: `torch.arange(S) < lengths[:, None]` is [B, S].",
        "Scores [B, T, S] over the root of K, -inf where the key is padding, softmax, values.",
    ),
)


def _two_texts(
    *lengths: int, n_queries: int = 4, n_keys: int = 6
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n_keys)
    sizes = ((n_queries, 8), (n_keys, 8), (n_keys, 5))
    tensors = (torch.randn(len(lengths), *size, generator=generator) for size in sizes)
    queries, keys, values = tensors
    return queries, keys, values, torch.tensor(lengths)


@cross.check("one text without padding")
def _(answer: Any) -> None:
    cross.agree(answer, *_two_texts(6))


@cross.check("as many queries as keys")
def _(answer: Any) -> None:
    cross.agree(answer, *_two_texts(6, 6, n_queries=6))


@cross.check("three texts of 6, 2 and 1 tokens")
def _(answer: Any) -> None:
    cross.agree(answer, *_two_texts(6, 2, 1))


@cross.mistake("the padding is seen: a key counts only at places below its text's length")
def _no_padding(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(queries, keys, values)


@cross.mistake("there is no causal mask here: the encoded text is complete before decoding starts")
def _causal_cross(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    is_text = torch.arange(keys.shape[1]) < lengths[:, None]
    seen = torch.ones(queries.shape[1], keys.shape[1], dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=is_text[:, None] & seen)


@cross.mistake("the scores are not divided by the root of the width K")
def _not_scaled(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    return _cross_attention(queries * queries.shape[-1] ** 0.5, keys, values, lengths)


@cross.mistake("you zeroed the weights of the padding after the softmax: the rest sums to less "
               "than 1. Mask the scores instead")  # fmt: skip
def _masked_after(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    is_text = torch.arange(keys.shape[1]) < lengths[:, None]
    weights = (queries @ keys.mT / queries.shape[-1] ** 0.5).softmax(dim=-1)
    return (weights * is_text[:, None]) @ values


@cross.mistake("a masked score of 0 still counts, since exp(0) is 1: it has to be -inf")
def _zeroed_keys(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    is_text = torch.arange(keys.shape[1]) < lengths[:, None]
    return F.scaled_dot_product_attention(queries, keys * is_text[..., None], values)
