"""Back to a checkpoint before a spike, and past the data that came with it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmlib.training.checkpointing.files import checkpoints, remove, step_of
from llmlib.training.distributed import everyone, rank
from llmlib.training.stability.spikes import SpikeDetector

ROLLED_BACK = "rolled_back"
"""The event of a metrics line that `Recovery.event` wrote."""


class Recovery:
    """Decides when a run returns to an earlier checkpoint, to which, and what it leaves out.

    The model, the optimizer and the random generators go back; the batches do not. So what was read
    between the checkpoint and the spike is not read again, nor are `skip` updates' worth of batches
    behind it. It helps where the data did it, or a state that the same data meet only once; a
    cause in the schedule comes again, and the run ends at `limit`.

    A run that is killed and continued goes back as it would have done. One that was stopped with
    Ctrl-C has a checkpoint more, and may go back to that.

    What the trainer calls, in this order:

    - `require(checkpoint_every=..., keep=...)` before the first step, and a checkpoint of step 0;
    - `is_needed(line)` after each step; of a step that was not finite, with `{"step": ..., "loss":
      nan}`;
    - if so `go_back(folder)`, which returns the checkpoint to load and removes later ones; then it
      reads and drops `skip` updates' worth of batches, saves the checkpoint anew with the new place
      in the data, and writes `event(to_step, left_out)` to the metrics;
    - `state_dict()` into each checkpoint, `load_state_dict` only when a run is continued.

    Args:
        back: Steps that must lie between the checkpoint and the first sign, which often is later
            than the cause.
        skip: Updates whose batches are left out besides those between checkpoint and spike.
        limit: Times that a run may go back.

    Raises:
        ValueError: If a setting is out of its range.

    Example:
        >>> recovery = Recovery(SpikeDetector(window=6), back=2)
        >>> [recovery.is_needed({"step": s, "loss": l}) for s, l in enumerate((3, 3.1, 3, 9), 1)]
        [False, False, False, True]
        >>> recovery.why
        'loss 9.000 is 6.000 above the median 3.000 of the last 3 steps, allowed were 0.100'

    References:
        Chowdhery et al. (2022), PaLM, section 5.1: back by about 100 steps, 200 to 500 batches
        skipped.
    """

    def __init__(
        self, detector: SpikeDetector, *, back: int = 1, skip: int = 0, limit: int = 3
    ) -> None:
        if back < 1 or skip < 0 or limit < 1:
            raise ValueError(f"back={back} and limit={limit} must be at least 1, skip={skip} 0")
        self.detector, self.back, self.skip, self.limit = detector, back, skip, limit
        self.times, self.why, self.step = 0, "", 0
        self.sound = 0  # the latest step known to be so: the start, then what was gone back to

    def require(self, *, checkpoint_every: int, keep: int) -> None:
        """Check that there will be a checkpoint to go back to.

        Raises:
            ValueError: If checkpoints are too rare, or removed before they are old enough.
        """
        if not checkpoint_every or (keep - 1) * checkpoint_every < self.back:
            raise ValueError(
                f"recovery goes back {self.back} steps, and the last {keep} checkpoints, one every "
                f"{checkpoint_every} steps, need not reach so far: raise keep or checkpoint_every"
            )

    def is_needed(self, line: dict[str, Any]) -> bool:
        """Take in a step's metrics; say whether it is a spike."""
        sign = self.detector.sign(line["loss"], line.get("grad_norm", 0.0))
        if sign is not None:
            self.why, self.step = sign, line["step"]
        return sign is not None

    def go_back(self, folder: Path) -> Path:
        """Return the newest checkpoint that is old enough, and remove those after it.

        Every process of a run must call this.

        Raises:
            FloatingPointError: If the run has gone back `limit` times, or none is old enough.
        """
        self.times += 1
        # A second spike soon after a return has no checkpoint that is older; that one is sound.
        last = max(self.step - self.back, self.sound)
        old_enough = [path for path in checkpoints(folder) if (step_of(path) or 0) <= last]
        if self.times > self.limit or not old_enough:
            what = (
                f"after {self.limit} returns already: the cause is not in the skipped data"
                if old_enough
                else f"and no checkpoint in {folder} lies {self.back} steps before it"
            )
            raise FloatingPointError(
                f"a spike at step {self.step} ({self.why}), {what}; lower lr, lengthen the "
                "warm-up or look at the data"
            )
        everyone(True)  # all have listed the checkpoints before the first process removes some
        if rank() == 0:
            for path in checkpoints(folder):
                if path not in old_enough:
                    remove(path)
        self.sound = step_of(old_enough[-1]) or 0
        return old_enough[-1]

    def event(self, to_step: int, left_out: int) -> dict[str, Any]:
        """Return the metrics line that says what was done; its `step` is the one gone back to.

        Args:
            left_out: Micro-batches of a process that were read and are not learned from.
        """
        return {
            "step": to_step,
            "event": ROLLED_BACK,
            "from_step": self.step,
            "to_step": to_step,
            "skipped_micro_batches": left_out,
            "why": self.why,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the detector's window, how often the run went back and whereto, as JSON values."""
        state = {"detector": self.detector.state_dict(), "times": self.times}
        return state | {"sound": self.sound}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from such a state."""
        self.detector.load_state_dict(state["detector"])
        self.times, self.sound = state["times"], state["sound"]


def lines_that_count(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave the metrics of those steps that led to the final model, events left out.

    Example:
        >>> back = {"step": 1, "event": "rolled_back", "from_step": 2, "to_step": 1}
        >>> lines_that_count([{"step": 1}, {"step": 2, "loss": 9}, back, {"step": 2, "loss": 3}])
        [{'step': 1}, {'step': 2, 'loss': 3}]
    """
    kept: list[dict[str, Any]] = []
    for line in lines:
        if line.get("event") == ROLLED_BACK:
            kept = [one for one in kept if one["step"] <= line["to_step"]]
        elif "event" not in line:
            kept.append(line)
    return kept
