"""Cleaned text on its way into training: shards on disk, packed rows, splits and batches."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.data.stream.best_fit_packing import pack_best_fit
    from llmlib.data.stream.loader import TokenLoader
    from llmlib.data.stream.packing import PackedTokens, TokenSource, document_ids, pack
    from llmlib.data.stream.shards import TokenShards, write_shards
    from llmlib.data.stream.splits import Split, shared_share, split_by_module

__getattr__, __dir__, __all__ = lazy_face(__name__)
