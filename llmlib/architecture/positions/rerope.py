"""Position truncation: no relative position larger than a window is ever seen."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlib.architecture.kernels.fused import rotate

Angles = tuple[Float[Tensor, "#B _ half"], Float[Tensor, "#B _ half"]]


def truncated_scores(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B H S K"],
    distances: Int[Tensor, "#B T S"],
    window: int,
    query_angles: Angles,
    key_angles: Angles,
    window_angles: Angles,
) -> Float[Tensor, "B H T S"]:
    r"""Return attention scores in which a far key stands at the window's edge.

    $s_{ij} = q_i^\top R_{\min(i - j,\, w)}\, k_j$, not scaled. Rotation by a difference is a
    product of two rotations only without the minimum, so there are two sets of scores: the near
    ones with both sides rotated by their positions, the far ones with the query rotated by w and
    the key not.

    Args:
        queries: Before rotation.
        keys: Before rotation, one head for each query head.
        distances: Position of the query minus position of the key.
        window: The largest relative position w, in tokens.
        query_angles: Cosine and sine of the queries' positions.
        key_angles: Cosine and sine of the keys' positions.
        window_angles: Cosine and sine of w.

    Returns:
        The scores; where the key comes after the query they are meaningless, to be masked.

    References:
        Su (2023), ReRoPE (kexue.fm/archives/9708); the survey calls it position truncation.
    """

    def turned(x: Tensor, angles: Angles) -> Tensor:
        cos, sin = (part.expand(-1, x.shape[2], -1) for part in angles)
        return rotate(x.transpose(1, 2), cos, sin).transpose(1, 2)

    near = turned(queries, query_angles) @ turned(keys, key_angles).transpose(-2, -1)
    far = turned(queries, window_angles) @ keys.transpose(-2, -1)
    return torch.where((distances < window).unsqueeze(1), near, far)
