"""What a decoder keeps of the tokens it has read, and what it asks of whatever keeps it."""

from abc import ABC, abstractmethod
from copy import copy
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from llmlib.architecture.config import ModelConfig

_Held = TypeVar("_Held", bound="TensorCache")


class Cache(ABC):
    """What a decoder keeps of earlier tokens; it runs on any of them unchanged."""

    length: int = 0
    """Tokens held, the same for every row, padding included."""
    left_padding: Int[Tensor, " B"] | None = None
    """Padding tokens at the start of each row."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes set aside."""

    @abstractmethod
    def select(self, rows: Int[Tensor, " rows"]) -> "Cache":
        """Return a cache of the named rows, in that order; rows may repeat.

        So go beam search, parallel samples, and the removal of finished sequences.
        """

    def advance(self, n_tokens: int) -> None:
        """Count tokens as held, after every layer has written them."""
        self.length += n_tokens


class AttentionCache(Cache):
    """Keys and values, as attention asks for them."""

    rotated: bool = True
    """Whether the keys come in with RoPE applied. A cache that gives its tokens new positions
    holds them unrotated, and attention rotates what it reads."""
    selects: bool = False
    """Whether attention asks by `recall` which of the tokens it is to see."""

    @abstractmethod
    def extend(
        self,
        layer: int,
        keys: Float[Tensor, "B G T K"],
        values: Float[Tensor, "B G T Kv"],
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S Kv"]]:
        """Write a layer's new keys and values behind the ones held; `advance` counts them.

        Returns:
            All keys and all values of the layer that the new tokens may see, old ones first.

        Raises:
            ValueError: When there is no room for them.
        """

    def recall(
        self, layer: int, queries: Float[Tensor, "B H T K"]
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S Kv"]]:
        """Return the keys and values that the new queries are to see, after `extend`.

        They stand at the positions that `key_positions` told.
        """
        raise NotImplementedError(f"{type(self).__name__} returns everything in extend")

    def key_positions(self, n_new: int, device: torch.device) -> Int[Tensor, "#B S"]:
        """Return the position of every token that `extend` will return; negative in padding."""
        return row_positions(self.length + n_new, self.left_padding, device)

    def new_places(self, n_new: int) -> Int[Tensor, " T"] | None:
        """Return where among these the new tokens will stand; None: at the end."""
        return None


def row_positions(
    n_tokens: int, left_padding: Int[Tensor, " B"] | None, device: torch.device
) -> Int[Tensor, "#B S"]:
    """Count each row's tokens from 0 behind its padding, where the numbers are negative."""
    positions = torch.arange(n_tokens, device=device).unsqueeze(0)
    return positions if left_padding is None else positions - left_padding.unsqueeze(1)


class BoundedCache(AttentionCache):
    """A cache with room for `max_len` tokens a row, all of which it keeps."""

    max_len: int

    def _end(self, n_new: int) -> int:
        """Return the length with the new tokens, which must not pass the room."""
        end = self.length + n_new
        if end > self.max_len:
            raise ValueError(
                f"the cache holds {self.max_len} tokens and {end} are needed: "
                "allocate it with a larger max_len"
            )
        return end

    def truncate(self, length: int) -> None:
        """Forget the tokens from `length` on, as speculative decoding does with rejected ones.

        Raises:
            ValueError: When fewer than that are held.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate to {length} tokens: {self.length} are held")
        self.length = length


def require_rows(batch_size: int, max_len: int, left_padding: Tensor | None) -> None:
    """Refuse sizes that are not above zero, and padding of another number of rows."""
    if batch_size < 1 or max_len < 1:
        raise ValueError(f"batch_size={batch_size} and max_len={max_len} must be above zero")
    if left_padding is not None and left_padding.shape[0] != batch_size:
        raise ValueError(f"left_padding has {left_padding.shape[0]} rows, not {batch_size}")


class TensorCache(AttentionCache):
    """A cache whose layers each hold one tensor of keys and one of values, batch first."""

    keys: list[Float[Tensor, "B G S K"]]
    values: list[Float[Tensor, "B G S Kv"]]

    @property
    @override
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    @override
    def select(self: _Held, rows: Int[Tensor, " rows"]) -> _Held:
        chosen = copy(self)
        chosen.keys = [keys[rows] for keys in self.keys]
        chosen.values = [values[rows] for values in self.values]
        if self.left_padding is not None:
            chosen.left_padding = self.left_padding[rows]
        return chosen


def empty_layers(
    config: ModelConfig,
    batch_size: int,
    n_tokens: int,
    device: torch.device | None,
    dtype: torch.dtype,
) -> tuple[list[Float[Tensor, "B G S K"]], list[Float[Tensor, "B G S Kv"]]]:
    """Set aside every layer's keys and values: `2 L B G S K` numbers, latent attention's fewer."""

    def room(heads: int, width: int) -> list[Tensor]:
        shape = (batch_size, heads, n_tokens, width)
        return [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]

    keys, values = config.cache_shapes
    return room(*keys), room(*values)
