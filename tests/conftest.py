"""Shared fixtures of the test suite."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state and leaves no global change behind."""
    torch.manual_seed(0)
