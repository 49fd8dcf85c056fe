"""A cache of constant size: the first tokens, the last tokens, and nothing between."""

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from llmlib.architecture.caches.base import TensorCache, empty_layers
from llmlib.architecture.config import ModelConfig


class RollingCache(TensorCache):
    r"""Keeps the first few tokens as attention sinks and a window of the last ones.

    Seen over a whole text the kept pairs form a $\Lambda$: a column at the left and a band along
    the diagonal. Positions are counted inside the cache, so none is ever larger than its size: the
    keys are held before rotation and turned again at each step. Trained models put much of their
    attention on the first tokens whatever these say; a window without them breaks such a model.

    Several new tokens at once see all that is held and each other, causally, and only then are the
    oldest dropped: read a long text in pieces not longer than the window.

    Args:
        window: Last tokens to keep.
        n_sinks: First tokens to keep.

    Raises:
        ValueError: When there is no room for a single token, or the mixer is not attention.

    Example:
        >>> config = ModelConfig(vocab_size=7, d_model=8, n_layers=3, n_heads=2, max_seq_len=9)
        >>> RollingCache(config, 1, window=4, n_sinks=1).nbytes
        960

    References:
        Xiao et al. (2023), Efficient Streaming Language Models with Attention Sinks, section 3.2;
        Han et al. (2023), LM-Infinite, section 4 (the mask, with distances clipped instead).
    """

    rotated = False

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        *,
        window: int,
        n_sinks: int = 4,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if batch_size < 1 or window < 1 or n_sinks < 0:
            raise ValueError(
                f"batch_size={batch_size} and window={window} must be above zero, and "
                f"n_sinks={n_sinks} not negative"
            )
        if not config.is_attention:
            raise ValueError(f"mixer={config.mixer!r} keeps a state, not keys and values")
        self.n_sinks, self.window = n_sinks, window
        self.n_read = 0
        """Tokens read; `length` counts those held, at most `n_sinks + window`."""
        self.keys, self.values = empty_layers(config, batch_size, n_sinks + window, device, dtype)

    @override
    def extend(
        self, layer: int, keys: Float[Tensor, "B G T K"], values: Float[Tensor, "B G T Kv"]
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S Kv"]]:
        """Return what is held and the new tokens, then keep sinks and window of both."""
        together = []
        for held, new in ((self.keys[layer], keys), (self.values[layer], values)):
            both = torch.cat((held[:, :, : self.length], new), dim=2)
            n_kept = min(both.shape[2], self.n_sinks + self.window)
            n_last = n_kept - min(self.n_sinks, n_kept)
            held[:, :, : n_kept - n_last] = both[:, :, : n_kept - n_last]
            held[:, :, n_kept - n_last : n_kept] = both[:, :, both.shape[2] - n_last :]
            together.append(both)
        return together[0], together[1]

    @override
    def advance(self, n_tokens: int) -> None:
        self.n_read += n_tokens
        self.length = min(self.length + n_tokens, self.n_sinks + self.window)
