"""Published weights: read from GGUF files and safetensors folders, written for transformers."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.architecture.pretrained.loading import load_pretrained, load_tokenizer
    from llmlib.architecture.pretrained.saving import save_pretrained

__getattr__, __dir__, __all__ = lazy_face(__name__)
