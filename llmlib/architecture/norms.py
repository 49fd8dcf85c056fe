"""Normalization layers, chosen by `ModelConfig.norm`."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.kernels.fused import rms_norm


class RMSNorm(nn.Module):
    """Scale each row to a root mean square of one, then by a learned weight: see `rms_norm`."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
        """Normalize each row."""
        return rms_norm(x, self.weight, self.eps)


def make_norm(config: ModelConfig) -> nn.Module:
    """Return a new `RMSNorm` or PyTorch's `LayerNorm`, with a bias where `norm_bias` says so."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=bool(config.norm_bias))
