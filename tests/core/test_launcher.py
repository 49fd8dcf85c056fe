import os
import time

import pytest
import torch
import torch.distributed as dist

from llmlib.core.processes.launcher import RankError, launch


def rank_sum(rank: int, world_size: int, scale: float) -> torch.Tensor:
    value = torch.full((3,), scale * (rank + 1))
    dist.all_reduce(value)
    assert dist.get_world_size() == world_size
    assert torch.get_num_threads() == 1
    return value + 100 * rank


def rank_one_raises(rank: int, world_size: int) -> None:
    if rank == 1:
        raise KeyError("the missing shard")
    dist.barrier()  # waits for rank 1 for ever


def rank_one_dies(rank: int, world_size: int) -> None:
    if rank == 1:
        os._exit(7)
    dist.barrier()


def rank_zero_sleeps(rank: int, world_size: int) -> int:
    if rank == 0:
        time.sleep(600)
    return rank


def test_results_come_back_by_rank() -> None:
    got = launch(rank_sum, 2, 5.0, timeout_s=60)
    for rank, value in enumerate(got):
        torch.testing.assert_close(value, torch.full((3,), 15.0 + 100 * rank))


def test_the_traceback_of_the_failing_rank_is_raised() -> None:
    with pytest.raises(RankError, match=r"(?s)rank 1 of 2 failed.*rank_one_raises.*missing shard"):
        launch(rank_one_raises, 2, timeout_s=60)


def test_a_rank_that_dies_silently_is_named() -> None:
    with pytest.raises(RankError, match=r"rank 1 of 2 died .*exit code 7|rank 0 of 2 failed"):
        launch(rank_one_dies, 2, timeout_s=60)


def test_a_hanging_rank_is_stopped_in_time() -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="rank 0.* after 4 s"):
        launch(rank_zero_sleeps, 2, timeout_s=4)
    assert time.monotonic() - start < 30


def test_what_another_process_cannot_find_is_refused() -> None:
    with pytest.raises(ValueError, match="top of a module"):
        launch(lambda rank, world_size: None, 2)
    with pytest.raises(ValueError, match="at least one"):
        launch(rank_sum, 0)
