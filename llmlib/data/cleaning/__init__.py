"""From gathered text to text worth training on, every loss accounted.

`Pipeline` runs named steps over a stream of documents and reports what went where; `clean` is the
two-step cleaning that needs no set-up.
"""

from llmlib.data.cleaning.funnel import funnel_figure
from llmlib.data.cleaning.pipeline import (
    Filter,
    Pipeline,
    Step,
    TextFilter,
    TextTransform,
    Transform,
)
from llmlib.data.cleaning.report import PipelineReport, StepAccount, merge_reports, text_bytes
from llmlib.data.cleaning.rules import (
    CleanCorpus,
    Dropped,
    FunnelStep,
    QualityRules,
    clean,
    deduplicate,
)
from llmlib.data.cleaning.steps import ExactDuplicates, Readable, quality_step

__all__ = [
    "CleanCorpus",
    "Dropped",
    "ExactDuplicates",
    "Filter",
    "FunnelStep",
    "Pipeline",
    "PipelineReport",
    "QualityRules",
    "Readable",
    "Step",
    "StepAccount",
    "TextFilter",
    "TextTransform",
    "Transform",
    "clean",
    "deduplicate",
    "funnel_figure",
    "merge_reports",
    "quality_step",
    "text_bytes",
]
