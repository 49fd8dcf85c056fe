"""Subword tokenizers beside byte-level BPE: what they learn, how they cut, what they lose."""

from llmlib.data.tokenizers.normalization import BERT_UNCASED, Normalizer
from llmlib.data.tokenizers.protocol import Tokenizer
from llmlib.data.tokenizers.wordpiece import BERT_SPECIAL, WordPiece

__all__ = [
    "BERT_SPECIAL",
    "BERT_UNCASED",
    "Normalizer",
    "Tokenizer",
    "WordPiece",
]
