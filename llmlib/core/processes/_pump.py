"""Feed a sandboxed program and collect what it prints, within limits."""

import os
import selectors
import time
from typing import Literal

from llmlib.core.processes.sandbox_process import KilledFor, SandboxProcess


class Pump:
    """Feed a program and collect what it prints, until it ends or meets a limit."""

    def __init__(self, process: SandboxProcess, stdin: bytes, max_output: int) -> None:
        assert process.stderr is not None
        self.process, self.stdin, self.max_output = process, memoryview(stdin), max_output
        self.streams = {"out": process.stdout, "err": process.stderr}
        self.collected = {name: bytearray() for name in self.streams}
        self.selector = selectors.DefaultSelector()
        for name, stream in self.streams.items():
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
                    self._feed()
                elif self._collect(key.data) == b"":
                    self.selector.unregister(key.fileobj)
            if limit := self._overflow():
                return limit

    def _overflow(self) -> Literal["output"] | None:
        too_much = any(len(data) > self.max_output for data in self.collected.values())
        return "output" if too_much else None

    def _feed(self) -> None:
        try:
            self.stdin = self.stdin[os.write(self.process.stdin.fileno(), self.stdin[:65536]) :]
        except BrokenPipeError:  # it does not read its input: its choice
            self.stdin = self.stdin[:0]
        if not self.stdin:
            self.selector.unregister(self.process.stdin)
            self.process.stdin.close()

    def _collect(self, name: str) -> bytes | None:
        """Take what a stream holds: nothing at its end, None if there is nothing yet."""
        try:
            chunk = os.read(self.streams[name].fileno(), 65536)
        except BlockingIOError:
            return None
        self.collected[name] += chunk
        return chunk

    def _drain(self) -> None:
        """Take what is left in the pipes, without waiting for whoever still holds them."""
        for name in self.streams:
            while self._overflow() is None and self._collect(name):
                pass

    def text(self, name: str) -> str:
        """Return what was collected, up to the limit, with a note where more was cut off."""
        data = bytes(self.collected[name])
        text = data[: self.max_output].decode(errors="replace")
        return text + "\n[output cut off here]\n" * (len(data) > self.max_output)
