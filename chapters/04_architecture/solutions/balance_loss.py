import torch
from torch import Tensor


def balance_loss(probabilities: Tensor, experts: Tensor) -> Tensor:
    """Return E times the sum of load times mean probability, from [N, E] and [N, k]."""
    n_experts = probabilities.shape[-1]
    shares = torch.bincount(experts.flatten(), minlength=n_experts) / experts.numel()  # [E]
    return n_experts * (shares * probabilities.mean(dim=0)).sum()
