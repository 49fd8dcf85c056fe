from torch import Tensor


def comes_back(objects: Tensor) -> Tensor:
    """Count the documents that each filter alone holds back: [N, filters] become [filters]."""
    alone = objects.sum(dim=1, keepdim=True) == 1  # [N, 1]
    return (objects & alone).sum(dim=0)
