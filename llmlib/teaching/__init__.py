"""Exercises with diagnoses, grading, progress and widgets: what the notebooks teach with."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import exercises
    from .authoring import Exercise, Outcome, WrongAnswer, expect

__all__ = ["Exercise", "Outcome", "WrongAnswer", "exercises", "expect"]


# Loaded on first use: listing progress needs no torch.
def __getattr__(name: str) -> Any:
    if name == "exercises":
        return importlib.import_module(".exercises", __name__)
    if name in __all__:
        return getattr(importlib.import_module(".authoring", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
