import gc
import mmap

import pytest
import torch
from torch import nn

from llmlib.core.hardware.memory import MemoryMeter, resident_bytes, tracked_allocations


def test_the_meter_sees_a_peak_that_is_gone_at_the_end() -> None:
    gc.collect()  # what other tests left must not go in the middle
    with MemoryMeter(interval_s=0.001) as meter:
        # Pages straight from the kernel: an allocator may hand out what earlier tests left.
        pages = mmap.mmap(-1, 120_000_000)
        block = torch.frombuffer(pages, dtype=torch.float32)
        for _ in range(20):
            block.add_(1.0)
        del block
        pages.close()
    assert 100e6 < meter.extra_bytes < 200e6
    assert resident_bytes() < meter.peak_bytes


def test_a_meter_needs_a_positive_interval() -> None:
    with pytest.raises(ValueError, match="positive"):
        MemoryMeter(0)


def test_activations_kept_for_the_backward_pass_are_counted() -> None:
    weight = torch.randn(7, 11, requires_grad=True)
    inputs = torch.randn(13, 7)
    with tracked_allocations() as memory:
        hidden = inputs @ weight  # 13 x 11
        loss = hidden.exp().sum()  # exp keeps its 13 x 11 result; the sum is one number
        del hidden
    # `hidden` itself is not needed backwards, so only exp's result and the scalar stay.
    assert memory.current_bytes == 4 * (13 * 11 + 1)
    assert memory.peak_bytes == 4 * (2 * 13 * 11 + 1)
    del loss
    assert memory.current_bytes == 0


def test_in_place_and_views_allocate_nothing() -> None:
    before = torch.zeros(5, 3)
    with tracked_allocations() as memory:
        before.add_(1)
        view = before.t()[1:]
        view.mul_(2)
    assert memory.peak_bytes == 0


def test_backward_is_counted_and_gradients_stay() -> None:
    layer = nn.Linear(17, 19)
    inputs = torch.randn(23, 17)
    with tracked_allocations() as memory:
        layer(inputs).sum().backward()
    assert memory.current_bytes == 4 * (17 * 19 + 19)  # the two gradients
    assert memory.peak_bytes > memory.current_bytes
