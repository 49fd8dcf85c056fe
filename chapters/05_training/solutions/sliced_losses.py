import torch
from torch import Tensor


def sliced_losses(hidden: Tensor, weight: Tensor, targets: Tensor, width: int) -> Tensor:
    """Return each row's cross-entropy, with the logits of `width` words at a time."""
    top = torch.full((len(hidden),), -torch.inf, dtype=hidden.dtype)  # highest logit so far
    total, chosen = torch.zeros_like(top), torch.zeros_like(top)
    for start in range(0, len(weight), width):
        logits = hidden @ weight[start : start + width].T  # [rows, width]
        new = torch.maximum(top, logits.amax(dim=-1))
        total = total * (top - new).exp() + (logits - new.unsqueeze(-1)).exp().sum(dim=-1)
        top = new
        inside = (targets >= start) & (targets < start + width)
        chosen[inside] = logits[inside, targets[inside] - start]
    return top + total.log() - chosen
