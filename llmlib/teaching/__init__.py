"""Exercises with diagnoses, grading, progress and widgets: what the notebooks teach with."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.teaching.answers.measured import peak_bytes
    from llmlib.teaching.attention_map import draw_attention, explore_attention
    from llmlib.teaching.authoring import Exercise, Outcome, WrongAnswer, args, expect
    from llmlib.teaching.widgets import with_controls, with_slider

__getattr__, __dir__, __all__ = lazy_face(__name__)
