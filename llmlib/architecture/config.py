"""The one configuration from which every decoder of the book is built."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

Norm = Literal["rms", "layer"]
NormPlacement = Literal["pre", "post"]
Activation = Literal["swiglu", "geglu", "gelu", "relu"]
Position = Literal["rope", "learned", "none"]

GATED: frozenset[str] = frozenset({"swiglu", "geglu"})


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Every choice of a decoder's design, each a field: variants differ by one field.

    The fields left at `None` are filled in on construction, so a finished configuration has no
    unknowns. `n_kv_heads = n_heads` is multi-head attention, `1` multi-query, anything between
    grouped-query.

    Args:
        vocab_size: Number of token ids, V.
        d_model: Width of the residual stream, D.
        n_layers: Number of blocks.
        n_heads: Number of query heads, H.
        n_kv_heads: Number of key and value heads, G; divides `n_heads`. Default: `n_heads`.
        head_dim: Width of a head, K; even for RoPE. Default: `d_model / n_heads`.
        d_ff: Width of the feed-forward layer, F. Default: `4 D`, or for the gated activations
            `8 D / 3` rounded up to a multiple of 32, which has as many parameters.
        max_seq_len: Longest sequence the model is built for, in tokens.
        norm: `rms` (RMSNorm) or `layer` (LayerNorm).
        norm_placement: `pre` (before each sublayer) or `post` (after the residual sum).
        norm_eps: Added to the variance or mean square before the root.
        activation: Feed-forward non-linearity; `swiglu` and `geglu` are gated.
        position: `rope` (rotary), `learned` (absolute) or `none`.
        rope_theta: Base of RoPE's wavelengths.
        qk_norm: Normalize each query and key head before the rotation.
        bias: Give every linear layer (and LayerNorm) a bias.
        tie_embeddings: Use the embedding matrix as the output matrix.
        dropout: Probability of zeroing in embeddings, attention weights and sublayer outputs.
        init_std: Standard deviation of the initial weights; the projections into the residual
            stream take `init_std / sqrt(2 n_layers)`.

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
    d_model: int
    n_layers: int
    n_heads: int
    max_seq_len: int
    n_kv_heads: int = 0
    head_dim: int = 0
    d_ff: int = 0
    norm: Norm = "rms"
    norm_placement: NormPlacement = "pre"
    norm_eps: float = 1e-5
    activation: Activation = "swiglu"
    position: Position = "rope"
    rope_theta: float = 10_000.0
    qk_norm: bool = False
    bias: bool = False
    tie_embeddings: bool = True
    dropout: float = 0.0
    init_std: float = 0.02

    def __post_init__(self) -> None:
        fill = object.__setattr__  # the class is frozen; defaults that depend on others go in here
        _require_positive(self, "vocab_size", "d_model", "n_layers", "n_heads", "max_seq_len")
        if not self.n_kv_heads:
            fill(self, "n_kv_heads", self.n_heads)
        if not self.head_dim:
            if self.d_model % self.n_heads:
                raise ValueError(
                    f"d_model={self.d_model} is not a multiple of n_heads={self.n_heads}: "
                    "change one of them or set head_dim"
                )
            fill(self, "head_dim", self.d_model // self.n_heads)
        if not self.d_ff:
            fill(self, "d_ff", _default_d_ff(self.d_model, gated=self.is_gated))
        _require_positive(self, "n_kv_heads", "head_dim", "d_ff", "norm_eps", "rope_theta")
        _require_positive(self, "init_std")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_kv_heads={self.n_kv_heads} does not divide n_heads={self.n_heads}: "
                "every key/value head serves the same number of query heads"
            )
        if self.position == "rope" and self.head_dim % 2:
            raise ValueError(
                f"head_dim={self.head_dim} is odd: RoPE rotates pairs, make it even "
                "or choose another position scheme"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must be at least 0 and below 1")
        _require_choice("norm", self.norm, Norm)
        _require_choice("norm_placement", self.norm_placement, NormPlacement)
        _require_choice("activation", self.activation, Activation)
        _require_choice("position", self.position, Position)

    @property
    def is_gated(self) -> bool:
        """Whether the feed-forward layer multiplies its activation by a second projection."""
        return self.activation in GATED

    @property
    def group_size(self) -> int:
        """How many query heads share one key/value head."""
        return self.n_heads // self.n_kv_heads

    def replace(self, **changes: Any) -> "ModelConfig":
        """Return a copy with some fields changed, validated again.

        Fields that were derived from others stay as they are: name them to change them too.

        Args:
            **changes: New values by field name.

        Returns:
            The changed configuration.
        """
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for a JSON file.

        Returns:
            A value for every field.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Build a configuration from `to_dict`'s output.

        Args:
            values: A value for each field; fields with a default may be missing.

        Returns:
            The configuration.

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


def _require_positive(config: ModelConfig, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name}={getattr(config, name)} must be above zero")


def _require_choice(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name}={value!r} is unknown: choose one of {get_args(choices)}")
