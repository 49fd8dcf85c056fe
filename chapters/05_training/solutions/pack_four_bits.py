from torch import Tensor
from torch.nn import functional as F


def pack_four_bits(codes: Tensor) -> Tensor:
    """Put neighbouring codes into one byte, the first in its lower half."""
    codes = F.pad(codes, (0, codes.shape[-1] % 2))
    return codes[..., ::2] | codes[..., 1::2] << 4
