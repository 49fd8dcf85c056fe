"""A cache whose shapes and numbers stand still, so that a step can be captured once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from llmlib.architecture.caches.base import (
    BoundedCache,
    TensorCache,
    empty_layers,
    require_rows,
    row_positions,
)
from llmlib.architecture.config import ModelConfig


class StaticKVCache(TensorCache, BoundedCache):
    """Keys and values of which attention always sees all the room, the unwritten part masked.

    How many tokens are held is a tensor beside them. So every step has the same shapes and no
    Python number that changes: `torch.compile` traces it once, and a CUDA graph can replay it. What
    that saves is the time between kernels; what it costs are the scores of the empty places.

    Args:
        config: The model's configuration; its positions are not `relative` and its RoPE not
            `dynamic`, which both follow the length in Python.
        max_len: Tokens that a row has room for, at most the model's `max_seq_len`.

    Raises:
        ValueError: When a size is not above zero, or the model's numbers change with its length.

    Example:
        >>> config = ModelConfig(vocab_size=7, d_model=8, n_layers=3, n_heads=2, max_seq_len=5)
        >>> cache = StaticKVCache(config, batch_size=1, max_len=5)
        >>> keys, values = cache.extend(0, torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
        >>> keys[0, 0, :, 0].tolist()
        [1.0, 1.0, 1.0, 0.0, 0.0]

    References:
        gpt-fast (PyTorch, 2023), Accelerating Generative AI with PyTorch II.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        max_len: int,
        *,
        left_padding: Int[Tensor, " B"] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        require_rows(batch_size, max_len, left_padding)
        if max_len > config.max_seq_len:
            raise ValueError(f"max_len={max_len} is above max_seq_len={config.max_seq_len}")
        if not config.is_attention or config.position == "relative":
            raise ValueError(f"mixer={config.mixer!r}, position={config.position!r}: use new_cache")
        if config.rope_scaling == "dynamic":
            raise ValueError("rope_scaling='dynamic' turns old keys anew: use new_cache")
        self.max_len = max_len
        self.left_padding = left_padding
        self.rotated = not config.rotates_late
        self.keys, self.values = empty_layers(config, batch_size, max_len, device, dtype)
        self.held = torch.zeros((), dtype=torch.long, device=device)
        self._offsets = torch.arange(max_len, device=device)

    @property
    def length(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Tokens held, read from the device, which waits for it."""
        return int(self.held)

    @length.setter
    def length(self, value: int) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.held.fill_(value)

    @override
    def advance(self, n_tokens: int) -> None:
        self.held.add_(n_tokens)

    @override
    def key_positions(self, n_new: int, device: torch.device) -> Int[Tensor, "#B S"]:
        return row_positions(self.max_len, self.left_padding, device)

    @override
    def new_places(self, n_new: int) -> Int[Tensor, " T"]:
        """Return where the new tokens will stand.

        Raises:
            RuntimeError: When there is no room for them; on a GPU the process ends with it.
        """
        torch._assert_async(  # pyright: ignore[reportPrivateImportUsage]
            self.held + n_new <= self.max_len,
            f"the cache holds {self.max_len} tokens and more are needed: give it a larger max_len",
        )
        return self.held + self._offsets[:n_new]

    @override
    def extend(
        self, layer: int, keys: Float[Tensor, "B G T K"], values: Float[Tensor, "B G T Kv"]
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S Kv"]]:
        """Write the new keys and values, and return all the room."""
        places = self.held + self._offsets[: keys.shape[2]]  # `new_places` looked for room
        self.keys[layer].index_copy_(2, places, keys)
        self.values[layer].index_copy_(2, places, values)
        return self.keys[layer], self.values[layer]

    @override
    def select(self, rows: Int[Tensor, " rows"]) -> "StaticKVCache":
        chosen = super().select(rows)
        chosen.held = self.held.clone()
        return chosen
