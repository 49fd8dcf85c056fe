"""From gathered text to text worth training on, every loss accounted.

`Pipeline` runs named steps over a stream of documents and reports what went where; `clean` is the
two-step cleaning that needs no set-up.
"""

from llmlib.data.cleaning.c4 import C4Lines, C4Pages, EnoughSentences, c4_steps
from llmlib.data.cleaning.funnel import funnel_figure
from llmlib.data.cleaning.gopher import GopherQuality
from llmlib.data.cleaning.keywords import (
    KeywordFilter,
    WithoutKeywordLines,
    keyword_hits,
)
from llmlib.data.cleaning.measures import Interval, Score, auc, precision_recall, wilson
from llmlib.data.cleaning.pipeline import (
    Filter,
    Pipeline,
    Step,
    TextFilter,
    TextTransform,
    Transform,
)
from llmlib.data.cleaning.repetition import GopherRepetition
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
    "C4Lines",
    "C4Pages",
    "CleanCorpus",
    "Dropped",
    "EnoughSentences",
    "ExactDuplicates",
    "Filter",
    "FunnelStep",
    "GopherQuality",
    "GopherRepetition",
    "Interval",
    "KeywordFilter",
    "Pipeline",
    "PipelineReport",
    "QualityRules",
    "Readable",
    "Score",
    "Step",
    "StepAccount",
    "TextFilter",
    "TextTransform",
    "Transform",
    "WithoutKeywordLines",
    "auc",
    "c4_steps",
    "clean",
    "deduplicate",
    "funnel_figure",
    "keyword_hits",
    "merge_reports",
    "precision_recall",
    "quality_step",
    "text_bytes",
    "wilson",
]
