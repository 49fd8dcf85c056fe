"""What the layers without attention share: a state in place of keys and values, and their start."""

import math
from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from llmlib.architecture.caches.base import Cache
from llmlib.architecture.caches.state_cache import State, StateCache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context
from llmlib.architecture.exact import KeepsFloat32


class RecurrentMixer(KeepsFloat32, ABC):
    """A layer without attention: it reads new tokens and what it kept of the earlier ones.

    A subclass writes `mix`, which knows no cache, and `reset_parameters`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        """Parameters that are several matrices on top of each other, with the rows of each."""
        return {}

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw new weights."""

    @abstractmethod
    def mix(
        self, x: Float[Tensor, "B T D"], state: State, context: Context | None, *, keeps_state: bool
    ) -> tuple[Float[Tensor, "B T D"], State]:
        """Mix information between the tokens of each row, and between them and earlier ones.

        Args:
            x: The new tokens' residual stream (normalized, in a pre-norm model).
            state: What was kept of the earlier tokens, by name; empty before the first.
            context: Positions; `Retention` alone needs them.
            keeps_state: Whether the new state is wanted. It may be empty where not.

        Returns:
            What is added to the residual stream, and what to keep, batch first.
        """

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Context | None = None,
        cache: Cache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "B T D"]:
        """Mix with the state that a cache holds for this layer, and put the new one in its place.

        Raises:
            ValueError: When the cache is one of keys and values.
        """
        if cache is None:
            return self.mix(x, {}, context, keeps_state=False)[0]
        if not isinstance(cache, StateCache):
            raise ValueError(
                f"a layer without attention keeps a state, not a {type(cache).__name__}: make the "
                "cache with the model's new_cache, or StateCache.allocate(n_layers)"
            )
        mixed, state = self.mix(x, cache.get(layer) or {}, context, keeps_state=True)
        cache.put(layer, state)
        return mixed

    def reset_linear(self, linear: nn.Linear, *, into_residual: bool = False) -> None:
        """Draw a linear layer as the decoder does: normal, smaller into the residual stream."""
        scale = 1 / math.sqrt(2 * self.config.n_layers) if into_residual else 1.0
        nn.init.normal_(linear.weight, std=self.config.init_std * scale)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
