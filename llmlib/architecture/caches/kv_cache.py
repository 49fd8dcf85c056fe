"""What a decoder keeps of the tokens it has read: keys and values, or a state."""

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlib.architecture.config import ModelConfig

State = dict[str, Tensor]
_Held = TypeVar("_Held", bound="TensorCache")


class AttentionCache(ABC):
    """What attention asks of a cache; the decoder runs on any of them unchanged.

    Attributes:
        length: Number of tokens held, the same for every row, padding included.
        left_padding: Number of padding tokens at the start of each row, or None.
        rotated: Whether the keys come in with RoPE applied. A cache that gives its tokens new
            positions holds them unrotated, and attention rotates what it reads.
        selects: Whether attention asks by `recall` which of the tokens it is to see.
    """

    length: int
    left_padding: Int[Tensor, " B"] | None
    rotated: bool = True
    selects: bool = False

    @abstractmethod
    def extend(
        self,
        layer: int,
        keys: Float[Tensor, "B G T K"],
        values: Float[Tensor, "B G T Kv"],
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S Kv"]]:
        """Write a layer's new keys and values behind the ones held.

        Args:
            layer: Index of the layer, from 0.
            keys: The new keys.
            values: The new values.

        Returns:
            All keys and all values of the layer that the new tokens may see, old ones first.
        """

    def recall(
        self, layer: int, queries: Float[Tensor, "B H T K"]
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S Kv"]]:
        """Return the keys and values that the new queries are to see, after `extend`.

        Args:
            layer: Index of the layer, from 0.
            queries: The new queries.

        Returns:
            Keys and values at the positions that `key_positions` told.
        """
        raise NotImplementedError(f"{type(self).__name__} returns everything in extend")

    @abstractmethod
    def select(self, rows: Int[Tensor, " rows"]) -> "AttentionCache":
        """Return a cache that holds the named rows, in that order; rows may repeat.

        Args:
            rows: Row indices, as beam search or the removal of finished sequences gives them.

        Returns:
            The new cache.
        """

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes set aside."""

    def advance(self, n_tokens: int) -> None:
        """Count tokens as held, after every layer has written them.

        Args:
            n_tokens: How many.
        """
        self.length += n_tokens

    def key_positions(self, n_new: int, device: torch.device) -> Int[Tensor, "#B S"]:
        """Return the position of every token that `extend` will return.

        Args:
            n_new: Number of new tokens, T.
            device: Where to put them.

        Returns:
            Positions, the new tokens' last; negative in padding.
        """
        positions = torch.arange(self.length + n_new, device=device).unsqueeze(0)
        return positions if self.left_padding is None else positions - self.left_padding[:, None]


class TensorCache(AttentionCache):
    """A cache whose layers each hold one tensor of keys and one of values, batch first.

    Attributes:
        keys: One tensor a layer.
        values: The same for the values.
    """

    keys: list[Float[Tensor, "B G S K"]]
    values: list[Float[Tensor, "B G S Kv"]]

    @property
    def nbytes(self) -> int:
        """Bytes set aside."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def select(self: _Held, rows: Int[Tensor, " rows"]) -> _Held:
        """Return a copy that holds the named rows, in that order; rows may repeat.

        Args:
            rows: Row indices, as beam search or the removal of finished sequences gives them.

        Returns:
            The new cache.
        """
        chosen = copy(self)
        chosen.keys = [keys[rows] for keys in self.keys]
        chosen.values = [values[rows] for values in self.values]
        if self.left_padding is not None:
            chosen.left_padding = self.left_padding[rows]
        return chosen


@dataclass
class KVCache(TensorCache):
    """Keys and values of every layer for the tokens read so far, in memory set aside once.

    Attributes:
        keys: One tensor a layer, room for S tokens.
        values: The same for the values.
        length: Number of tokens held, the same for every row.
        left_padding: Number of padding tokens at the start of each row, or None.

    References:
        Pope et al. (2022), Efficiently Scaling Transformer Inference, section 2.1.
    """

    keys: list[Float[Tensor, "B G S K"]]
    values: list[Float[Tensor, "B G S Kv"]]
    length: int = 0
    left_padding: Int[Tensor, " B"] | None = None

    @classmethod
    def allocate(
        cls,
        config: ModelConfig,
        batch_size: int,
        max_len: int,
        *,
        left_padding: Int[Tensor, " B"] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "KVCache":
        """Set aside an empty cache.

        Args:
            config: The model's configuration.
            batch_size: Number of rows, B.
            max_len: Number of tokens there is room for, S.
            left_padding: Number of padding tokens at the start of each row.
            device: Where the model's weights are.
            dtype: Type of the model's activations.

        Returns:
            The cache, of `2 L B G S K` numbers; latent attention keeps fewer.

        Raises:
            ValueError: When a size is not above zero, or `left_padding` has another batch size.

        Example:
            >>> config = ModelConfig(vocab_size=7, d_model=8, n_layers=3, n_heads=2, max_seq_len=5)
            >>> KVCache.allocate(config, batch_size=1, max_len=5).nbytes
            960
        """
        if batch_size < 1 or max_len < 1:
            raise ValueError(f"batch_size={batch_size} and max_len={max_len} must be above zero")
        if left_padding is not None and left_padding.shape[0] != batch_size:
            raise ValueError(f"left_padding has {left_padding.shape[0]} rows, not {batch_size}")

        def room(heads: int, width: int) -> list[Tensor]:
            shape = (batch_size, heads, max_len, width)
            return [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]

        keys, values = config.cache_shapes
        return cls(room(*keys), room(*values), left_padding=left_padding)

    @property
    def max_len(self) -> int:
        """Number of tokens there is room for, S."""
        return self.keys[0].shape[2]

    def extend(
        self,
        layer: int,
        keys: Float[Tensor, "B G T K"],
        values: Float[Tensor, "B G T Kv"],
    ) -> tuple[Float[Tensor, "B G S2 K"], Float[Tensor, "B G S2 Kv"]]:
        """Write a layer's new keys and values behind the ones held.

        `length` moves only once all layers have been written: see `advance`.

        Args:
            layer: Index of the layer, from 0.
            keys: The new keys.
            values: The new values.

        Returns:
            All keys and all values of the layer, old and new, as views, `S2 = length + T`.

        Raises:
            ValueError: When there is no room for them.
        """
        end = self.length + keys.shape[2]
        if end > self.max_len:
            raise ValueError(
                f"the cache holds {self.max_len} tokens and {end} are needed: "
                "allocate it with a larger max_len"
            )
        self.keys[layer][:, :, self.length : end] = keys
        self.values[layer][:, :, self.length : end] = values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def truncate(self, length: int) -> None:
        """Forget the tokens from `length` on, as speculative decoding does with rejected ones.

        Args:
            length: Number of tokens to keep.

        Raises:
            ValueError: When fewer than that are held.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate to {length} tokens: {self.length} are held")
        self.length = length


@dataclass
class StateCache:
    """The states of a model without attention: as large after a million tokens as after one.

    Attributes:
        states: What each layer keeps, by name, batch first; None before the first token.
        length: Number of tokens read.
        left_padding: Always None: a state would remember padding.
    """

    states: list[State | None]
    length: int = 0
    left_padding: None = field(default=None, init=False)

    @classmethod
    def allocate(cls, n_layers: int) -> "StateCache":
        """Begin without a state.

        Args:
            n_layers: Number of layers.

        Returns:
            The cache.
        """
        return cls([None] * n_layers)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        states = [state for state in self.states if state is not None]
        return sum(tensor.nbytes for state in states for tensor in state.values())

    def get(self, layer: int) -> State | None:
        """Return a layer's state.

        Args:
            layer: Index of the layer, from 0.

        Returns:
            The state by name, or None before the first token.
        """
        return self.states[layer]

    def put(self, layer: int, state: State) -> None:
        """Replace what a layer keeps under the given names; other names stay.

        Args:
            layer: Index of the layer, from 0.
            state: Batch-first tensors by name.
        """
        self.states[layer] = {**(self.states[layer] or {}), **state}

    def advance(self, n_tokens: int) -> None:
        """Count tokens as read, after every layer has read them.

        Args:
            n_tokens: How many.
        """
        self.length += n_tokens

    def truncate(self, length: int) -> None:
        """Go back to an earlier length, which a state allows only to the beginning.

        Args:
            length: 0, or the present length.

        Raises:
            ValueError: For any other length.
        """
        if length == 0:
            self.states = [None] * len(self.states)
        elif length != self.length:
            raise ValueError(
                f"cannot truncate to {length} tokens: a state forgets how it came about; "
                "keep a copy from select() before reading what may be rejected"
            )
        self.length = length

    def select(self, rows: Int[Tensor, " rows"]) -> "StateCache":
        """Return a copy that holds the named rows, in that order; rows may repeat.

        Args:
            rows: Row indices.

        Returns:
            The new cache.
        """

        def chosen(state: State | None) -> State | None:
            return None if state is None else {name: x[rows] for name, x in state.items()}

        return StateCache([chosen(state) for state in self.states], self.length)


Cache = AttentionCache | StateCache
