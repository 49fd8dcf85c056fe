"""How much a batch counts."""

import pytest
import torch

from llmlib.core.batch import IGNORE, count_targets


def test_targets_count_or_rows_where_there_are_none():
    targets = torch.tensor([[5, IGNORE, 7], [IGNORE, IGNORE, IGNORE]])
    assert count_targets({"inputs": torch.zeros(2, 3), "targets": targets}) == 2
    assert count_targets({"chosen": torch.zeros(5, 3), "rejected": torch.zeros(5, 3)}) == 5
    assert count_targets({"targets": targets[:0]}) == 0
    with pytest.raises(ValueError, match="the batch is empty"):
        count_targets({})
