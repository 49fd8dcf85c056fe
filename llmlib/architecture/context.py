"""Where the tokens of a forward pass stand: their positions, and which of them may see which."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmlib.architecture.attention.sparse_masks import sparse_mask
from llmlib.architecture.caches.base import Cache
from llmlib.architecture.config import ModelConfig

Angles = tuple[Float[Tensor, "#B _ half"], Float[Tensor, "#B _ half"]]
"""Cosine and sine of what RoPE turns each pair of a token's components by."""


@dataclass(frozen=True)
class Layout:
    """How texts lie in the rows that a decoder reads.

    Raises:
        ValueError: When two of its fields exclude each other.
    """

    left_padding: Int[Tensor, " B"] | None = None
    """Number of padding tokens at the start of each row, so that prompts of unequal length end
    together. With a cache, give it to `new_cache` instead."""
    prefix_lengths: Int[Tensor, " B"] | None = None
    """With `mask="prefix"`: how many tokens at the start of each row see each other whole; they
    must be read in one call."""
    documents: Int[Tensor, "B T"] | None = None
    """Number of the text that each token belongs to, where a row holds several: they do not see
    each other, and each one's positions begin at 0. A text's tokens are neighbours."""

    def __post_init__(self) -> None:
        is_whole = self.left_padding is None and self.prefix_lengths is None
        if self.documents is not None and not is_whole:
            raise ValueError("documents go without padding and prefix: pack whole texts")

    @property
    def is_plain(self) -> bool:
        """Whether every row is one text from its first token on."""
        fields = (self.left_padding, self.prefix_lengths, self.documents)
        return all(field is None for field in fields)

    def within(self, config: ModelConfig, cache: Cache | None) -> "Layout":
        """Return the layout of what is read behind a cache, which keeps the padding.

        Raises:
            ValueError: When the model or the cache cannot heed it.
        """
        if self.prefix_lengths is not None and config.mask != "prefix":
            raise ValueError("prefix_lengths needs mask='prefix': replace the configuration's mask")
        if not config.is_attention and not self.is_plain:
            raise ValueError(
                f"mixer={config.mixer!r} carries a state over every token: give it rows of "
                "equal length with one text each, without left_padding or documents"
            )
        if cache is None:
            return self
        if config.mask == "bidirectional":
            raise ValueError("a bidirectional model has no cache: a new token changes the old ones")
        if self.left_padding is not None:
            raise ValueError("give left_padding to new_cache: the cache keeps it")
        if self.documents is not None:
            raise ValueError("documents go without a cache: pack whole texts")
        return Layout(cache.left_padding, self.prefix_lengths)


PLAIN = Layout()
"""One text a row, from its first token on."""


@dataclass(frozen=True)
class Context:
    """What every layer of a forward pass shares."""

    queries: Int[Tensor, "#B T"]
    """Position of each new token in its text."""
    keys: Int[Tensor, "#B S"]
    """Position of each token that may be seen, earlier ones first; negative in padding."""
    angles: Angles | None = None
    """RoPE's for the new tokens."""
    key_angles: Angles | None = None
    """RoPE's for all keys, where these come before rotation."""
    window_angles: Angles | None = None
    """RoPE's for the largest relative position of `rerope`."""
    mask: Tensor | None = None
    """For layers with full attention: True where a query may see a key, or a number to add to the
    score. None where the fused kernel needs no mask."""
    local: Tensor | None = None
    """The same for layers with a sparse pattern."""
    is_causal: bool = True
    """Without a mask: whether a token sees only itself and what came before."""

    def layer_mask(self, *, is_local: bool) -> Tensor | None:
        """Return the mask of the layers with full attention, or of those with a sparse pattern."""
        return self.local if is_local else self.mask


def allowed_pairs(
    queries: Int[Tensor, "#B T"],
    keys: Int[Tensor, "#B S"],
    config: ModelConfig,
    *,
    layout: Layout = PLAIN,
    is_local: bool = False,
    places: Int[Tensor, " T"] | None = None,
) -> Bool[Tensor, "#B T S"]:
    """Return which keys each query may see.

    Padding sees itself alone: a row without any key has no softmax.

    Args:
        queries: Positions of the queries.
        keys: Positions of all tokens; negative in padding.
        is_local: Apply the sparse pattern.
        places: Where among the keys the queries' own tokens stand. Default: at the end.

    Returns:
        True where the query (row) may attend to the key (column).
    """
    slots = torch.arange(keys.shape[1], device=keys.device)
    if places is None:
        places = slots[keys.shape[1] - queries.shape[1] :]
    own = slots[None, None, :] == places[None, :, None]  # [1, T, S]
    if config.mask == "bidirectional":
        allowed = torch.ones_like(own)
    else:
        allowed = slots[None, None, :] <= places[None, :, None]
    if is_local:
        allowed = allowed & sparse_mask(config, queries, keys)
    if layout.prefix_lengths is not None:
        is_prefix = (keys < layout.prefix_lengths[:, None]) & (slots <= places[-1])
        allowed = allowed | is_prefix[:, None, :]
    if layout.documents is not None:
        allowed = allowed & (layout.documents[:, None, :] == layout.documents[:, :, None])
    if layout.left_padding is not None:
        allowed = (allowed & (keys >= 0)[:, None, :]) | own
    return allowed


def text_lengths(
    keys: Int[Tensor, "#B S"], documents: Int[Tensor, "B S"] | None
) -> Int[Tensor, "#B _"]:
    """Return the length of the text that each token belongs to, one number for a row of one text.

    Padding does not count: a row's length must not depend on the rows beside it.

    Example:
        >>> text_lengths(torch.tensor([[-2, -1, 0], [0, 1, 2]]), None).tolist()
        [[1], [3]]
        >>> text_lengths(torch.tensor([[0, 1, 0]]), torch.tensor([[4, 4, 7]])).tolist()
        [[2, 2, 1]]
    """
    if documents is None:
        return keys.amax(dim=1, keepdim=True) + 1
    behind = document_positions(documents.flip(1)).flip(1)
    return document_positions(documents) + behind + 1


def document_positions(documents: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Return each token's position in its own text.

    Example:
        >>> document_positions(torch.tensor([[4, 4, 4, 7, 7]]))
        tensor([[0, 1, 2, 0, 1]])
    """
    slots = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return slots - slots.where(starts, 0).cummax(dim=1).values
