"""One seed for every source of randomness."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, numpy and torch, and return a generator of its own.

    Two runs with one seed draw the same numbers on one machine and one set of versions. Across
    processors they may differ in the last bits: a sum taken in another order rounds otherwise.

    Returns:
        A CPU generator with the same seed, to pass to functions that take one; drawing from it
        does not disturb the global state.

    Raises:
        ValueError: If the seed is not from 0 to 2**32 - 1, numpy's range.
    """
    import numpy as np
    import torch

    if not 0 <= seed < 2**32:
        raise ValueError(f"a seed is a whole number from 0 to 2**32 - 1, not {seed}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # every device
    return torch.Generator().manual_seed(seed)
