import numpy as np
import torch
from torch import Tensor


def decode_q4_0(blocks: np.ndarray) -> Tensor:
    """Turn blocks of type Q4_0, uint8 [n, 18], into weights [n, 32]."""
    d = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)  # [n, 1]
    q = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)  # [n, 32]
    return torch.from_numpy(d * (q.astype(np.float32) - 8))
