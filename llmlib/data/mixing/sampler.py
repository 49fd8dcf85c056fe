"""Documents of several sources in turn, by the weights of a mixture, the same after any pause."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from llmlib.data.mixing.mixtures import checked_weights


class MixtureSampler(Iterator[tuple[int, int]]):
    """An endless iterator over places of documents: source and number within it.

    Each step gives every source its weight in credit and takes from the one with the most, which
    then pays a whole unit. Credits sum to zero, and the one that pays holds more than zero: so with
    n sources none is ever a whole draw ahead of its share, or more than n - 1 behind. Within a
    source, every epoch reads all documents in a new order.

    Args:
        weights: Share of each source, or a function from the step to them, such as
            `Curriculum.weights_at`.
        costs: Mean tokens of a document of each source, where weights are to count tokens; by
            default every document counts the same.

    Raises:
        ValueError: If sizes, weights or costs are not positive or of different number.

    Example:
        >>> sampler = MixtureSampler([3, 100], [0.25, 0.75], seed=0)
        >>> [next(sampler)[0] for _ in range(8)]
        [1, 0, 1, 1, 1, 0, 1, 1]
        >>> sampler.epochs().tolist()
        [0.6666666666666666, 0.06]
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float | int] | np.ndarray | Callable[[int], np.ndarray],
        *,
        seed: int,
        costs: Sequence[float | int] | None = None,
    ):
        self._sizes = [int(size) for size in sizes]
        self._costs = np.asarray(costs if costs is not None else np.ones(len(sizes)), dtype=float)
        if not self._sizes or min(self._sizes) < 1 or seed < 0:
            raise ValueError(f"every source needs a document, and seed={seed} must be at least 0")
        if len(self._costs) != len(self._sizes) or not (self._costs > 0).all():
            raise ValueError(f"costs must be positive, one for each of {len(sizes)} sources")
        self._fixed = None if callable(weights) else self._checked(weights)
        self._weights_at = weights if callable(weights) else None
        self._seed = seed
        self.step = 0
        self.drawn = [0] * len(self._sizes)
        self._credit = np.zeros(len(self._sizes))
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def _checked(self, weights: Sequence[float | int] | np.ndarray) -> np.ndarray:
        shares = checked_weights(weights)
        if len(shares) != len(self._sizes):
            raise ValueError(f"{len(shares)} weights for {len(self._sizes)} sources")
        return shares

    @override
    def __next__(self) -> tuple[int, int]:
        weights = self._fixed
        if weights is None:
            assert self._weights_at is not None
            weights = self._checked(self._weights_at(self.step))
        # A document of more tokens costs more: in units of the mean document drawn.
        rates = weights / self._costs
        self._credit += rates / rates.sum()
        open_sources = np.where(weights > 0, self._credit, -np.inf)  # credit is kept for later
        source = int(np.argmax(open_sources))
        self._credit[source] -= 1
        number = self.drawn[source]
        self.drawn[source] += 1
        self.step += 1
        return source, self._place(source, number)

    def _place(self, source: int, number: int) -> int:
        epoch, within = divmod(number, self._sizes[source])
        known = self._orders.get(source)
        if known is None or known[0] != epoch:
            generator = np.random.default_rng([self._seed, source, epoch])
            known = self._orders[source] = (epoch, generator.permutation(self._sizes[source]))
        return int(known[1][within])

    def epochs(self) -> np.ndarray:
        """Say how often each source has been read so far."""
        return np.array(self.drawn) / np.array(self._sizes)

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on with the next draw."""
        return {
            "sizes": self._sizes,
            "seed": self._seed,
            "step": self.step,
            "drawn": [*self.drawn],
            "credit": self._credit.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another sampler of the same sources stood; the weights may be new.

        Raises:
            ValueError: If the sources or the seed differ.
        """
        if state["sizes"] != self._sizes or state["seed"] != self._seed:
            raise ValueError(
                f"cannot continue: the saved run had sources of {state['sizes']} documents and "
                f"seed {state['seed']}, this one {self._sizes} and {self._seed}"
            )
        self.step = int(state["step"])
        self.drawn = [int(count) for count in state["drawn"]]
        self._credit = np.array(state["credit"], dtype=np.float64)
