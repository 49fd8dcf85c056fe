"""A program in the sandbox, seen from outside: its pipes, and what its jail reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Literal

KilledFor = Literal["time", "output", "cpu", "memory"]


@dataclass
class SandboxProcess:
    """A program running in the sandbox, for those who talk with it while it runs.

    `isolation`, `returncode` and `killed_for` (`cpu` where the processor limit ended it) are filled
    when `read_status` has seen the report; `stderr` is None where it is thrown away.
    """

    outer: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes] | None
    status: int
    control: int | None
    isolation: frozenset[str] = frozenset()
    returncode: int | None = None
    killed_for: KilledFor | None = None
    _pending: bytes = field(default=b"", repr=False)

    def read_status(self) -> bool:
        """Take in what the jail reports; return False when it has ended and no more will come.

        Raises:
            RuntimeError: If the jail could not be set up.
        """
        chunk = os.read(self.status, 65536)
        self._pending += chunk
        *lines, self._pending = self._pending.split(b"\n")
        for line in lines:
            report = json.loads(line)
            if "failed" in report:
                raise RuntimeError(f"the sandbox could not be set up: {report['failed']}")
            self.isolation = frozenset(report.get("isolation", self.isolation))
            self.returncode = report.get("returncode", self.returncode)
            self.killed_for = report.get("killed_for", self.killed_for)
            if self.returncode == -signal.SIGXCPU:
                self.killed_for = "cpu"
        return bool(chunk)

    def renew_time(self, time_s: int | float) -> None:
        """Replace what is left of the processor limit of all its processes together, in seconds.

        Each process keeps the limit of its start, which is all there is without `processor sum`.
        """
        if self.control is not None:
            with suppress(BrokenPipeError):  # it has ended; its output tells the caller
                os.write(self.control, f"{time_s}\n".encode())

    def stop(self) -> None:
        """End the program and everything it started. It may be called again."""
        if self.control is not None:
            os.close(self.control)  # the jail's second process waits for this
            self.control = None
        try:
            self.outer.wait(timeout=2)
        except subprocess.TimeoutExpired:
            os.killpg(self.outer.pid, signal.SIGKILL)
            self.outer.wait()
        while self.read_status():
            pass
