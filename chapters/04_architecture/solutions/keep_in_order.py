from torch import Tensor
from torch.nn import functional as F


def keep_in_order(experts: Tensor, capacity: int) -> Tensor:
    """Say of each choice in [N, k] whether its expert still had room when it came."""
    chosen = F.one_hot(experts.flatten())  # [N k, E]
    place = (chosen.cumsum(dim=0) * chosen).sum(dim=-1)  # 1 for the first at its expert
    return (place <= capacity).view(experts.shape)
