"""Published weights: read from GGUF files and safetensors folders, written for transformers."""

from llmlib.architecture.pretrained.loading import load_pretrained, load_tokenizer
from llmlib.architecture.pretrained.saving import save_pretrained

__all__ = ["load_pretrained", "load_tokenizer", "save_pretrained"]
