"""Corpora, cleaning, tokenizers, mixtures and packing."""

from llmlib.data.bpe import ByteBPE
from llmlib.data.cleaning import CleanCorpus, Dropped, FunnelStep, QualityRules, clean, deduplicate
from llmlib.data.corpora.document import (
    Document,
    corpus_bytes,
    corpus_sha256,
    load_documents,
    save_documents,
)
from llmlib.data.corpora.environment import pycode, pydocs
from llmlib.data.corpora.fixed import fixed_code, fixed_corpus, king_james
from llmlib.data.corpora.hub import hub_texts
from llmlib.data.corpora.texts import read_texts
from llmlib.data.loader import TokenLoader
from llmlib.data.packing import PackedTokens, TokenSource, document_ids, pack
from llmlib.data.pretokenization import pretokenize
from llmlib.data.shards import TokenShards, write_shards
from llmlib.data.splits import Split, shared_share, split_by_module
from llmlib.data.tokenizer_files import PretrainedBPE

__all__ = [
    "ByteBPE",
    "CleanCorpus",
    "Document",
    "Dropped",
    "FunnelStep",
    "PackedTokens",
    "PretrainedBPE",
    "QualityRules",
    "Split",
    "TokenLoader",
    "TokenShards",
    "TokenSource",
    "clean",
    "corpus_bytes",
    "corpus_sha256",
    "deduplicate",
    "document_ids",
    "fixed_code",
    "fixed_corpus",
    "hub_texts",
    "king_james",
    "load_documents",
    "pack",
    "pretokenize",
    "pycode",
    "pydocs",
    "read_texts",
    "save_documents",
    "shared_share",
    "split_by_module",
    "write_shards",
]
