from torch import Tensor

from llmlib.training.formats.elements import E2M1, power_below


def fair_mxfp4(x: Tensor, chance: Tensor) -> Tensor:
    """Round blocks to MXFP4 by chance, [blocks, 32], so that the mean is x everywhere."""
    largest = x.abs().amax(dim=-1, keepdim=True)
    scale = (power_below(largest) / 4).clamp_min(2.0**-127)
    scaled = 0.75 * x / scale  # below 6: nothing saturates
    spacing = E2M1.spacing(scaled)
    below = (scaled / spacing).floor()
    up = chance < scaled / spacing - below
    return 4 / 3 * (below + up) * spacing * scale
