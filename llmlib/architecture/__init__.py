"""The decoder and its siblings, pre-trained weights, and counts of a configuration."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.architecture.attention.flash import flash_attention
    from llmlib.architecture.attention.grouping import group_heads
    from llmlib.architecture.attention.latent import LatentAttention
    from llmlib.architecture.attention.multihead import (
        Attention,
        attention_weights,
        causal_mask,
        scaled_dot_product_attention,
    )
    from llmlib.architecture.attention.sparse_masks import sparse_mask
    from llmlib.architecture.block import Block
    from llmlib.architecture.caches.base import AttentionCache
    from llmlib.architecture.caches.kv_cache import KVCache
    from llmlib.architecture.caches.memory_cache import MemoryCache
    from llmlib.architecture.caches.paged_cache import PagedCache
    from llmlib.architecture.caches.rolling_cache import RollingCache
    from llmlib.architecture.caches.state_cache import StateCache
    from llmlib.architecture.config import ModelConfig
    from llmlib.architecture.context import Context, Layout
    from llmlib.architecture.encoder_decoder import EncoderDecoder
    from llmlib.architecture.experts.mixture_of_experts import MixtureOfExperts
    from llmlib.architecture.feedforward import FeedForward
    from llmlib.architecture.kernels.input_major import input_major
    from llmlib.architecture.norms import RMSNorm
    from llmlib.architecture.positions.rope import rope_angles, rope_frequencies
    from llmlib.architecture.positions.rope_scaling import rope_table
    from llmlib.architecture.presets import PUBLISHED_MODELS, PublishedModel
    from llmlib.architecture.pretrained.loading import load_pretrained, load_tokenizer
    from llmlib.architecture.pretrained.saving import save_pretrained
    from llmlib.architecture.transformer import Transformer

__getattr__, __dir__, __all__ = lazy_face(__name__)
