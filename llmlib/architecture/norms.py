"""Normalization layers, chosen by `ModelConfig.norm`."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.kernels.fused import rms_norm


class RMSNorm(nn.Module):
    r"""Scale each row to a root mean square of one, then by a learned weight.

    $y_i = w_i \, x_i / \sqrt{\tfrac1D \sum_j x_j^2 + \epsilon}$

    Args:
        width: Length of a row, D.
        eps: Added to the mean square.

    References:
        Zhang and Sennrich (2019), Root Mean Square Layer Normalization, equation 4.
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
        """Normalize each row.

        Args:
            x: Rows of width D.

        Returns:
            The normalized rows.
        """
        return rms_norm(x, self.weight, self.eps)


def make_norm(config: ModelConfig) -> nn.Module:
    """Return a new normalization layer of the configured kind, of width D.

    Args:
        config: The model's configuration.

    Returns:
        `RMSNorm`, or PyTorch's `LayerNorm`, with a bias where `norm_bias` says so.
    """
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=bool(config.norm_bias))
