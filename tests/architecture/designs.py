"""Every design of a decoder that tests of a common promise go through, each a few fields."""

from typing import Any

import torch

from llmlib.architecture import ModelConfig, Transformer

STRETCHED = {"rope_factor": 3.0, "rope_original_len": 7}
ATTENTION: dict[str, dict[str, Any]] = {
    "rope": {},
    "linear": {"rope_scaling": "linear", **STRETCHED},
    "ntk": {"rope_scaling": "ntk", **STRETCHED},
    "yarn": {"rope_scaling": "yarn", **STRETCHED},
    "basis": {"rope_scaling": "basis", **STRETCHED},
    "rerope": {"rope_scaling": "rerope", "rope_window": 5},
    "dynamic": {"rope_scaling": "dynamic", **STRETCHED},
    "sinusoidal": {"position": "sinusoidal"},
    "learned": {"position": "learned"},
    "t5": {"position": "t5", "relative_buckets": 8, "relative_max_distance": 16},
    "relative": {"position": "relative"},
    "alibi": {"position": "alibi"},
    "no position": {"position": "none"},
    "window": {"attention": "window", "window": 5, "n_sinks": 2},
    "strided": {"attention": "strided", "stride": 3},
    "fixed": {"attention": "fixed", "stride": 3, "full_every": 2},
    "alibi in a window": {"position": "alibi", "attention": "window", "window": 5},
    "dynamic in a window": {
        "rope_scaling": "dynamic", **STRETCHED, "attention": "window", "window": 5,
    },
    "grouped queries": {"n_kv_heads": 1, "qk_norm": True},
    "latent": {"mixer": "latent", "latent_dim": 12, "rope_head_dim": 8},
    "latent, dynamic": {
        "mixer": "latent", "latent_dim": 12, "rope_head_dim": 8, "rope_scaling": "dynamic",
        **STRETCHED,
    },
    "experts with capacity": {"n_experts": 4, "expert_capacity": 0.5, "n_shared_experts": 1},
}  # fmt: skip
RECURRENT: dict[str, dict[str, Any]] = {
    kind: {"mixer": kind} for kind in ("s4", "h3", "mamba", "rwkv", "retnet", "hyena")
}
DESIGNS = ATTENTION | RECURRENT
VOCAB = 53


def decoder(fields: dict[str, Any], **changes: Any) -> Transformer:
    """Build a small model whose weights are large enough for a mistake to show."""
    torch.manual_seed(3)
    sizes = {"vocab_size": VOCAB, "d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 48}
    return Transformer(ModelConfig(**{**sizes, "init_std": 0.3, **fields, **changes})).eval()
