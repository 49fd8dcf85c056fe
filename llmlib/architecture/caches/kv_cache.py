"""Keys and values in memory set aside once: what a decoder with attention keeps."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from llmlib.architecture.caches.base import (
    BoundedCache,
    TensorCache,
    empty_layers,
    require_rows,
)
from llmlib.architecture.config import ModelConfig


@dataclass
class KVCache(TensorCache, BoundedCache):
    """Keys and values of every layer for the tokens read so far, in memory set aside once.

    References:
        Pope et al. (2022), Efficiently Scaling Transformer Inference, section 2.1.
    """

    keys: list[Float[Tensor, "B G S K"]]
    values: list[Float[Tensor, "B G S Kv"]]
    length: int = 0
    left_padding: Int[Tensor, " B"] | None = None

    def __post_init__(self) -> None:
        self.max_len = self.keys[0].shape[2]

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
        """Set aside an empty cache with room for `max_len` tokens a row.

        Raises:
            ValueError: When a size is not above zero, or `left_padding` has another batch size.

        Example:
            >>> config = ModelConfig(vocab_size=7, d_model=8, n_layers=3, n_heads=2, max_seq_len=5)
            >>> KVCache.allocate(config, batch_size=1, max_len=5).nbytes
            960
        """
        require_rows(batch_size, max_len, left_padding)
        keys, values = empty_layers(config, batch_size, max_len, device, dtype)
        cache = cls(keys, values, left_padding=left_padding)
        cache.rotated = not config.rotates_late
        return cache

    @override
    def extend(
        self,
        layer: int,
        keys: Float[Tensor, "B G T K"],
        values: Float[Tensor, "B G T Kv"],
    ) -> tuple[Float[Tensor, "B G S2 K"], Float[Tensor, "B G S2 Kv"]]:
        """Write the new keys and values, and return views of what is held with them."""
        end = self._end(keys.shape[2])
        self.keys[layer][:, :, self.length : end] = keys
        self.values[layer][:, :, self.length : end] = values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]
