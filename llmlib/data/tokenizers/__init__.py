"""Subword tokenizers beside byte-level BPE: what they learn, how they cut, what they lose."""

from llmlib.data.tokenizers.character_bpe import CharacterBPE
from llmlib.data.tokenizers.cutting import CUTS, bert_words, split_digits
from llmlib.data.tokenizers.normalization import (
    BERT_UNCASED,
    Normalizer,
    byte_pieces,
    escape_spaces,
    independent_segments,
    unescape_spaces,
)
from llmlib.data.tokenizers.protocol import Tokenizer
from llmlib.data.tokenizers.quality import Encoder, TokenizerQuality, tokenizer_quality
from llmlib.data.tokenizers.rank_file import RankBPE
from llmlib.data.tokenizers.sentencepiece_model import SentencePieceModel
from llmlib.data.tokenizers.unigram import Unigram
from llmlib.data.tokenizers.unigram_training import EMStep, LearntPieces, learn_pieces
from llmlib.data.tokenizers.wordpiece import BERT_SPECIAL, WordPiece

__all__ = [
    "BERT_SPECIAL",
    "BERT_UNCASED",
    "CUTS",
    "CharacterBPE",
    "EMStep",
    "Encoder",
    "LearntPieces",
    "Normalizer",
    "RankBPE",
    "SentencePieceModel",
    "Tokenizer",
    "TokenizerQuality",
    "Unigram",
    "WordPiece",
    "bert_words",
    "byte_pieces",
    "escape_spaces",
    "independent_segments",
    "learn_pieces",
    "split_digits",
    "tokenizer_quality",
    "unescape_spaces",
]
