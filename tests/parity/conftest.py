"""What comparisons with other libraries need."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _constructors_are_known() -> None:
    """Let torch list the constructors that `torch.device` governs.

    It does so once a process, at the first use. While transformers loads a model it exchanges
    `torch.linspace`: a list made then would leave the true one out for all later tests.
    """
    with torch.device("meta"):
        torch.empty(0)
