"""The key/value cache: what a decoder keeps of the tokens it has read."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlib.architecture.config import ModelConfig


@dataclass
class KVCache:
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
    values: list[Float[Tensor, "B G S K"]]
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
            The cache, of `2 L B G S K` numbers.

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
        shape = (batch_size, config.n_kv_heads, max_len, config.head_dim)

        def room() -> list[Tensor]:
            return [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]

        return cls(room(), room(), left_padding=left_padding)

    @property
    def max_len(self) -> int:
        """Number of tokens there is room for, S."""
        return self.keys[0].shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes set aside."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def extend(
        self, layer: int, keys: Float[Tensor, "B G T K"], values: Float[Tensor, "B G T K"]
    ) -> tuple[Float[Tensor, "B G S2 K"], Float[Tensor, "B G S2 K"]]:
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

    def advance(self, n_tokens: int) -> None:
        """Count tokens as held, after every layer has written them.

        Args:
            n_tokens: How many.
        """
        self.length += n_tokens

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

    def select(self, rows: Int[Tensor, " rows"]) -> "KVCache":
        """Return a copy that holds the named rows, in that order; rows may repeat.

        Args:
            rows: Row indices, as beam search or the removal of finished sequences gives them.

        Returns:
            The new cache.
        """
        padding = None if self.left_padding is None else self.left_padding[rows]
        return KVCache(
            [keys[rows] for keys in self.keys],
            [values[rows] for values in self.values],
            self.length,
            padding,
        )
