"""The decoder and its siblings, pre-trained weights, and counts of a configuration."""

from llmlib.architecture.attention import (
    Attention,
    attention_weights,
    causal_mask,
    scaled_dot_product_attention,
)
from llmlib.architecture.cache import KVCache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.feedforward import FeedForward
from llmlib.architecture.norms import RMSNorm
from llmlib.architecture.rope import rope_angles, rope_frequencies
from llmlib.architecture.transformer import Block, Transformer

__all__ = [
    "Attention",
    "Block",
    "FeedForward",
    "KVCache",
    "ModelConfig",
    "RMSNorm",
    "Transformer",
    "attention_weights",
    "causal_mask",
    "rope_angles",
    "rope_frequencies",
    "scaled_dot_product_attention",
]
