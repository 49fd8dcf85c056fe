"""The one configuration from which every decoder of the book is built."""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from llmlib.architecture.choices import (
    GATED,
    Activation,
    AttentionPattern,
    Balance,
    ChannelMixer,
    MaskKind,
    Mixer,
    Norm,
    NormPlacement,
    Position,
    RopeScaling,
    check_fields,
    require,
)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Every choice of a decoder's design, each a field: variants differ by one field.

    The fields left at `None` are filled in on construction, so a finished configuration has no
    unknowns. `n_kv_heads = n_heads` is multi-head attention, `1` multi-query, anything between
    grouped-query.

    Raises:
        ValueError: When a field is out of its range or two fields contradict each other.

    Example:
        >>> config = ModelConfig(vocab_size=101, d_model=64, n_layers=2, n_heads=4, max_seq_len=32)
        >>> config.head_dim, config.n_kv_heads, config.d_ff
        (16, 4, 192)

    References:
        Zhao et al. (2023), A Survey of Large Language Models, section 4.2.2 and table 3.
    """

    vocab_size: int
    """Number of token ids, V."""
    d_model: int
    """Width of the residual stream, D."""
    n_layers: int
    n_heads: int
    """Number of query heads, H."""
    max_seq_len: int
    """Longest sequence the model is built for, in tokens."""
    n_kv_heads: int = 0
    """Number of key and value heads, G; divides `n_heads`, the default."""
    head_dim: int = 0
    """Width of a head, K; even for RoPE. Default: `d_model / n_heads`."""
    d_ff: int = 0
    """Width of the feed-forward layer, F. Default: `4 D`, or for the gated activations `8 D / 3`
    rounded up to a multiple of 32, which has as many parameters."""
    mixer: Mixer = "attention"
    """What mixes the tokens: attention, attention on compressed keys and values (`latent`), or a
    layer without attention."""
    channel_mixer: ChannelMixer = ""
    """What transforms each token. Default: the mixer's own: `rwkv` for RWKV, `none` for Mamba,
    else `feedforward`."""
    norm: Norm = "rms"
    norm_placement: NormPlacement = "pre"
    """`pre` (before each sublayer), `post` (after the residual sum), `sandwich` (before and after
    each sublayer) or `deepnorm` (post-norm with DeepNorm's scaled residual and initialization)."""
    norm_eps: float = 1e-5
    """Added to the variance or mean square before the root."""
    norm_bias: bool | None = None
    """Give LayerNorm a bias. Default: as `bias`."""
    embedding_norm: bool = False
    """Normalize the embeddings, as BLOOM and RWKV do."""
    embedding_scale: float = 1.0
    """Factor of the token embeddings, before positions are added: the first Transformer's and
    Gemma's is the root of `d_model`."""
    parallel: bool = False
    """Attention and feed-forward layer side by side from one norm, as in PaLM."""
    activation: Activation = "swiglu"
    """Feed-forward non-linearity; `swiglu`, `geglu` and `geglu_tanh` are gated, `gelu_tanh` is
    GPT-2's approximation."""
    bias: bool = False
    """Give every linear layer a bias."""
    qkv_bias: bool | None = None
    """Give the projections to queries, keys and values a bias, as Qwen2 alone does. Default: as
    `bias`."""
    position: Position = ""
    """`t5` is its bucketed bias, `relative` Transformer-XL's and Gopher's. Default: `rope`, and
    `none` for the mixers whose recurrence knows the order by itself."""
    rope_theta: float = 10_000.0
    """Base of RoPE's wavelengths."""
    rope_scaling: RopeScaling = "none"
    """How RoPE is stretched beyond `rope_original_len`; `linear` is interpolation, `rerope`
    position truncation and `basis` basis truncation. `dynamic` follows each text's own length: read
    at once, the whole text has the base of its last token; with a cache, each call the base of
    what was read so far."""
    rope_factor: float = 1.0
    """By how much the length is stretched."""
    rope_original_len: int = 0
    """Length the weights were trained for. Default: `max_seq_len`."""
    rope_window: int = 0
    """Largest relative position that `rerope` keeps, in tokens."""
    relative_buckets: int = 32
    """Number of T5's buckets."""
    relative_max_distance: int = 128
    """Distance from which T5's last bucket starts, in tokens."""
    attention: AttentionPattern = "full"
    """Which keys a query sees."""
    window: int = 0
    """Keys of a sliding window, the query's own token included."""
    stride: int = 0
    """Block length of the strided and fixed patterns."""
    n_sinks: int = 0
    """First tokens that every query of a window sees."""
    full_every: int = 0
    """Make every n-th layer full although the others are sparse; 0: none."""
    attention_scale: float = 0.0
    """Factor of the scores; 0: `1 / sqrt(head_dim)`. See `score_scale`."""
    qk_norm: bool = False
    """Normalize each query and key head before the rotation."""
    latent_dim: int = 0
    """Width of the compressed keys and values of `latent` attention."""
    query_latent_dim: int = 0
    """Width of its compressed queries; 0: not compressed."""
    rope_head_dim: int = 0
    """Width of its rotated part of queries and keys."""
    mask: MaskKind = "causal"
    """With `prefix`, the prefix sees itself whole."""
    n_experts: int = 0
    """Experts of each feed-forward layer, E; 0: one dense layer."""
    experts_per_token: int = 2
    n_shared_experts: int = 0
    """Experts that every token visits besides."""
    expert_capacity: float = 0.0
    """Room of an expert as a multiple of its fair share; 0: unlimited."""
    normalize_gates: bool = True
    """Let the chosen experts' weights sum to one."""
    balance: Balance = "switch"
    """Load-balancing loss."""
    balance_weight: float = 0.01
    """Its factor in the training loss."""
    state_dim: int = 16
    """Numbers of state a channel of `s4`, `h3` and `mamba`, N."""
    conv_kernel: int = 4
    """Taps of the short convolutions of `mamba`, `h3` and `hyena`."""
    expand: int = 2
    """Inner width of `mamba` as a multiple of `d_model`."""
    tie_embeddings: bool = True
    """Use the embedding matrix as the output matrix."""
    dropout: float = 0.0
    """Probability of zeroing in embeddings, attention weights and sublayer outputs."""
    init_std: float = 0.02
    """Standard deviation of the initial weights; the projections into the residual stream take
    `init_std / sqrt(2 n_layers)`."""

    def __post_init__(self) -> None:
        self._fill()
        check_fields(vars(self))
        _check(self)

    def _fill(self) -> None:
        """Derive the fields that were left open; the class is frozen, hence `__setattr__`."""

        def fill(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        if not self.n_kv_heads:
            fill("n_kv_heads", self.n_heads)
        if not self.head_dim:
            if self.n_heads > 0 and self.d_model % self.n_heads:
                raise ValueError(
                    f"d_model={self.d_model} is not a multiple of n_heads={self.n_heads}: "
                    "change one of them or set head_dim"
                )
            fill("head_dim", self.d_model // max(1, self.n_heads))
        if not self.rope_original_len:
            fill("rope_original_len", self.max_seq_len)
        if not self.position:
            fill("position", _own_position(self.mixer))
        if not self.channel_mixer:
            fill("channel_mixer", _own_channel_mixer(self.mixer))
        if not self.d_ff:
            plain = self.channel_mixer == "rwkv" or not self.is_gated
            fill("d_ff", _default_d_ff(self.d_model, gated=not plain))
        if self.norm_bias is None:
            fill("norm_bias", self.bias)
        if self.qkv_bias is None:
            fill("qkv_bias", self.bias)

    @property
    def is_gated(self) -> bool:
        """Whether the feed-forward layer multiplies its activation by a second projection."""
        return self.activation in GATED

    @property
    def is_attention(self) -> bool:
        """Whether tokens are mixed by attention, with a cache of keys and values."""
        return self.mixer in ("attention", "latent")

    @property
    def score_scale(self) -> float:
        """The factor of the attention scores, `1 / sqrt(head_dim)` unless it is set."""
        width = self.head_dim + (self.rope_head_dim if self.mixer == "latent" else 0)
        return self.attention_scale or 1 / math.sqrt(width)

    @property
    def rotates_late(self) -> bool:
        """Whether keys are rotated anew as the text grows, so that a cache holds them unrotated."""
        return self.rope_scaling in ("dynamic", "rerope")

    @property
    def has_final_norm(self) -> bool:
        """Whether a norm follows the last block; a post-norm block already ends with one."""
        return self.norm_placement in ("pre", "sandwich")

    @property
    def residual_scale(self) -> float:
        """DeepNorm's alpha, the factor of the residual stream before each norm; otherwise 1."""
        return (2 * self.n_layers) ** 0.25 if self.norm_placement == "deepnorm" else 1.0

    @property
    def cache_shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Heads and width of what a layer's cache keeps of a token as keys and as values."""
        if self.mixer == "latent":
            return (1, self.rope_head_dim), (1, self.latent_dim)
        shape = (self.n_kv_heads, self.head_dim)
        return shape, shape

    def is_local(self, layer: int) -> bool:
        """Whether a layer's attention, counted from 0, follows the sparse pattern."""
        if self.attention == "full":
            return False
        return not (self.full_every and (layer + 1) % self.full_every == 0)

    @property
    def group_size(self) -> int:
        """How many query heads share one key/value head."""
        return self.n_heads // self.n_kv_heads

    def replace(self, **changes: Any) -> "ModelConfig":
        """Return a copy with some fields changed, validated again.

        Fields that were derived from others stay as they are: name them to change them too. Only
        positions and channel mixer follow a new mixer, where they were the old one's own.
        """
        if changes.get("mixer", self.mixer) != self.mixer:
            if self.position == _own_position(self.mixer):
                changes.setdefault("position", "")
            if self.channel_mixer == _own_channel_mixer(self.mixer):
                changes.setdefault("channel_mixer", "")
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for a JSON file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Build a configuration from `to_dict`'s output, in which defaults may be missing.

        Raises:
            ValueError: When a name is not a field.
        """
        unknown = sorted(values.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(
                f"unknown ModelConfig fields {unknown}: written by a newer version, or misspelt"
            )
        return cls(**values)


def _default_d_ff(d_model: int, *, gated: bool) -> int:
    """Give gated and plain layers the same parameters: 3 x 8/3 D^2 = 2 x 4 D^2."""
    return -(-8 * d_model // 3 // 32) * 32 if gated else 4 * d_model


def _own_position(mixer: Mixer) -> Position:
    return "rope" if mixer in ("attention", "latent", "retnet") else "none"


def _own_channel_mixer(mixer: Mixer) -> ChannelMixer:
    own: dict[Mixer, ChannelMixer] = {"rwkv": "rwkv", "mamba": "none"}
    return own.get(mixer, "feedforward")


def _check(config: ModelConfig) -> None:
    require(0 <= config.dropout < 1, f"dropout={config.dropout} must be at least 0 and below 1")
    require(
        config.n_heads % config.n_kv_heads == 0,
        f"n_kv_heads={config.n_kv_heads} does not divide n_heads={config.n_heads}: "
        "every key/value head serves the same number of query heads",
    )
    _check_attention(config)
    _check_positions(config)
    _check_blocks(config)


def _check_attention(config: ModelConfig) -> None:
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


def _check_positions(config: ModelConfig) -> None:
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


def _check_blocks(config: ModelConfig) -> None:
    require(
        not config.parallel or config.norm_placement == "pre",
        "parallel sublayers share one norm before them: set norm_placement='pre'",
    )
    require(
        not config.parallel or config.channel_mixer != "none",
        "parallel=True needs a channel mixer beside the mixer",
    )
    require(
        not config.is_attention or config.channel_mixer != "rwkv",
        f"channel_mixer='rwkv' looks one token back, past paddings and borders of documents, and "
        f"keeps a state that the cache of mixer={config.mixer!r} has no room for: set mixer='rwkv'",
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
