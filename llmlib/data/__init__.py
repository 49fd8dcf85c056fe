"""Corpora, cleaning, tokenizers, mixtures and packing."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.data.cleaning.pipeline import Pipeline
    from llmlib.data.corpora.document import Document
    from llmlib.data.corpora.environment import pydocs
    from llmlib.data.corpora.files import read_files
    from llmlib.data.corpora.fixed import fixed_code, fixed_corpus, king_james
    from llmlib.data.corpora.hub import hub_texts
    from llmlib.data.stream.loader import TokenLoader
    from llmlib.data.stream.packing import pack
    from llmlib.data.stream.shards import TokenShards, write_shards
    from llmlib.data.stream.splits import split_by_module
    from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE
    from llmlib.data.tokenizers.protocol import Tokenizer

__getattr__, __dir__, __all__ = lazy_face(__name__)
