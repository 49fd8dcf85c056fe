"""From gathered text to text worth training on, every loss accounted.

`Pipeline` runs named steps over a stream of documents and reports what went where; `clean` is the
two-step cleaning that needs no set-up.
"""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.data.cleaning.classifiers.language import (
        LANGUAGES,
        LanguageFilter,
        language_messages,
        language_model,
    )
    from llmlib.data.cleaning.classifiers.measures import auc, precision_recall
    from llmlib.data.cleaning.classifiers.perplexity import (
        PerplexityFilter,
        mean_surprisal,
        train_perplexity_model,
    )
    from llmlib.data.cleaning.classifiers.quality import (
        QualityFilter,
        keep_probability,
        reference_texts,
        train_quality_model,
    )
    from llmlib.data.cleaning.classifiers.toxicity import ToxicityFilter, is_toxic
    from llmlib.data.cleaning.crawl import made_up_crawl
    from llmlib.data.cleaning.funnel import funnel_figure
    from llmlib.data.cleaning.pipeline import Pipeline
    from llmlib.data.cleaning.rules.c4 import C4Lines, c4_steps
    from llmlib.data.cleaning.rules.gopher_quality import GopherQuality
    from llmlib.data.cleaning.rules.gopher_repetition import GopherRepetition
    from llmlib.data.cleaning.rules.keywords import KeywordFilter, WithoutKeywordLines, keyword_hits
    from llmlib.data.cleaning.scale.clean_shards import clean_shards
    from llmlib.data.cleaning.scale.parallel import ParallelPipeline
    from llmlib.data.cleaning.steps import Readable, clean
    from llmlib.data.corpora.dropped import Dropped
    from llmlib.data.deduplication.exact import ExactDuplicates

__getattr__, __dir__, __all__ = lazy_face(__name__)
