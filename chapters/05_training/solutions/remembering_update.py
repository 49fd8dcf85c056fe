from torch import Tensor


def remembering_update(weights: Tensor, rest: Tensor, update: Tensor) -> tuple[Tensor, Tensor]:
    """Add an update to bfloat16 weights; return them and what rounding took, for the next time."""
    wanted = update.float() + rest.float()
    new = (weights.float() + wanted).bfloat16()
    came = new.float() - weights.float()
    return new, (wanted - came).bfloat16()
