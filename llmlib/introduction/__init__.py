"""n-grams and early neural language models."""

from llmlib.introduction.kneser_ney import KneserNey, absolute_discount, modified_discounts
from llmlib.introduction.ngram import AddK, JelinekMercer, MaximumLikelihood, NgramModel

__all__ = [
    "AddK",
    "JelinekMercer",
    "KneserNey",
    "MaximumLikelihood",
    "NgramModel",
    "absolute_discount",
    "modified_discounts",
]
