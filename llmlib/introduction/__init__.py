"""n-grams and early neural language models."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.introduction.kneser_ney import KneserNey, absolute_discount, modified_discounts
    from llmlib.introduction.ngram import AddK, JelinekMercer, MaximumLikelihood, NgramModel

__getattr__, __dir__, __all__ = lazy_face(__name__)
