"""The position-wise feed-forward layer, plain or gated."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture.choices import Activation
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.kernels.fused import swiglu


def activate(hidden: Float[Tensor, "*rows Fin"], kind: Activation) -> Float[Tensor, "*rows Fout"]:
    r"""Apply the feed-forward non-linearity.

    $\mathrm{GeLU}(x) = x\,\Phi(x)$ with the normal distribution function, `gelu_tanh` its
    approximation by tanh; $\mathrm{swish}(x) = x\,\sigma(x)$; `relu_squared` is
    $\max(x, 0)^2$. The gated kinds take the gate `g` and the values `u` side by side and return
    $\mathrm{swish}(g) \odot u$ (`swiglu`) or $\mathrm{GeLU}(g) \odot u$ (`geglu`, `geglu_tanh`).

    Example:
        >>> import torch
        >>> activate(torch.tensor([-2.0, 3.0]), "relu_squared")
        tensor([0., 9.])

    References:
        Shazeer (2020), GLU Variants Improve Transformer, equations 5 and 6; Hendrycks and Gimpel
        (2016), Gaussian Error Linear Units; Ramachandran et al. (2017), Searching for Activation
        Functions (Swish); So et al. (2021), Primer (squared ReLU).
    """
    match kind:
        case "swiglu":
            return swiglu(hidden)
        case "geglu" | "geglu_tanh":
            gate, up = hidden.chunk(2, dim=-1)
            return F.gelu(gate, approximate="tanh" if kind == "geglu_tanh" else "none") * up
        case "gelu":
            return F.gelu(hidden)
        case "gelu_tanh":
            return F.gelu(hidden, approximate="tanh")
        case "swish":
            return F.silu(hidden)
        case "relu":
            return F.relu(hidden)
        case "relu_squared":
            return F.relu(hidden).square()


class FeedForward(nn.Module):
    r"""Two linear layers round a non-linearity, applied to each token by itself.

    $y = W_\mathrm{out}\,\mathrm{act}(W_\mathrm{in}\,x)$; the gated kinds stack the gate's and the
    values' matrices into one $W_\mathrm{in}$.

    Args:
        d_ff: Width, F, where it is not the configuration's.

    References:
        Vaswani et al. (2017), section 3.3; Shazeer (2020), GLU Variants Improve Transformer.
    """

    def __init__(self, config: ModelConfig, d_ff: int | None = None) -> None:
        super().__init__()
        d_ff = config.d_ff if d_ff is None else d_ff
        self.activation: Activation = config.activation
        self.up_rows = (d_ff, d_ff) if config.is_gated else (d_ff,)
        self.up = nn.Linear(config.d_model, sum(self.up_rows), bias=config.bias)
        self.out = nn.Linear(d_ff, config.d_model, bias=config.bias)

    @property
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        """Parameters that are several matrices on top of each other, with the rows of each."""
        return {"up.weight": self.up_rows}

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Transform each token."""
        return self.out(activate(self.up(x), self.activation))
