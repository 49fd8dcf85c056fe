import torch
from torch import Tensor


def reweigh(weights: Tensor, proxy: Tensor, reference: Tensor, domains: Tensor) -> Tensor:
    """Take one step of DoReMi: weights [domains] from the losses of single tokens [N]."""
    n = len(weights)
    excess = (proxy - reference).clamp(min=0)  # [N]
    counts = torch.bincount(domains, minlength=n).clamp(min=1)  # no tokens: no excess
    mean = torch.zeros(n).index_add(0, domains, excess) / counts
    raised = weights * mean.exp()
    return 0.999 * raised / raised.sum() + 0.001 / n
