"""Parallel context windows: several texts read side by side, then seen all at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor
from typing_extensions import override

from llmlib.architecture.caches.kv_cache import KVCache
from llmlib.architecture.transformer import Transformer


@dataclass
class PositionedCache(KVCache):
    """A key/value cache whose tokens stand at positions of their own."""

    positions: Int[Tensor, " S"] = field(default_factory=lambda: torch.arange(0))
    """Position of each token of the windows."""
    next_position: int = 0
    """Position of the first token behind them."""

    @override
    def key_positions(self, n_new: int, device: torch.device) -> Int[Tensor, "1 S2"]:
        n_later = self.length - len(self.positions)  # tokens read since the windows
        start = self.next_position
        later = torch.arange(start, start + n_later + n_new, device=device)
        return torch.cat((self.positions.to(device), later)).unsqueeze(0)


@torch.no_grad()
def parallel_windows(
    model: Transformer, windows: Sequence[Sequence[int]], n_new: int
) -> PositionedCache:
    """Read each window by itself from position 0, and return a cache that holds them all.

    Tokens read next stand behind the longest window and see all windows. No position exceeds the
    longest window and what follows, however many windows there are; their order is lost, since all
    of them stand in the same place.

    Args:
        model: A decoder with attention; its positions are rotary, learned, sinusoidal or none.
        n_new: Number of tokens there is room for behind the windows.

    Raises:
        ValueError: When there is no window or an empty one, or the model has no such cache.

    References:
        Ratner et al. (2022), Parallel Context Windows for Large Language Models, section 2.
    """
    if not windows or not all(len(window) for window in windows):
        raise ValueError("parallel windows need at least one token in each of at least one window")
    config = model.config
    if not config.is_attention or config.position not in ("rope", "learned", "sinusoidal", "none"):
        raise ValueError(
            f"mixer={config.mixer!r} with position={config.position!r} has no cache of keys that "
            "stand at positions of their own"
        )
    lengths = [len(window) for window in windows]
    device = model.output_weight.device
    whole = model.new_cache(1, sum(lengths) + n_new)
    assert isinstance(whole, KVCache)
    start = 0
    for window in windows:
        part = model.new_cache(1, len(window))
        assert isinstance(part, KVCache)
        model.hidden(torch.tensor([list(window)], device=device), cache=part)
        for layer in range(config.n_layers):
            whole.keys[layer][:, :, start : start + len(window)] = part.keys[layer]
            whole.values[layer][:, :, start : start + len(window)] = part.values[layer]
        start += len(window)
    cache = PositionedCache(whole.keys, whole.values, start)
    cache.rotated = whole.rotated
    cache.positions = torch.cat([torch.arange(length) for length in lengths])
    cache.next_position = max(lengths)
    return cache
