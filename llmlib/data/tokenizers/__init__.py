"""Subword tokenizers beside byte-level BPE: what they learn, how they cut, what they lose."""

from llmlib.data.tokenizers.normalization import BERT_UNCASED, Normalizer
from llmlib.data.tokenizers.protocol import Tokenizer
from llmlib.data.tokenizers.sentencepiece_model import SentencePieceModel
from llmlib.data.tokenizers.unigram import Unigram
from llmlib.data.tokenizers.unigram_training import EMStep, LearntPieces, learn_pieces
from llmlib.data.tokenizers.wordpiece import BERT_SPECIAL, WordPiece

__all__ = [
    "BERT_SPECIAL",
    "BERT_UNCASED",
    "EMStep",
    "LearntPieces",
    "Normalizer",
    "SentencePieceModel",
    "Tokenizer",
    "Unigram",
    "WordPiece",
    "learn_pieces",
]
