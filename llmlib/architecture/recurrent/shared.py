"""What the layers without attention share: their cache and the start of their linear layers."""

import math

from torch import nn

from llmlib.architecture.caches.kv_cache import Cache, StateCache
from llmlib.architecture.config import ModelConfig


def state_cache(cache: Cache | None) -> StateCache | None:
    """Return the cache as one of states.

    Args:
        cache: What the caller gave, or None.

    Returns:
        The same cache.

    Raises:
        ValueError: When it is a cache of keys and values.
    """
    if cache is None or isinstance(cache, StateCache):
        return cache
    raise ValueError(
        f"a layer without attention keeps a state, not a {type(cache).__name__}: make the cache "
        "with the model's new_cache, or StateCache.allocate(n_layers)"
    )


def reset_linear(config: ModelConfig, linear: nn.Linear, *, into_residual: bool = False) -> None:
    """Draw a linear layer's weights as the decoder does: normal, smaller into the residual stream.

    Args:
        config: Gives the standard deviation.
        linear: The layer.
        into_residual: Whether its output is added to the residual stream.
    """
    scale = 1 / math.sqrt(2 * config.n_layers) if into_residual else 1.0
    nn.init.normal_(linear.weight, std=config.init_std * scale)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
