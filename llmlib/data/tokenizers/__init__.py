"""Tokenizers: what they learn, how they cut, what they lose."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE
    from llmlib.data.tokenizers.bpe.character_bpe import CharacterBPE
    from llmlib.data.tokenizers.files.pretrained_bpe import PretrainedBPE
    from llmlib.data.tokenizers.files.rank_file import RankBPE
    from llmlib.data.tokenizers.files.sentencepiece_tokenizer import SentencePieceModel
    from llmlib.data.tokenizers.normalization import Normalizer
    from llmlib.data.tokenizers.pretokenization import pretokenize
    from llmlib.data.tokenizers.protocol import Tokenizer, TrainableTokenizer
    from llmlib.data.tokenizers.quality import TokenizerQuality, tokenizer_quality
    from llmlib.data.tokenizers.unigram.training import learn_pieces
    from llmlib.data.tokenizers.unigram.unigram import Unigram
    from llmlib.data.tokenizers.wordpiece import WordPiece

__getattr__, __dir__, __all__ = lazy_face(__name__)
