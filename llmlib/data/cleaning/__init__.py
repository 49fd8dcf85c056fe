"""From gathered text to text worth training on, every loss accounted."""

from llmlib.data.cleaning.rules import (
    CleanCorpus,
    Dropped,
    FunnelStep,
    QualityRules,
    clean,
    deduplicate,
)

__all__ = ["CleanCorpus", "Dropped", "FunnelStep", "QualityRules", "clean", "deduplicate"]
