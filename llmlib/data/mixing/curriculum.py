"""Which mixture at which time: stages, with sudden or gradual changes between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from llmlib.data.mixing.mixtures import checked_weights


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one mixture."""

    steps: int
    """Its length in steps, at least 1."""
    weights: Sequence[float | int]
    """Share of each source; they sum to one."""
    name: str = ""


class Curriculum:
    """Stages in order, each beginning with a linear change from the mixture before it.

    Args:
        blend: Steps over which a stage's mixture replaces the one before; 0 changes at once.

    Raises:
        ValueError: If there is no stage, one has no steps or fewer than `blend`, the weights are
            no mixture, or their numbers differ.

    Example:
        >>> plan = Curriculum([Stage(4, [1, 0], "general"), Stage(4, [0, 1], "code")], blend=2)
        >>> [plan.weights_at(step)[1].item() for step in (0, 3, 4, 5, 7, 99)]
        [0.0, 0.0, 0.5, 1.0, 1.0, 1.0]

    References:
        Bengio et al. (2009), Curriculum Learning; Rozière et al. (2023), Code Llama, section 2
        (general text, then code, then long context).
    """

    def __init__(self, stages: Sequence[Stage], blend: int = 0):
        if not stages:
            raise ValueError("a curriculum needs at least one stage")
        if any(stage.steps < max(1, blend) for stage in stages) or blend < 0:
            raise ValueError(f"every stage needs at least one step, and blend={blend} steps")
        weights = [checked_weights(stage.weights) for stage in stages]
        if len({len(w) for w in weights}) > 1:
            raise ValueError("all stages must weigh the same sources")
        self.stages = tuple(stages)
        self.blend = blend
        self._weights = np.stack(weights)
        self._ends = np.cumsum([stage.steps for stage in stages])

    @property
    def steps(self) -> int:
        """Length of all stages together."""
        return int(self._ends[-1])

    def weights_at(self, step: int) -> Float[np.ndarray, " sources"]:
        """Return the mixture of a step, counted from 0; after the last stage its mixture stays."""
        stage = self._stage(step)
        begin = int(self._ends[stage]) - self.stages[stage].steps
        if stage == 0 or step - begin + 1 >= self.blend:
            return self._weights[stage].copy()
        share = (step - begin + 1) / self.blend
        return share * self._weights[stage] + (1 - share) * self._weights[stage - 1]

    def totals(self) -> Float[np.ndarray, " sources"]:
        """Sum the mixtures over all steps: what each source gives, in steps' worth of tokens."""
        return np.sum([self.weights_at(step) for step in range(self.steps)], axis=0)

    def shuffled(self) -> "Curriculum":
        """Return the control: the same totals in a single stage, without any order.

        Only a comparison with it tells what the order does; against another mixture the amounts
        would differ too.
        """
        return Curriculum([Stage(self.steps, (self.totals() / self.steps).tolist(), "mixed")])

    def reversed(self) -> "Curriculum":
        """Return the stages in the opposite order: the same totals if nothing is blended."""
        return Curriculum(self.stages[::-1], self.blend)

    def _stage(self, step: int) -> int:
        if step < 0:
            raise ValueError(f"step={step} must not be negative")
        return min(int(np.searchsorted(self._ends, step, side="right")), len(self.stages) - 1)
