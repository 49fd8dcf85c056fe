import time
from pathlib import Path

import pytest

from llmlib.core.hardware.bandwidth import last_cache_bytes, stream_rate


def test_the_last_cache_is_the_largest_that_the_kernel_lists(tmp_path: Path) -> None:
    for place, size in enumerate(("32K", "512K", "24M", "none")):
        (tmp_path / f"index{place}").mkdir()
        (tmp_path / f"index{place}" / "size").write_text(f"{size}\n")
    assert last_cache_bytes(tmp_path) == 24 * 2**20
    assert last_cache_bytes(tmp_path / "absent") == 32 * 2**20  # a system without the list


def test_a_stream_moves_a_plausible_number_of_bytes() -> None:
    rate = stream_rate(array_bytes=2**22, seconds=0.05, clock=time.process_time)
    assert 1e8 < rate < 1e13
    with pytest.raises(ValueError, match="array_bytes"):
        stream_rate(array_bytes=3)
    with pytest.raises(ValueError, match="positive"):
        stream_rate(seconds=0)
