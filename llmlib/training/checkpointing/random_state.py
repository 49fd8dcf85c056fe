"""The state of every random generator that a training run draws from."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def random_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state of torch's, Python's and numpy's global generators as tensors and numbers.

    Example:
        >>> saved = random_state()
        >>> first = torch.rand(2), random.random()
        >>> set_random_state(*saved)
        >>> bool((torch.rand(2) == first[0]).all()) and random.random() == first[1]
        True
    """
    version, internal, python_gauss = random.getstate()
    _, key, position, has_gauss, numpy_gauss = np.random.get_state(legacy=True)
    tensors = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(internal, dtype=torch.int64),
        "numpy": torch.from_numpy(np.asarray(key, dtype=np.int64)),
    }
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    numbers = {
        "python": [version, python_gauss],
        "numpy": [int(position), int(has_gauss), float(numpy_gauss)],
    }
    return tensors, numbers


def set_random_state(tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """Restore what `random_state` returned; a CUDA state only where there is a CUDA device."""
    torch.set_rng_state(tensors["torch"])
    version, gauss = numbers["python"]
    random.setstate((version, tuple(tensors["python"].tolist()), gauss))
    position, has_gauss, numpy_gauss = numbers["numpy"]
    key = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, position, has_gauss, numpy_gauss))
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
