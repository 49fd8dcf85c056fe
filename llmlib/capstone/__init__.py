"""One command from raw text to a trained, evaluated language model."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.capstone.end_to_end import run
    from llmlib.capstone.presets import PRESETS, Preset, TextSource, preset

__getattr__, __dir__, __all__ = lazy_face(__name__)
