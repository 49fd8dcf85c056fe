"""The published models of the survey's architecture table, and a few that came after, as presets.

Each is a `ModelConfig` (T5 also has an encoder). A comment says what its paper leaves out and what
stands here instead; where a width is only implied by the published size, it says so.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.encoder_decoder import EncoderDecoder
from llmlib.architecture.transformer import Transformer


@dataclass(frozen=True)
class PublishedModel:
    """A published model: its configuration, size and paper."""

    name: str
    """As the paper writes it."""
    config: ModelConfig
    parameters: float
    """Number of parameters as published."""
    source: str
    n_encoder_layers: int | None = None
    """Layers of the encoder; None for a decoder alone."""

    def build(self, device: str | torch.device = "meta") -> nn.Module:
        """Build the `Transformer`, or T5's `EncoderDecoder`; on `meta` it has shapes, no memory."""
        with torch.device(device):
            if self.n_encoder_layers is None:
                return Transformer(self.config)
            return EncoderDecoder(self.config, self.n_encoder_layers)

    def scaled(
        self,
        *,
        d_model: int,
        n_layers: int,
        vocab_size: int,
        max_seq_len: int,
        head_dim: int = 32,
        **changes: Any,
    ) -> ModelConfig:
        """Return a small configuration with the same choices and proportions.

        Query heads per width, query heads per key/value head, the feed-forward layer's width as a
        multiple of `d_model` and a window's share of the context are kept, rounded.
        """
        full = self.config
        widening = full.n_heads * full.head_dim / full.d_model
        groups = max(1, round(d_model * widening / head_dim / full.group_size))
        n_heads = groups * full.group_size
        if full.n_kv_heads == 1 or n_heads * head_dim > 2 * d_model * widening:
            n_heads, groups = max(1, round(d_model * widening / head_dim)), 1
        if full.group_size == 1:
            groups = n_heads
        fields: dict[str, Any] = {
            "d_model": d_model,
            "n_layers": n_layers,
            "vocab_size": vocab_size,
            "max_seq_len": max_seq_len,
            "rope_original_len": max_seq_len,
            "n_heads": n_heads,
            "n_kv_heads": groups,
            "head_dim": head_dim,
            "d_ff": max(8, round(full.d_ff / full.d_model * d_model / 8) * 8),
        }
        if full.window:
            fields["window"] = max(1, round(full.window / full.max_seq_len * max_seq_len))
        return full.replace(**{**fields, **changes})


# GPT-2's choices, which GPT-3, PanGu-alpha, OPT, MT-NLG, Galactica and Jurassic-1 keep.
_GPT: dict[str, Any] = {
    "norm": "layer",
    "activation": "gelu",
    "position": "learned",
    "bias": True,
}
# LLaMA's: pre-norm RMSNorm, SwiGLU and RoPE are the defaults; no biases, untied matrices.
_LLAMA: dict[str, Any] = {"tie_embeddings": False}

# d_ff = 4 d_model and the head size from the paper's section 2.1; vocabulary and tied embeddings
# are GPT-2's, whose model it reuses. Dense and locally banded layers alternate; the band's width is
# not published: 256 is ours.
GPT_3 = PublishedModel(
    "GPT-3",
    ModelConfig(
        **_GPT, vocab_size=50257, d_model=12288, n_layers=96, n_heads=96, max_seq_len=2048,
        attention="window", window=256, full_every=2,
    ),
    175e9,
    "Brown et al. 2020, arXiv:2005.14165",
)  # fmt: skip
# The query layer on top of the last layer is left out: it is one layer with a learned query.
PANGU_ALPHA = PublishedModel(
    "PanGu-α",
    ModelConfig(
        **_GPT, vocab_size=40000, d_model=16384, n_layers=64, n_heads=128, max_seq_len=1024
    ),
    207e9,
    "Zeng et al. 2021, arXiv:2104.12369",
)
# Vocabulary (GPT-2's, extended and padded) and tied embeddings from the released configuration.
OPT = PublishedModel(
    "OPT",
    ModelConfig(
        **{**_GPT, "activation": "relu"}, vocab_size=50272, d_model=12288, n_layers=96, n_heads=96,
        max_seq_len=2048,
    ),
    175e9,
    "Zhang et al. 2022, arXiv:2205.01068",
)  # fmt: skip
# One norm before both sublayers, one key/value head, no biases in linear layers and norms; the head
# is wider than d_model / n_heads: 48 x 256 = 12288.
PALM = PublishedModel(
    "PaLM",
    ModelConfig(
        vocab_size=256000, d_model=18432, n_layers=118, n_heads=48, n_kv_heads=1, head_dim=256,
        d_ff=73728, max_seq_len=2048, norm="layer", parallel=True,
    ),
    540e9,
    "Chowdhery et al. 2022, arXiv:2204.02311",
)  # fmt: skip
BLOOM = PublishedModel(
    "BLOOM",
    ModelConfig(
        **{**_GPT, "position": "alibi"}, vocab_size=250880, d_model=14336, n_layers=70,
        n_heads=112, max_seq_len=2048, embedding_norm=True,
    ),
    176e9,
    "Scao et al. 2022, arXiv:2211.05100",
)  # fmt: skip
# The paper names no norm, activation or positions: Megatron's GPT has these. The feed-forward width
# is implied by the size.
MT_NLG = PublishedModel(
    "MT-NLG",
    ModelConfig(
        **_GPT, vocab_size=50257, d_model=20480, n_layers=105, n_heads=128, max_seq_len=2048
    ),
    530e9,
    "Smith et al. 2022, arXiv:2201.11990",
)
# Transformer-XL positions add one d_model x d_model matrix a layer, without which the size would be
# 259 B. The papers name no activation and no biases: GeLU and none are ours.
GOPHER = PublishedModel(
    "Gopher",
    ModelConfig(
        vocab_size=32000, d_model=16384, n_layers=80, n_heads=128, d_ff=65536, max_seq_len=2048,
        activation="gelu", position="relative",
    ),
    280e9,
    "Rae et al. 2021, arXiv:2112.11446",
)  # fmt: skip
# Gopher's set-up, its context included, which the paper does not repeat.
CHINCHILLA = PublishedModel(
    "Chinchilla",
    GOPHER.config.replace(d_model=8192, n_heads=64, n_kv_heads=64, d_ff=32768),
    70e9,
    "Hoffmann et al. 2022, arXiv:2203.15556",
)
# No biases, in the linear layers or the norms; the width of the feed-forward layer is implied.
GALACTICA = PublishedModel(
    "Galactica",
    ModelConfig(
        **{**_GPT, "bias": False}, vocab_size=50000, d_model=10240, n_layers=96, n_heads=80,
        max_seq_len=2048,
    ),
    120e9,
    "Taylor et al. 2022, arXiv:2211.09085",
)  # fmt: skip
# 128 heads of 128 are twice d_model. The paper names no norm, place, bias or context: pre-norm
# RMSNorm, none and 2048 are ours. Its size is given without embeddings (0.26 B).
LAMDA = PublishedModel(
    "LaMDA",
    ModelConfig(
        vocab_size=32000, d_model=8192, n_layers=64, n_heads=128, head_dim=128, d_ff=65536,
        max_seq_len=2048, activation="geglu", position="t5",
    ),
    137e9,
    "Thoppilan et al. 2022, arXiv:2201.08239",
)  # fmt: skip
# The vocabulary is rounded in the paper; the feed-forward width is implied by the size.
JURASSIC_1 = PublishedModel(
    "Jurassic-1",
    ModelConfig(
        **_GPT, vocab_size=256000, d_model=13824, n_layers=76, n_heads=96, max_seq_len=2048
    ),
    178e9,
    "Lieber et al. 2021, Jurassic-1: Technical details and evaluation",
)
# The survey's table ticks biases for LLaMA; it has none. d_ff = 8/3 d_model, rounded up to 256.
LLAMA = PublishedModel(
    "LLaMA",
    ModelConfig(
        **_LLAMA, vocab_size=32000, d_model=8192, n_layers=80, n_heads=64, d_ff=22016,
        max_seq_len=2048,
    ),
    65e9,
    "Touvron et al. 2023, arXiv:2302.13971",
)  # fmt: skip
GLM_130B = PublishedModel(
    "GLM-130B",
    ModelConfig(
        vocab_size=150528, d_model=12288, n_layers=70, n_heads=96, d_ff=32768, max_seq_len=2048,
        norm="layer", norm_placement="deepnorm", activation="geglu", bias=True, mask="prefix",
    ),
    130e9,
    "Zeng et al. 2022, arXiv:2210.02414",
)  # fmt: skip
# Version 1.0. 128 heads of 128 are 16 times d_model; scores are not scaled. 11 B is rounded: the
# same shape counted by the released code is 11.3 B.
T5 = PublishedModel(
    "T5",
    ModelConfig(
        vocab_size=32128, d_model=1024, n_layers=24, n_heads=128, head_dim=128, d_ff=65536,
        max_seq_len=512, activation="relu", position="t5", attention_scale=1.0,
    ),
    11e9,
    "Raffel et al. 2020, arXiv:1910.10683",
    n_encoder_layers=24,
)  # fmt: skip

GPT_2 = PublishedModel(
    "GPT-2",
    ModelConfig(
        **{**_GPT, "activation": "gelu_tanh"}, vocab_size=50257, d_model=768, n_layers=12,
        n_heads=12, max_seq_len=1024,
    ),
    124e6,  # the paper's 117 M is a miscount, corrected with the released code
    "Radford et al. 2019, Language Models are Unsupervised Multitask Learners",
)  # fmt: skip
LLAMA_2 = PublishedModel(
    "LLaMA-2",
    ModelConfig(
        **_LLAMA, vocab_size=32000, d_model=8192, n_layers=80, n_heads=64, n_kv_heads=8,
        d_ff=28672, max_seq_len=4096,
    ),
    70e9,
    "Touvron et al. 2023, arXiv:2307.09288",
)  # fmt: skip
MISTRAL = PublishedModel(
    "Mistral",
    ModelConfig(
        **_LLAMA, vocab_size=32000, d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8,
        d_ff=14336, max_seq_len=8192, attention="window", window=4096,
    ),
    7.3e9,  # as announced; the paper rounds to 7 B
    "Jiang et al. 2023, arXiv:2310.06825",
)  # fmt: skip
MIXTRAL = PublishedModel(
    "Mixtral",
    ModelConfig(
        **_LLAMA, vocab_size=32000, d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8,
        d_ff=14336, max_seq_len=32768, rope_theta=1e6, n_experts=8, experts_per_token=2,
    ),
    47e9,
    "Jiang et al. 2024, arXiv:2401.04088",
)  # fmt: skip
QWEN2 = PublishedModel(
    "Qwen2",
    ModelConfig(
        **_LLAMA, vocab_size=152064, d_model=3584, n_layers=28, n_heads=28, n_kv_heads=4,
        d_ff=18944, max_seq_len=32768, rope_theta=1e6, norm_eps=1e-6, qkv_bias=True,
    ),
    7.6e9,
    "Yang et al. 2024, arXiv:2407.10671",
)  # fmt: skip
SMOLLM2 = PublishedModel(
    "SmolLM2",
    ModelConfig(
        vocab_size=49152, d_model=576, n_layers=30, n_heads=9, n_kv_heads=3, d_ff=1536,
        max_seq_len=8192, rope_theta=1e5,
    ),
    135e6,
    "Ben Allal et al. 2025, arXiv:2502.02737",
)  # fmt: skip

PUBLISHED_MODELS: dict[str, PublishedModel] = {
    preset.name: preset
    for preset in (
        GPT_3, PANGU_ALPHA, OPT, PALM, BLOOM, MT_NLG, GOPHER, CHINCHILLA, GALACTICA, LAMDA,
        JURASSIC_1, LLAMA, GLM_130B, T5, GPT_2, LLAMA_2, MISTRAL, MIXTRAL, QWEN2, SMOLLM2,
    )
}  # fmt: skip
"""Every preset by its name in the survey's table."""
