"""Corpora, cleaning, tokenizers, mixtures and packing."""

from llmlib.data.at_scale import clean_shards
from llmlib.data.best_fit import pack_best_fit
from llmlib.data.bpe import ByteBPE
from llmlib.data.cleaning import (
    CleanCorpus,
    Dropped,
    ExactDuplicates,
    FunnelStep,
    GopherQuality,
    GopherRepetition,
    KeywordFilter,
    LanguageFilter,
    PerplexityFilter,
    Pipeline,
    PipelineReport,
    QualityFilter,
    QualityRules,
    Readable,
    ToxicityFilter,
    c4_steps,
    clean,
    deduplicate,
    funnel_figure,
    merge_reports,
)
from llmlib.data.corpora.dialogues import conversation_trees
from llmlib.data.corpora.document import (
    Document,
    corpus_bytes,
    corpus_sha256,
    load_documents,
    save_documents,
)
from llmlib.data.corpora.environment import pycode, pydocs
from llmlib.data.corpora.files import ReadReport, read_files
from llmlib.data.corpora.fixed import fixed_code, fixed_corpus, king_james
from llmlib.data.corpora.hub import hub_texts
from llmlib.data.corpora.story_domains import story_domains
from llmlib.data.corpora.story_world import StoryWorld
from llmlib.data.corpora.texts import read_texts
from llmlib.data.deduplication import (
    decontaminate,
    deduplicate_exact,
    deduplicate_near,
    deduplicate_passages,
    remove_repeated_substrings,
)
from llmlib.data.loader import TokenLoader
from llmlib.data.mixing import Curriculum, ImportanceModel, MixtureSampler, Stage, doremi
from llmlib.data.packing import PackedTokens, TokenSource, document_ids, pack
from llmlib.data.pretokenization import pretokenize
from llmlib.data.privacy import RedactStep, find_personal, redact
from llmlib.data.shards import TokenShards, write_shards
from llmlib.data.splits import Split, shared_share, split_by_module
from llmlib.data.tokenizer_files import PretrainedBPE
from llmlib.data.tokenizers import (
    CharacterBPE,
    Normalizer,
    RankBPE,
    SentencePieceModel,
    Tokenizer,
    TokenizerQuality,
    Unigram,
    WordPiece,
    tokenizer_quality,
)

__all__ = [
    "ByteBPE",
    "CharacterBPE",
    "CleanCorpus",
    "Curriculum",
    "Document",
    "Dropped",
    "ExactDuplicates",
    "FunnelStep",
    "GopherQuality",
    "GopherRepetition",
    "ImportanceModel",
    "KeywordFilter",
    "LanguageFilter",
    "MixtureSampler",
    "Normalizer",
    "PackedTokens",
    "PerplexityFilter",
    "Pipeline",
    "PipelineReport",
    "PretrainedBPE",
    "QualityFilter",
    "QualityRules",
    "RankBPE",
    "ReadReport",
    "Readable",
    "RedactStep",
    "SentencePieceModel",
    "Split",
    "Stage",
    "StoryWorld",
    "TokenLoader",
    "TokenShards",
    "TokenSource",
    "Tokenizer",
    "TokenizerQuality",
    "ToxicityFilter",
    "Unigram",
    "WordPiece",
    "c4_steps",
    "clean",
    "clean_shards",
    "conversation_trees",
    "corpus_bytes",
    "corpus_sha256",
    "decontaminate",
    "deduplicate",
    "deduplicate_exact",
    "deduplicate_near",
    "deduplicate_passages",
    "document_ids",
    "doremi",
    "find_personal",
    "fixed_code",
    "fixed_corpus",
    "funnel_figure",
    "hub_texts",
    "king_james",
    "load_documents",
    "merge_reports",
    "pack",
    "pack_best_fit",
    "pretokenize",
    "pycode",
    "pydocs",
    "read_files",
    "read_texts",
    "redact",
    "remove_repeated_substrings",
    "save_documents",
    "shared_share",
    "split_by_module",
    "story_domains",
    "tokenizer_quality",
    "write_shards",
]
