"""What a run reports: one JSON line a step, throughput, and how well the machine is used."""

import json
from collections import deque
from pathlib import Path
from typing import Any

from llmlib.core.files import atomic_write


def throughput(
    tokens: int,
    seconds: float,
    *,
    flops_per_token: float | None = None,
    peak_flops: float | None = None,
) -> dict[str, float]:
    r"""Return tokens per second and, where both numbers are known, the model FLOPs utilization.

    $\mathrm{MFU} = \text{tokens/s} \cdot \text{FLOPs/token} / \text{peak FLOPs/s}$

    Args:
        flops_per_token: FLOPs of a training step per token, forward and backward.
        peak_flops: FLOPs per second that the machine reaches at best.

    Example:
        >>> throughput(2000, 4.0, flops_per_token=6e9, peak_flops=1e13)
        {'tokens_per_second': 500.0, 'mfu': 0.3}

    References:
        Chowdhery et al. (2022), PaLM, section 4.1 and appendix B.
    """
    rate = tokens / max(seconds, 1e-9)
    if flops_per_token is None or peak_flops is None:
        return {"tokens_per_second": rate}
    return {"tokens_per_second": rate, "mfu": rate * flops_per_token / peak_flops}


class Meter:
    """Counts tokens and seconds of training; the rate is that of the last twenty steps."""

    def __init__(
        self, flops_per_token: float | None = None, peak_flops: float | None = None
    ) -> None:
        self.flops = {"flops_per_token": flops_per_token, "peak_flops": peak_flops}
        self.tokens, self.seconds = 0, 0.0
        self._recent: deque[tuple[int, float]] = deque(maxlen=20)

    def count(self, tokens: int, seconds: float) -> None:
        """Add a step, with its targets that count."""
        self.tokens += tokens
        self.seconds += seconds
        self._recent.append((tokens, seconds))

    def read(self) -> dict[str, int | float]:
        """Return the sums and the rate, and the utilization where it can be known."""
        tokens = sum(tokens for tokens, _ in self._recent)
        seconds = sum(seconds for _, seconds in self._recent)
        rate = throughput(tokens, seconds, **self.flops)
        return {"tokens": self.tokens, "seconds": round(self.seconds, 3), **rate}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a metrics file: a dictionary a line, none if it is missing, without a line cut short."""
    if not path.exists():
        return []
    lines = []
    with path.open(encoding="utf-8") as file:  # str.splitlines would cut at more than line feeds
        for line in file:
            if line.endswith("\n") and line.strip():
                lines.append(json.loads(line))
    return lines


class MetricsFile:
    """Appends a line per step; on a continued run, first drops the steps that will come again."""

    def __init__(self, path: Path, after_step: int, tensorboard: Path | None = None) -> None:
        kept = [line for line in read_metrics(path) if line["step"] <= after_step]
        atomic_write(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")
        self._board = None
        if tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter  # an optional dependency

            self._board = SummaryWriter(str(tensorboard), purge_step=after_step + 1)

    def write(self, line: dict[str, Any]) -> None:
        """Append a line, `step` among its numbers, visible to other processes at once."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in line.items():
                if name != "step" and not isinstance(value, str):
                    self._board.add_scalar(name, value, line["step"])

    def __enter__(self) -> "MetricsFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()
