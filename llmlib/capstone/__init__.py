"""One command from raw text to a trained, evaluated language model."""

from llmlib.capstone.presets import PRESETS, Corpus, Preset, preset
from llmlib.capstone.run import run

__all__ = ["PRESETS", "Corpus", "Preset", "preset", "run"]
