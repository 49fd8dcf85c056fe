"""Steps that take turns, so that a slower minute of the machine hits all of them."""

import time
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile

Action = Callable[[], object]


def timed(action: Action) -> float:
    """Return the seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def take_turns(
    actions: Mapping[str, Action], repeats: int, after_each_round: Action = lambda: None
) -> dict[str, list[float]]:
    """Return the seconds of each action in each round, after one round that warms up."""
    for action in actions.values():
        action()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            times[name].append(timed(action))
        after_each_round()
    return times


def training_step(
    model: torch.nn.Module, loss: Callable[[], torch.Tensor], *, bfloat16: bool = False
) -> Action:
    """Return a step: the loss, its gradient, and AdamW's update."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        return value.item()

    return step


def profiler_table(action: Action, rows: int = 14) -> str:
    """Return which operations an action spends its time in."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        action()
    averages = profiler.key_averages()
    return averages.table(sort_by="self_cpu_time_total", row_limit=rows, max_name_column_width=45)
