import torch
from torch import Tensor


def reweigh(weights: Tensor, proxy: Tensor, reference: Tensor, domains: Tensor) -> Tensor:
    """Take one step of DoReMi: weights [domains] from the losses of single tokens [N]."""
    n = len(weights)
    excess = (proxy - reference).clamp(min=0)  # [N]
    mean = torch.zeros(n).index_add(0, domains, excess) / torch.bincount(domains, minlength=n)
    raised = weights * mean.exp()
    return 0.999 * raised / raised.sum() + 0.001 / n
