"""Exceptions of the student's code, described by kind, message and line."""

from __future__ import annotations

import linecache
from types import CodeType
from typing import Any


class AnswerRaised(Exception):  # noqa: N818 - it describes the student's error
    """The student's code raised: the exception's class, its message, and the line or nothing."""

    def __init__(self, kind: str, text: str, where: str = "") -> None:
        super().__init__(kind, text, where)
        self.kind, self.text, self.where = kind, text, where

    def __str__(self) -> str:
        text = self.kind
        if self.text:
            text += f": {self.text}"
        if self.where:
            text += f" (at `{self.where}`)"
        return text

    @property
    def is_stub(self) -> bool:
        """Whether it is the `raise NotImplementedError` of an exercise not yet begun."""
        # torch raises the same class for a dtype that a kernel lacks: that is an attempt.
        by_torch = "not implemented for" in self.text or "Could not run" in self.text
        return self.kind == "NotImplementedError" and not by_torch


def describe_raised(error: BaseException, answer: Any) -> AnswerRaised:
    """Describe an exception by its message, on one line of 200 characters at most, and the line.

    The line is the innermost one of the file that `answer` is defined in.
    """
    if isinstance(error, AnswerRaised):
        return error
    try:
        text = " ".join(str(error).split())
    except Exception:  # a student's exception class may have a broken __str__
        text = ""
    if len(text) > 200:
        text = text[:197] + "..."
    return AnswerRaised(type(error).__name__, text, _where(error, answer))


def _where(error: BaseException, answer: Any) -> str:
    """Find the innermost line of the student's own file in a traceback, or nothing."""
    code = getattr(answer, "__code__", None)
    for member in vars(answer).values() if isinstance(answer, type) else ():
        code = code or getattr(member, "__code__", None)
    found = ""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if isinstance(code, CodeType) and frame.f_code.co_filename == code.co_filename:
            found = linecache.getline(code.co_filename, trace.tb_lineno, frame.f_globals).strip()
        trace = trace.tb_next
    return found
