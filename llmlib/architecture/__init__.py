"""The decoder and its siblings, pre-trained weights, and counts of a configuration."""

from llmlib.architecture.attention.flash import flash_attention
from llmlib.architecture.attention.grouping import group_heads
from llmlib.architecture.attention.latent import LatentAttention
from llmlib.architecture.attention.multihead import (
    Attention,
    attention_weights,
    causal_mask,
    scaled_dot_product_attention,
)
from llmlib.architecture.attention.paged import PagedCache
from llmlib.architecture.attention.sparse import sparse_mask
from llmlib.architecture.block import Block
from llmlib.architecture.cache import AttentionCache, KVCache, StateCache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context
from llmlib.architecture.encoder_decoder import EncoderDecoder
from llmlib.architecture.experts import MixtureOfExperts
from llmlib.architecture.feedforward import FeedForward
from llmlib.architecture.layout import input_major
from llmlib.architecture.long_context.memory_cache import MemoryCache
from llmlib.architecture.long_context.rolling_cache import RollingCache
from llmlib.architecture.norms import RMSNorm
from llmlib.architecture.positions.rope import rope_angles, rope_frequencies
from llmlib.architecture.positions.rope_scaling import rope_table
from llmlib.architecture.presets import PRESETS, Preset
from llmlib.architecture.pretrained import load_pretrained, load_tokenizer, save_pretrained
from llmlib.architecture.transformer import Transformer

__all__ = [
    "Attention",
    "AttentionCache",
    "Block",
    "Context",
    "EncoderDecoder",
    "FeedForward",
    "KVCache",
    "LatentAttention",
    "MemoryCache",
    "MixtureOfExperts",
    "ModelConfig",
    "PRESETS",
    "PagedCache",
    "Preset",
    "RMSNorm",
    "RollingCache",
    "StateCache",
    "Transformer",
    "attention_weights",
    "causal_mask",
    "flash_attention",
    "group_heads",
    "input_major",
    "load_pretrained",
    "load_tokenizer",
    "rope_angles",
    "rope_frequencies",
    "rope_table",
    "save_pretrained",
    "scaled_dot_product_attention",
    "sparse_mask",
]
