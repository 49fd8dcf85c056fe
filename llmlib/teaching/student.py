"""The student's side of grading: runs inside the sandbox, holds the code, answers calls."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import linecache
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from llmlib.teaching.answers.cells import python_of
from llmlib.teaching.answers.measured import MEASURES
from llmlib.teaching.raised import describe_raised
from llmlib.teaching.wire import HEADER, WireEncoder, decode, unpack

_STATEMENT_S = 2.0  # an assignment that trains a model is not what is graded
_IMPORT_S = 60.0
_TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # as notebooks do
_CLOCK = 10  # seconds by the clock for each processor second, for a statement that sleeps
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@contextmanager
def _alarm(seconds: int | float) -> Iterator[None]:
    """Raise TimeoutError in the block after some processor seconds, or much later by the clock."""
    timers = {signal.ITIMER_PROF: (signal.SIGPROF, seconds)}
    timers[signal.ITIMER_REAL] = (signal.SIGALRM, _CLOCK * seconds)

    def ring(signum: int, frame: object) -> None:
        clock = f"{_CLOCK * seconds:g} s by the clock"
        raise TimeoutError(f"longer than {seconds:g} processor seconds, or {clock}")

    for timer, (number, allowed) in timers.items():
        signal.signal(number, ring)
        signal.setitimer(timer, allowed)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)


def _is_definition(node: ast.stmt) -> bool:
    """Tell whether a statement is an import, a def, a class or a simple assignment."""
    if isinstance(node, (ast.Import, ast.ImportFrom, *_DEFINITIONS)):
        return True
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name) and node.value is not None
    names = (ast.Name, ast.Tuple, ast.List)
    return isinstance(node, ast.Assign) and all(isinstance(t, names) for t in node.targets)


def run_definitions(cells: list[str]) -> dict[str, Any]:
    """Run a notebook's definitions, cell by cell, and return them; one that fails is left out."""
    space: dict[str, Any] = {"__name__": "student", "__builtins__": __builtins__}
    for number, cell in enumerate(cells):
        source, name = python_of(cell), f"<cell {number}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        try:
            body = ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in filter(_is_definition, body):
            slow = isinstance(node, (ast.Import, ast.ImportFrom))
            try:
                code = compile(ast.Module([node], []), name, "exec", _TOP_LEVEL_AWAIT)
                with _alarm(_IMPORT_S if slow else _STATEMENT_S):
                    value = eval(code, space)  # this process is the sandbox's: it exists for this
                    if inspect.iscoroutine(value):
                        asyncio.run(value)
            except (Exception, SystemExit) as error:
                # A name that cannot be computed is missed by whoever uses it, and told there.
                print(f"{name}: {error!r}", file=sys.stderr)
    return space


class _Server:
    """Answer the grader's requests until it hangs up."""

    def __init__(self, space: dict[str, Any], source: BinaryIO, sink: BinaryIO) -> None:
        self.space, self.source, self.sink = space, source, sink
        self.objects: list[Any] = []

    def export(self, value: Any) -> dict[str, Any]:
        """Keep an object here and give the grader a handle."""
        if isinstance(value, _Elsewhere):
            return {"callback": value.number}
        self.objects.append(value)
        return {"handle": len(self.objects) - 1, "kind": type(value).__name__}

    def adopt(self, value: dict[str, Any]) -> Any:
        """Resolve a handle of ours, or stand in for a function of the grader's."""
        if "handle" in value:
            return self.objects[value["handle"]]
        return _Elsewhere(self, value["callback"])

    def send(self, message: dict[str, Any], **values: Any) -> None:
        encoder = WireEncoder(self.export)
        encoded = {key: encoder(value) for key, value in values.items()}
        self.sink.write(encoder.pack({**message, **encoded}))
        self.sink.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for a message and decode its values.

        Raises:
            EOFError: If the grader hung up.
        """
        header = self.source.read(HEADER.size)
        if len(header) < HEADER.size:
            raise EOFError
        sizes = HEADER.unpack(header)
        message, tensors = unpack(self.source.read(sum(sizes)), sizes)
        for key in ("args", "kwargs", "value"):
            if key in message:
                message[key] = decode(message[key], tensors, self.adopt)
        return message

    def serve_until_returned(self) -> Any:
        """Answer requests until a function of the grader's has returned something; return that.

        Raises:
            RuntimeError: If that function raised.
        """
        while True:
            message = self.receive()
            if message["op"] == "returned":
                return message["value"]
            if message["op"] == "failed":
                raise RuntimeError(message["text"])
            self.answer(message)

    def answer(self, message: dict[str, Any]) -> None:
        """Do what a request asks and send the result or the exception."""
        target: Any = None
        try:
            match message["op"]:
                case "seed":
                    torch.manual_seed(message["number"])
                    value = None
                case "symbol":
                    if message["name"] not in self.space:
                        self.send({"missing": message["name"]})
                        return
                    value = self.space[message["name"]]
                case "attribute":
                    target = self.objects[message["on"]]
                    value = getattr(target, message["name"])
                case "measure":
                    target = self.objects[message["on"]]
                    measure = MEASURES[message["name"]]
                    value = measure(target, *message["args"], **message["kwargs"])
                case _:
                    target = self.objects[message["on"]]
                    value = target(*message["args"], **message["kwargs"])
            self.send({}, value=value)
        except (Exception, SystemExit) as error:
            raised = describe_raised(error, target)
            self.send({"raised": [raised.kind, raised.text, raised.where]})


class _Elsewhere:
    """A function that lives with the grader."""

    def __init__(self, server: _Server, number: int) -> None:
        self.server, self.number = server, number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.server.send({"call": self.number}, args=list(args), kwargs=kwargs)
        return self.server.serve_until_returned()


def serve() -> None:
    """Load `cells.json` and answer the grader over what were standard input and output."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):  # what the student's code prints or reads is not the protocol
        os.dup2(nowhere, descriptor)
    torch.set_num_threads(1)
    # A student who imports the checks would grade themselves; this hides them, no more.
    sys.modules["llmlib.teaching.checks"] = None  # pyright: ignore[reportArgumentType]
    cells: list[str] = json.loads(Path("cells.json").read_text(encoding="utf-8"))
    server = _Server(run_definitions(cells), source, sink)
    server.send({"ready": True})
    try:
        server.serve_until_returned()
    except EOFError:
        return
