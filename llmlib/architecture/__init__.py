"""The decoder and its siblings, pre-trained weights, and counts of a configuration."""

from llmlib.architecture.attention import (
    Attention,
    attention_weights,
    causal_mask,
    scaled_dot_product_attention,
)
from llmlib.architecture.block import Block
from llmlib.architecture.cache import AttentionCache, KVCache, StateCache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context
from llmlib.architecture.feedforward import FeedForward
from llmlib.architecture.norms import RMSNorm
from llmlib.architecture.rope import rope_angles, rope_frequencies
from llmlib.architecture.transformer import Transformer

__all__ = [
    "Attention",
    "AttentionCache",
    "Block",
    "Context",
    "FeedForward",
    "KVCache",
    "ModelConfig",
    "RMSNorm",
    "StateCache",
    "Transformer",
    "attention_weights",
    "causal_mask",
    "rope_angles",
    "rope_frequencies",
    "scaled_dot_product_attention",
]
