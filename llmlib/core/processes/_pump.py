"""Feed a sandboxed program and collect what it prints, within limits."""

from __future__ import annotations

import os
import selectors
import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from llmlib.core.processes.sandbox import SandboxProcess

KilledFor = Literal["time", "output", "cpu", "memory"]


class Pump:
    """Feed a program and collect what it prints, until it ends or meets a limit."""

    def __init__(self, process: SandboxProcess, stdin: bytes, max_output: int) -> None:
        assert process.stderr is not None
        self.process, self.stdin, self.max_output = process, memoryview(stdin), max_output
        self.collected = {"out": bytearray(), "err": bytearray()}
        self.selector = selectors.DefaultSelector()
        for stream, name in ((process.stdout, "out"), (process.stderr, "err")):
            os.set_blocking(stream.fileno(), False)
            self.selector.register(stream, selectors.EVENT_READ, name)
        os.set_blocking(process.stdin.fileno(), False)
        self.selector.register(process.stdin, selectors.EVENT_WRITE, "in")
        self.selector.register(process.status, selectors.EVENT_READ, "status")

    def run(self, deadline: float) -> KilledFor | None:
        """Pump until the end; return the limit that was met, None for an end of its own."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return "time"
            for key, _ in self.selector.select(left):
                if key.data == "status":
                    if not self.process.read_status():
                        self._drain()
                        return self._overflow()
                elif key.data == "in":
                    self._feed(key.fileobj)
                elif not self._collect(key.fileobj, key.data):
                    self.selector.unregister(key.fileobj)
            if limit := self._overflow():
                return limit

    def _overflow(self) -> Literal["output"] | None:
        too_much = any(len(data) > self.max_output for data in self.collected.values())
        return "output" if too_much else None

    def _feed(self, stream: object) -> None:
        try:
            self.stdin = self.stdin[os.write(self.process.stdin.fileno(), self.stdin[:65536]) :]
        except BrokenPipeError:  # it does not read its input: its choice
            self.stdin = self.stdin[:0]
        if not self.stdin:
            self.selector.unregister(self.process.stdin)
            self.process.stdin.close()

    def _collect(self, stream: object, name: str) -> bool:
        source = self.process.stdout if name == "out" else self.process.stderr
        assert source is not None
        try:
            chunk = os.read(source.fileno(), 65536)
        except BlockingIOError:
            return True
        self.collected[name] += chunk
        return bool(chunk)

    def _drain(self) -> None:
        """Take what is left in the pipes, without waiting for whoever still holds them."""
        for key in list(self.selector.get_map().values()):
            if key.data in ("out", "err"):
                while self._overflow() is None:
                    before = len(self.collected[key.data])
                    if not self._collect(key.fileobj, key.data):
                        break
                    if len(self.collected[key.data]) == before:
                        break

    def text(self, name: str) -> str:
        """Return what was collected, up to the limit, with a note where more was cut off."""
        data = bytes(self.collected[name])
        text = data[: self.max_output].decode(errors="replace")
        return text + "\n[output cut off here]\n" * (len(data) > self.max_output)
