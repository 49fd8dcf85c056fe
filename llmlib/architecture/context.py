"""Where the tokens of a forward pass stand: their positions, and which of them may see which."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmlib.architecture.attention.sparse import sparse_mask
from llmlib.architecture.caches.kv_cache import Cache
from llmlib.architecture.config import ModelConfig


@dataclass(frozen=True)
class Context:
    """What every layer of a forward pass shares.

    Attributes:
        queries: Position of each new token in its text.
        keys: Position of each token that may be seen, earlier ones first; negative in padding.
        angles: Cosine and sine of the new tokens' RoPE angles, or None.
        key_angles: The same for all keys, where they come before rotation, else None.
        window_angles: The same for the largest relative position of `rerope`, else None.
        mask: For layers with full attention: True where a query may see a key, or a number to add
            to the score. None where the fused kernel needs no mask.
        local: The same for layers with a sparse pattern.
        is_causal: Without a mask: whether a token sees only itself and what came before.
    """

    queries: Int[Tensor, "#B T"]
    keys: Int[Tensor, "#B S"]
    angles: tuple[Float[Tensor, "#B T half"], Float[Tensor, "#B T half"]] | None = None
    key_angles: tuple[Float[Tensor, "#B S half"], Float[Tensor, "#B S half"]] | None = None
    window_angles: tuple[Float[Tensor, "1 1 half"], Float[Tensor, "1 1 half"]] | None = None
    mask: Tensor | None = None
    local: Tensor | None = None
    is_causal: bool = True


def allowed_pairs(
    queries: Int[Tensor, "#B T"],
    keys: Int[Tensor, "#B S"],
    config: ModelConfig,
    *,
    is_padded: bool = False,
    is_local: bool = False,
    prefix_lengths: Int[Tensor, " B"] | None = None,
    documents: Int[Tensor, "B T"] | None = None,
) -> Bool[Tensor, "#B T S"]:
    """Return which keys each query may see.

    Args:
        queries: Positions of the queries, which are the last tokens.
        keys: Positions of all tokens; negative in padding.
        config: Gives the mask and the sparse pattern.
        is_padded: Whether some keys are padding. Padding sees itself alone: a row without any key
            has no softmax.
        is_local: Apply the sparse pattern.
        prefix_lengths: Tokens at the start of each row that all its tokens see.
        documents: Number of the text that each token belongs to; texts do not see each other.

    Returns:
        True where the query (row) may attend to the key (column).
    """
    n_queries, n_keys = queries.shape[1], keys.shape[1]
    slots = torch.arange(n_keys, device=keys.device)
    own = slots[None, None, :] == slots[None, n_keys - n_queries :, None]  # [1, T, S]
    if config.mask == "bidirectional":
        allowed = torch.ones_like(own)
    else:
        allowed = slots[None, None, :] <= slots[None, n_keys - n_queries :, None]
    if is_local:
        allowed = allowed & sparse_mask(config, queries, keys)
    if prefix_lengths is not None:
        allowed = allowed | (keys < prefix_lengths[:, None])[:, None, :]
    if documents is not None:
        allowed = allowed & (documents[:, None, :] == documents[:, :, None])
    if is_padded:
        allowed = (allowed & (keys >= 0)[:, None, :]) | own
    return allowed


def document_positions(documents: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Return each token's position in its own text.

    Args:
        documents: Number of the text that each token belongs to; a text's tokens are neighbours.

    Returns:
        Positions that begin again at 0 with every text.

    Example:
        >>> document_positions(torch.tensor([[4, 4, 4, 7, 7]]))
        tensor([[0, 1, 2, 0, 1]])
    """
    slots = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return slots - slots.where(starts, 0).cummax(dim=1).values


def require_fitting(
    config: ModelConfig,
    cache: Cache | None,
    left_padding: Tensor | None,
    prefix_lengths: Tensor | None,
    documents: Tensor | None,
) -> None:
    """Refuse what a decoder is given beside its tokens where it does not go together.

    Args:
        config: The decoder's configuration.
        cache: What is kept of earlier tokens.
        left_padding: Number of padding tokens at the start of each row.
        prefix_lengths: Number of tokens of each row that see each other.
        documents: Number of each token's document.

    Raises:
        ValueError: If two of them exclude each other, or the model cannot heed one.
    """
    if cache is not None and left_padding is not None:
        raise ValueError("give left_padding to new_cache: the cache keeps it")
    if prefix_lengths is not None and config.mask != "prefix":
        raise ValueError("prefix_lengths needs mask='prefix': replace the configuration's mask")
    if documents is not None and (cache, left_padding, prefix_lengths) != (None, None, None):
        raise ValueError("documents go without cache, padding and prefix: pack whole texts")
    if cache is not None and config.mask == "bidirectional":
        raise ValueError("a bidirectional model has no cache: a new token changes the old ones")
    if config.is_attention:
        return
    if left_padding is not None or documents is not None:
        raise ValueError(
            f"mixer={config.mixer!r} carries a state over every token: give it rows of "
            "equal length with one text each, without left_padding or documents"
        )
