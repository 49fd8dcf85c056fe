"""Generation, inference, prompting, tools, agents and retrieval."""

from llmlib.utilization.generate import generate, stream
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

__all__ = [
    "GREEDY",
    "Sampling",
    "TextTokenizer",
    "Utf8Stream",
    "apply_temperature",
    "choose",
    "decode_stream",
    "filter_logits",
    "generate",
    "generate_text",
    "keep_top_k",
    "keep_top_p",
    "stream",
    "stream_text",
]
