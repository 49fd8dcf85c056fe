"""Generation, inference, prompting, tools, agents and retrieval."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.utilization.generation import generate, stream
    from llmlib.utilization.sampling import (
        GREEDY,
        Sampling,
        apply_temperature,
        choose,
        filter_logits,
        keep_top_k,
        keep_top_p,
    )
    from llmlib.utilization.text import (
        TextTokenizer,
        Utf8Stream,
        decode_stream,
        generate_text,
        stream_text,
    )

__getattr__, __dir__, __all__ = lazy_face(__name__)
