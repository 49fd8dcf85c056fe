"""The choices of a configuration's fields, and which of them exclude each other."""

from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from llmlib.architecture.config import ModelConfig

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


def check(config: "ModelConfig") -> None:
    """Refuse a configuration that cannot be built.

    Args:
        config: The configuration, its derived fields filled in.

    Raises:
        ValueError: When a field is out of its range or two fields contradict each other.
    """
    for name in POSITIVE:
        require(getattr(config, name) > 0, f"{name}={getattr(config, name)} must be above zero")
    for name in NOT_NEGATIVE:
        require(getattr(config, name) >= 0, f"{name}={getattr(config, name)} must not be negative")
    for name, choices in CHOICES.items():
        require_choice(name, getattr(config, name), choices)
    require(0 <= config.dropout < 1, f"dropout={config.dropout} must be at least 0 and below 1")
    require(
        config.n_heads % config.n_kv_heads == 0,
        f"n_kv_heads={config.n_kv_heads} does not divide n_heads={config.n_heads}: "
        "every key/value head serves the same number of query heads",
    )
    _check_attention(config)
    _check_positions(config)
    _check_blocks(config)


def _check_attention(config: "ModelConfig") -> None:
    if config.mixer == "latent":
        require(config.latent_dim > 0, "latent attention needs latent_dim, the cache's width")
        require(
            config.position != "rope" or config.rope_head_dim % 2 == 0 < config.rope_head_dim,
            f"rope_head_dim={config.rope_head_dim} must be even and above zero: latent attention "
            "rotates that part of each head alone",
        )
        require(
            config.position in ("rope", "none", "learned", "sinusoidal"),
            f"latent attention does not take position={config.position!r}",
        )
    if config.attention == "window":
        require(config.window > 0, "attention='window' needs window, its number of keys")
    if config.attention in ("strided", "fixed"):
        require(config.stride > 0, f"attention={config.attention!r} needs stride, its block length")
    require(
        config.attention == "full" or config.mask == "causal",
        f"attention={config.attention!r} is causal: it cannot have mask={config.mask!r}",
    )
    require(
        config.is_attention or (config.attention == "full" and config.mask == "causal"),
        f"mixer={config.mixer!r} reads from left to right: it has no attention pattern or mask",
    )


def _check_positions(config: "ModelConfig") -> None:
    require(
        config.is_attention
        or config.position in ("learned", "sinusoidal", "none")
        or (config.mixer == "retnet" and config.position == "rope"),
        f"position={config.position!r} acts on attention scores, mixer={config.mixer!r} has none",
    )
    rotates = config.mixer == "attention" and config.position == "rope"
    require(
        not rotates or config.head_dim % 2 == 0,
        f"head_dim={config.head_dim} is odd: RoPE rotates pairs, make it even "
        "or choose another position scheme",
    )
    require(
        config.rope_scaling == "none" or config.position == "rope",
        f"rope_scaling={config.rope_scaling!r} needs position='rope'",
    )
    require(
        config.rope_scaling != "rerope" or config.rope_window > 0,
        "rope_scaling='rerope' needs rope_window, the largest relative position it keeps",
    )
    require(
        config.rope_factor >= 1,
        f"rope_factor={config.rope_factor} must be at least 1: it stretches the length",
    )
    if config.position == "t5":
        exact = config.relative_buckets // (4 if config.mask == "bidirectional" else 2)
        require(
            config.relative_max_distance > exact,
            f"relative_max_distance={config.relative_max_distance} must be above {exact}, the "
            f"exact half of {config.relative_buckets} buckets",
        )


def _check_blocks(config: "ModelConfig") -> None:
    require(
        not config.parallel or config.norm_placement == "pre",
        "parallel sublayers share one norm before them: set norm_placement='pre'",
    )
    require(
        not config.parallel or config.channel_mixer != "none",
        "parallel=True needs a channel mixer beside the mixer",
    )
    if config.n_experts:
        require(
            1 <= config.experts_per_token <= config.n_experts,
            f"experts_per_token={config.experts_per_token} must lie between 1 and "
            f"n_experts={config.n_experts}",
        )
        require(
            config.channel_mixer == "feedforward",
            f"experts replace the feed-forward layer: channel_mixer={config.channel_mixer!r} "
            "has none",
        )


def require(condition: bool, message: str) -> None:
    """Refuse unless a condition holds.

    Args:
        condition: What must hold.
        message: What the caller has to change.

    Raises:
        ValueError: With the message, if it does not.
    """
    if not condition:
        raise ValueError(message)


def require_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a value that a `Literal` type does not list.

    Args:
        name: The field.
        value: Its value.
        choices: The `Literal` type.

    Raises:
        ValueError: If the value is not one of the choices.
    """
    listed = tuple(choice for choice in get_args(choices) if choice)
    require(value in listed, f"{name}={value!r} is unknown: choose one of {listed}")
