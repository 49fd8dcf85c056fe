"""Exercises with diagnoses, grading, progress and widgets: what the notebooks teach with."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import exercises
    from .attention_map import draw_attention, explore_attention
    from .authoring import Exercise, Outcome, WrongAnswer, args, expect, peak_bytes
    from .widgets import with_controls, with_slider

__all__ = [
    "Exercise",
    "Outcome",
    "WrongAnswer",
    "args",
    "draw_attention",
    "exercises",
    "expect",
    "explore_attention",
    "peak_bytes",
    "with_controls",
    "with_slider",
]

# Loaded on first use: listing progress needs no torch.
_HOMES = {
    "attention_map": ("draw_attention", "explore_attention"),
    "authoring": ("Exercise", "Outcome", "WrongAnswer", "args", "expect", "peak_bytes"),
    "widgets": ("with_controls", "with_slider"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "exercises":
        return importlib.import_module(".exercises", __name__)
    if name in _HOME_OF:
        return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
