"""From gathered text to text worth training on, every loss accounted.

`Pipeline` runs named steps over a stream of documents and reports what went where; `clean` is the
two-step cleaning that needs no set-up.
"""

from llmlib.data.cleaning.c4 import C4Lines, C4Pages, EnoughSentences, c4_steps
from llmlib.data.cleaning.crawl import made_up_crawl
from llmlib.data.cleaning.funnel import funnel_figure
from llmlib.data.cleaning.gopher import GopherQuality
from llmlib.data.cleaning.hashing import Bags, character_bags, word_bags
from llmlib.data.cleaning.keywords import (
    KeywordFilter,
    WithoutKeywordLines,
    keyword_hits,
)
from llmlib.data.cleaning.language import (
    LANGUAGES,
    LanguageFilter,
    language_messages,
    language_model,
    train_language_model,
)
from llmlib.data.cleaning.linear import LinearClassifier, Recipe
from llmlib.data.cleaning.measures import Score, auc, precision_recall
from llmlib.data.cleaning.parallel import ParallelPipeline
from llmlib.data.cleaning.perplexity import PerplexityFilter, bits_per_byte, train_perplexity_model
from llmlib.data.cleaning.pipeline import (
    Filter,
    Pipeline,
    Step,
    TextFilter,
    TextTransform,
    Transform,
)
from llmlib.data.cleaning.quality import (
    QualityFilter,
    keep_probability,
    reference_texts,
    train_quality_model,
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
from llmlib.data.cleaning.toxicity import ToxicityFilter, is_toxic

__all__ = [
    "Bags",
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
    "KeywordFilter",
    "LANGUAGES",
    "LanguageFilter",
    "LinearClassifier",
    "ParallelPipeline",
    "PerplexityFilter",
    "Pipeline",
    "PipelineReport",
    "QualityFilter",
    "QualityRules",
    "Readable",
    "Recipe",
    "Score",
    "Step",
    "StepAccount",
    "TextFilter",
    "TextTransform",
    "ToxicityFilter",
    "Transform",
    "WithoutKeywordLines",
    "auc",
    "bits_per_byte",
    "c4_steps",
    "character_bags",
    "clean",
    "deduplicate",
    "funnel_figure",
    "is_toxic",
    "keep_probability",
    "keyword_hits",
    "language_messages",
    "language_model",
    "made_up_crawl",
    "merge_reports",
    "precision_recall",
    "quality_step",
    "reference_texts",
    "text_bytes",
    "train_language_model",
    "train_perplexity_model",
    "train_quality_model",
    "word_bags",
]
