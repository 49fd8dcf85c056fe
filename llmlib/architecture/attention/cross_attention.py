"""Cross-attention: how a decoder looks at a text that an encoder has read."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture.config import ModelConfig


@dataclass(frozen=True)
class Memory:
    """What the decoder sees of an encoded text: keys and values of each of its layers."""

    keys: list[Float[Tensor, "B G S K"]]
    values: list[Float[Tensor, "B G S K"]]
    mask: Bool[Tensor, "B 1 1 S"] | None = None
    """True where a token is no padding."""

    def select(self, rows: Int[Tensor, " rows"]) -> "Memory":
        """Return the memory of the named rows, in that order; rows may repeat."""
        mask = None if self.mask is None else self.mask[rows]
        return Memory([k[rows] for k in self.keys], [v[rows] for v in self.values], mask)


class CrossAttention(nn.Module):
    r"""Attention whose queries come from one text and whose keys and values come from another.

    $Y = \mathrm{softmax}(Q K^\top / \sqrt K)\,V$ with $Q = X W_Q$, $K = E\,W_K$, $V = E\,W_V$, E
    the encoder's output. No position enters: the encoder has put the order into E.

    References:
        Vaswani et al. (2017), Attention Is All You Need, section 3.2.3.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.shared = config.n_kv_heads * config.head_dim
        width = config.n_heads * config.head_dim
        self.q = nn.Linear(config.d_model, width, bias=bool(config.qkv_bias))
        self.kv = nn.Linear(config.d_model, 2 * self.shared, bias=bool(config.qkv_bias))
        self.out = nn.Linear(width, config.d_model, bias=config.bias)

    @property
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        """Parameters that are several matrices on top of each other, with the rows of each."""
        return {"kv.weight": (self.shared, self.shared)}

    def project(
        self, encoded: Float[Tensor, "B S D"]
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S K"]]:
        """Return the keys and values of an encoded text, the same for every decoded token."""
        heads = self.kv(encoded).unflatten(-1, (-1, self.config.head_dim))  # [B, S, 2G, K]
        keys, values = heads.transpose(1, 2).chunk(2, dim=1)
        return keys, values

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        keys: Float[Tensor, "B G S K"],
        values: Float[Tensor, "B G S K"],
        mask: Bool[Tensor, "B 1 1 S"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Mix what the encoder read, as `project` gave it, into each decoder token."""
        queries = self.q(x).unflatten(-1, (-1, self.config.head_dim)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            dropout_p=self.config.dropout if self.training else 0.0,
            scale=self.config.score_scale,
            enable_gqa=self.config.group_size > 1,
        )  # [B, H, T, K]
        return self.out(mixed.transpose(1, 2).flatten(2))  # [B, T, D]
