"""Corpora, cleaning, tokenizers, mixtures and packing."""

from llmlib.data.bpe import ByteBPE
from llmlib.data.corpora.document import (
    Document,
    corpus_bytes,
    corpus_sha256,
    load_documents,
    save_documents,
)
from llmlib.data.corpora.fixed import fixed_code, fixed_corpus, king_james

__all__ = [
    "ByteBPE",
    "Document",
    "corpus_bytes",
    "corpus_sha256",
    "fixed_code",
    "fixed_corpus",
    "king_james",
    "load_documents",
    "save_documents",
]
