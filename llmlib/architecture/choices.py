"""What each field of a configuration may be."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

Mixer = Literal["attention", "latent", "s4", "h3", "mamba", "rwkv", "retnet", "hyena"]
ChannelMixer = Literal["", "feedforward", "rwkv", "none"]
Norm = Literal["rms", "layer"]
NormPlacement = Literal["pre", "post", "sandwich", "deepnorm"]
Activation = Literal[
    "swiglu", "geglu", "geglu_tanh", "gelu", "gelu_tanh", "relu", "relu_squared", "swish"
]
Position = Literal["", "rope", "learned", "sinusoidal", "t5", "relative", "alibi", "none"]
RopeScaling = Literal["none", "linear", "ntk", "dynamic", "yarn", "rerope", "basis"]
AttentionPattern = Literal["full", "window", "strided", "fixed"]
MaskKind = Literal["causal", "prefix", "bidirectional"]
Balance = Literal["switch", "gshard", "none"]

GATED: frozenset[str] = frozenset({"swiglu", "geglu", "geglu_tanh"})

CHOICES: dict[str, Any] = {
    "mixer": Mixer,
    "channel_mixer": ChannelMixer,
    "norm": Norm,
    "norm_placement": NormPlacement,
    "activation": Activation,
    "position": Position,
    "rope_scaling": RopeScaling,
    "attention": AttentionPattern,
    "mask": MaskKind,
    "balance": Balance,
}

POSITIVE = (
    "vocab_size", "d_model", "n_layers", "n_heads", "max_seq_len", "n_kv_heads", "head_dim", "d_ff",
    "norm_eps", "rope_theta", "rope_factor", "rope_original_len", "init_std",
    "embedding_scale",
    "state_dim", "conv_kernel", "expand", "relative_buckets", "relative_max_distance",
)  # fmt: skip
NOT_NEGATIVE = (
    "window", "stride", "n_sinks", "full_every", "rope_window", "latent_dim", "query_latent_dim",
    "rope_head_dim", "n_experts", "n_shared_experts", "attention_scale", "expert_capacity",
    "balance_weight",
)  # fmt: skip


def check_fields(fields: Mapping[str, Any]) -> None:
    """Refuse a field that is out of its range, or a choice that is unknown.

    Raises:
        ValueError: With the field's name and what it may be.
    """
    for name in POSITIVE:
        require(fields[name] > 0, f"{name}={fields[name]} must be above zero")
    for name in NOT_NEGATIVE:
        require(fields[name] >= 0, f"{name}={fields[name]} must not be negative")
    for name, choices in CHOICES.items():
        require_choice(name, fields[name], choices)


def require(condition: bool, message: str) -> None:
    """Refuse with a message unless a condition holds."""
    if not condition:
        raise ValueError(message)


def require_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a field's value that its `Literal` type does not list."""
    listed = tuple(choice for choice in get_args(choices) if choice)
    require(value in listed, f"{name}={value!r} is unknown: choose one of {listed}")
