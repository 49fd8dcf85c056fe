"""The position-wise feed-forward layer, plain or gated."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture.config import Activation, ModelConfig
from llmlib.architecture.fused import swiglu


def activate(hidden: Float[Tensor, "*rows Fin"], kind: Activation) -> Float[Tensor, "*rows Fout"]:
    r"""Apply the feed-forward non-linearity.

    The gated kinds take the gate `g` and the values `u` side by side and return
    $\mathrm{swish}(g) \odot u$ (`swiglu`) or $\mathrm{GeLU}(g) \odot u$ (`geglu`).

    Args:
        hidden: The first projection; twice as wide as the result for the gated kinds.
        kind: Which non-linearity.

    Returns:
        The activations.

    References:
        Shazeer (2020), GLU Variants Improve Transformer, equations 5 and 6; Hendrycks and Gimpel
        (2016), Gaussian Error Linear Units.
    """
    match kind:
        case "swiglu":
            return swiglu(hidden)
        case "geglu":
            gate, up = hidden.chunk(2, dim=-1)
            return F.gelu(gate) * up
        case "gelu":
            return F.gelu(hidden)
        case "relu":
            return F.relu(hidden)


class FeedForward(nn.Module):
    r"""Two linear layers round a non-linearity, applied to each token by itself.

    $y = W_\mathrm{out}\,\mathrm{act}(W_\mathrm{in}\,x)$; the gated kinds stack the gate's and the
    values' matrices into one $W_\mathrm{in}$.

    Args:
        config: The model's configuration.

    References:
        Vaswani et al. (2017), section 3.3; Shazeer (2020), GLU Variants Improve Transformer.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation: Activation = config.activation
        width_in = 2 * config.d_ff if config.is_gated else config.d_ff
        self.up = nn.Linear(config.d_model, width_in, bias=config.bias)
        self.out = nn.Linear(config.d_ff, config.d_model, bias=config.bias)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Transform each token.

        Args:
            x: Residual stream (normalized, in a pre-norm model).

        Returns:
            What is added to the residual stream.
        """
        return self.out(activate(self.up(x), self.activation))
