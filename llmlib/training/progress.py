"""A progress bar on a terminal, a line now and then elsewhere, and a polite end."""

import io
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SMOOTHING = 0.9


class TrainingProgress:
    """Shows step, smoothed loss, tokens per second and time left.

    Args:
        every_s: Seconds between lines where there is no terminal.
    """

    def __init__(
        self,
        steps: int,
        start: int = 0,
        *,
        every_s: float = 10.0,
        stream: TextIO | io.StringIO | None = None,
        show: bool = True,
    ) -> None:
        self.steps, self.start, self.every_s = steps, start, every_s
        self.stream = stream or sys.stderr
        self.show = show
        self.loss: float | None = None
        self.began = self.last_line = time.monotonic()
        self._bar: Progress | None = None
        if show and self.stream.isatty():
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[report]}"),
                TimeRemainingColumn(),
                console=Console(file=self.stream),
                refresh_per_second=4,
            )
            self._task = self._bar.add_task("", total=steps, completed=start, report="")

    def update(self, step: int, loss: float, tokens_per_second: float) -> None:
        """Show a finished step and its loss in nats per token."""
        # Weighted towards the past: the loss of one batch jumps about.
        past = loss if self.loss is None else self.loss
        self.loss = _SMOOTHING * past + (1 - _SMOOTHING) * loss
        report = f"loss {self.loss:.3f}  {tokens_per_second:,.0f} tokens/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, report=report)
            return
        now = time.monotonic()
        if self.show and (now - self.last_line >= self.every_s or step == self.steps):
            self.last_line = now
            left = (now - self.began) / max(1, step - self.start) * (self.steps - step)
            self.say(f"step {step}/{self.steps}  {report}  {_clock(left)} left")

    def say(self, text: str) -> None:
        """Write a line without disturbing the bar."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        elif self.show:
            print(text, file=self.stream, flush=True)

    def __enter__(self) -> "TrainingProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class StopRequest:
    """Whether someone asked this process to stop, and whether all processes know it."""

    def __init__(self) -> None:
        self.made = False
        self.agreed = False


@contextmanager
def stop_on_signals(request: StopRequest) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second one stops at once.

    Look at the request's `made` between steps.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}

    def ask(number: int, frame: FrameType | None) -> None:
        request.made = True
        signal.signal(number, previous[number] or signal.SIG_DFL)

    for number in previous:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)
