"""Where text comes from: pinned packages, the reader's environment, files, the Hub."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.data.corpora.dialogues import conversation_trees
    from llmlib.data.corpora.document import (
        Document,
        corpus_bytes,
        corpus_sha256,
        load_documents,
        save_documents,
    )
    from llmlib.data.corpora.environment import pycode, pydocs
    from llmlib.data.corpora.files import ReadReport, read_files, read_texts
    from llmlib.data.corpora.fixed import fixed_code, fixed_corpus, king_james
    from llmlib.data.corpora.hub import hub_texts
    from llmlib.data.corpora.stories.story_domains import story_domains
    from llmlib.data.corpora.stories.story_world import StoryWorld

__getattr__, __dir__, __all__ = lazy_face(__name__)
