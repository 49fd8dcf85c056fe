"""Generation, inference, prompting, tools, agents and retrieval."""

from llmlib.utilization.text import TextTokenizer, Utf8Stream, decode_stream

__all__ = ["TextTokenizer", "Utf8Stream", "decode_stream"]
