"""The grader's side: objects of a student's process, used as if they were here.

The checks, the references and the random inputs stay in the grader's process. What crosses over is
arguments in one direction and values in the other, so a student's code can print, patch, exit or
lie about anything on its side: to pass, it has to return the right values.
"""

from __future__ import annotations

import json
import os
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from llmlib.core.processes.sandbox import clock_for, sandboxed
from llmlib.core.processes.sandbox_process import SandboxProcess
from llmlib.core.resources import resource
from llmlib.teaching.raised import AnswerRaised
from llmlib.teaching.wire import HEADER, MAX_MESSAGE, BadMessageError, WireEncoder, decode, unpack

_PACKAGE = Path(__file__).resolve().parents[1]

# The package is loaded by its path: in a clone its folder can be read but the one above it not.
_MAIN = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    "llmlib", {str(_PACKAGE / "__init__.py")!r}, submodule_search_locations=[{str(_PACKAGE)!r}])
sys.modules["llmlib"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["llmlib"])
from llmlib.teaching.student import serve
serve()
"""


class SessionLost(BaseException):
    """The student's process is gone, has used up its time, or speaks nonsense.

    It is no `Exception`, so that evaluating an exercise does not take it for one of the student's.
    """


class Remote:
    """An object in the student's process: call it, or read its attributes.

    What it returns is a copy; what cannot be copied is a `Remote` again.
    """

    def __init__(self, session: Session, handle: int, kind: str) -> None:
        self._session, self._handle, self._kind = session, handle, kind

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it with data, tensors, functions of ours or objects of theirs; return a copy."""
        message = {"op": "call", "on": self._handle}
        return self._session.request(message, args=list(args), kwargs=kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._session.request({"op": "attribute", "on": self._handle, "name": name})

    def __repr__(self) -> str:
        return f"an object of type {self._kind}"

    def seed_remote(self, number: int) -> None:
        """Seed torch in the object's process."""
        self._session.request({"op": "seed", "number": number})

    def measured_remote(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Let the object's process measure a call, by a name among `MEASURES`.

        Raises:
            SessionLost: If it answers with something else than such a measurement.
        """
        message = {"op": "measure", "name": name, "on": self._handle}
        found = self._session.request(message, args=list(args), kwargs=kwargs)
        if not _IS_MEASUREMENT[name](found):
            raise SessionLost("the notebook's code spoke out of turn")
        return found


_IS_MEASUREMENT: dict[str, Callable[[Any], bool]] = {
    "peak": lambda value: type(value) is int and value >= 0,
    "gradient": lambda value: value is None or isinstance(value, Tensor),
    "graph": lambda value: type(value) is bool,
}


class Session:
    """A conversation with one student's process, which runs `llmlib.teaching.student.serve`.

    Args:
        wall_s: The clock behind each time limit, in seconds; `clock_for` sets it by default.
    """

    def __init__(self, process: SandboxProcess, wall_s: int | float | None = None) -> None:
        self.process = process
        self.wall_s = wall_s
        self.deadline = 0.0
        self._functions: list[Callable[..., Any]] = []
        for stream in (process.stdin, process.stdout):
            os.set_blocking(stream.fileno(), False)

    def allow(self, time_s: int | float) -> None:
        """Give the student's process so many processor seconds from now, for all that follows."""
        self.process.renew_time(time_s)
        wall_s = clock_for(time_s) if self.wall_s is None else self.wall_s
        self.deadline = time.monotonic() + wall_s

    def wait_ready(self) -> None:
        """Wait until the notebook's definitions are loaded.

        Raises:
            SessionLost: If that takes too long or fails.
        """
        message, _ = self._receive()
        if message.get("ready") is not True:
            raise SessionLost("the notebook's code spoke out of turn")

    def symbol(self, name: str) -> Any:
        """Fetch what the notebook defines by a name, usually a `Remote`; None where it does not."""
        return self.request({"op": "symbol", "name": name})

    def request(self, message: dict[str, Any], **values: Any) -> Any:
        """Ask for something and wait for the answer, lending our functions meanwhile.

        Args:
            message: JSON.
            **values: What of the request has to be encoded.

        Raises:
            AnswerRaised: If the student's code raised.
            SessionLost: If no proper answer comes.
        """
        self._send(message, **values)
        while True:
            reply, tensors = self._receive()
            try:
                if "call" in reply:
                    function = self._functions[reply["call"]]
                    args = decode(reply["args"], tensors, self._adopt)
                    kwargs = decode(reply["kwargs"], tensors, self._adopt)
                    self._lend(function, args, kwargs)
                elif "raised" in reply:
                    kind, text, where = (" ".join(str(x).split())[:200] for x in reply["raised"])
                    raise AnswerRaised(kind, text, where)
                elif "missing" in reply:
                    return None
                else:
                    return decode(reply["value"], tensors, self._adopt)
            except (BadMessageError, KeyError, IndexError, TypeError, ValueError) as error:
                raise SessionLost("the notebook's code spoke out of turn") from error

    def _lend(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
        try:
            value = function(*args, **kwargs)
        except Exception as error:  # its caller, the student's code, gets to see it
            self._send({"op": "failed", "text": f"{type(error).__name__}: {error}"})
        else:
            self._send({"op": "returned"}, value=value)

    def _export(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Remote):
            return {"handle": value._handle}
        if callable(value):
            self._functions.append(value)
            return {"callback": len(self._functions) - 1}
        raise TypeError(f"a check passes {value!r}, which cannot go to another process")

    def _adopt(self, value: dict[str, Any]) -> Any:
        if "callback" in value:
            return self._functions[value["callback"]]
        return Remote(self, int(value["handle"]), str(value["kind"])[:50])

    def _send(self, message: dict[str, Any], **values: Any) -> None:
        encoder = WireEncoder(self._export)
        encoded = {key: encoder(value) for key, value in values.items()}
        data = memoryview(encoder.pack({**message, **encoded}))
        while data:
            self._wait(self.process.stdin.fileno(), selectors.EVENT_WRITE)
            try:
                data = data[os.write(self.process.stdin.fileno(), data[:65536]) :]
            except BrokenPipeError:
                raise SessionLost(self._why()) from None

    def _receive(self) -> tuple[dict[str, Any], list[Any]]:
        sizes = HEADER.unpack(self._read(HEADER.size))
        if sum(sizes) > MAX_MESSAGE:
            raise SessionLost("the notebook's code returned too much")
        try:
            message, tensors = unpack(self._read(sum(sizes)), sizes)
        except BadMessageError:
            message, tensors = None, []
        if not isinstance(message, dict):
            raise SessionLost("the notebook's code spoke out of turn")
        return message, tensors

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(self.process.stdout.fileno(), selectors.EVENT_READ)
            chunk = os.read(self.process.stdout.fileno(), min(size - len(data), 2**20))
            if not chunk:
                raise SessionLost(self._why())
            data += chunk
        return bytes(data)

    def _wait(self, descriptor: int, event: int) -> None:
        left = self.deadline - time.monotonic()  # even if it never stops sending
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            if left <= 0 or not selector.select(left):
                raise SessionLost("it did not answer in time")

    def _why(self) -> str:
        self.process.stop()
        if self.process.killed_for == "cpu":
            return "it used more processor time than allowed"
        code = self.process.returncode
        return "its process ended" + (f" with exit code {code}" if code is not None else "")


@contextmanager
def session(
    cells: list[str],
    *,
    load_s: int | float,
    time_s: int | float,
    wall_s: int | float | None = None,
    memory_mb: int,
) -> Iterator[Session]:
    """Start a sandboxed process with a notebook's definitions in it.

    Args:
        cells: The sources of its code cells.
        load_s: Processor seconds to load them in.
        time_s: Processor seconds for all that is asked of it afterwards.
        wall_s: As for `Session`.
        memory_mb: Its address space, in MiB.
    """
    try:
        readable = [resource("survey").parent]  # the book's data, in a clone outside the package
    except FileNotFoundError:
        readable = []
    with sandboxed(
        _MAIN,
        time_s=load_s + time_s,
        memory_mb=memory_mb,
        files={"cells.json": json.dumps(cells)},
        readable=readable,
        keep_stderr=False,
    ) as process:
        talk = Session(process, wall_s)
        talk.allow(load_s)
        talk.wait_ready()
        yield talk
