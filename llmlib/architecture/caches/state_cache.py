"""A state in place of keys and values: what a decoder without attention keeps."""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor
from typing_extensions import override

from llmlib.architecture.caches.base import Cache

State = dict[str, Tensor]


@dataclass
class StateCache(Cache):
    """The states of a model without attention: as large after a million tokens as after one.

    It takes no left padding, which it would remember.
    """

    states: list[State | None]
    """What each layer keeps, by name, batch first; None before the first token."""
    length: int = 0

    @classmethod
    def allocate(cls, n_layers: int) -> "StateCache":
        """Begin without a state."""
        return cls([None] * n_layers)

    @property
    @override
    def nbytes(self) -> int:
        states = [state for state in self.states if state is not None]
        return sum(tensor.nbytes for state in states for tensor in state.values())

    def get(self, layer: int) -> State | None:
        """Return a layer's state, None before the first token."""
        return self.states[layer]

    def put(self, layer: int, state: State) -> None:
        """Replace what a layer keeps under the given names; other names stay."""
        self.states[layer] = {**(self.states[layer] or {}), **state}

    def truncate(self, length: int) -> None:
        """Go back to an earlier length, which a state allows only to the beginning.

        Raises:
            ValueError: For any length but 0 and the present one.
        """
        if length == 0:
            self.states = [None] * len(self.states)
        elif length != self.length:
            raise ValueError(
                f"cannot truncate to {length} tokens: a state forgets how it came about; "
                "keep a copy from select() before reading what may be rejected"
            )
        self.length = length

    @override
    def select(self, rows: Int[Tensor, " rows"]) -> "StateCache":
        def chosen(state: State | None) -> State | None:
            return None if state is None else {name: x[rows] for name, x in state.items()}

        return StateCache([chosen(state) for state in self.states], self.length)
