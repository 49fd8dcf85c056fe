"""Runs of program.py that are killed, again and again, by a parent that has imported torch once.

`python killing.py WHAT FOLDER SEED` prints what it saw as JSON; see `test_kill.py`. Each run is a
fork: SIGKILL cannot be caught there either, and twenty imports of torch would take a minute.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from program import build

from llmlib.training import Trainer, read_metrics
from llmlib.training.checkpointing.files import checkpoints, latest, read_manifest, step_of

STEPS, INTERVAL, KILLS = 61, 3, 24
SETTINGS: dict[str, Any] = {"steps": STEPS, "checkpoint_every": INTERVAL, "accumulate": 2}


def forked(task: Callable[[], object]) -> int:
    """Start a task in a process of its own and return its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            task()
            code = 0
        finally:
            os._exit(code)
    return child


def state_of(folder: Path) -> dict[str, Any]:
    """Say what a death left: lines of metrics, and the checkpoints, all of them whole."""
    found = checkpoints(folder / "checkpoints")
    for path in found:
        assert read_manifest(path)["step"] == step_of(path)
    newest = latest(folder / "checkpoints")
    return {
        "lines": len(read_metrics(folder / "metrics.jsonl")),
        "newest": 0 if newest is None else step_of(newest),
        "partial": bool(list((folder / "checkpoints").glob(".step_*"))),
    }


def chain(folder: Path, seed: int) -> dict[str, Any]:
    """Kill runs from outside at drawn moments, each going on with the same command."""
    drawn = random.Random(seed)
    os.waitpid(forked(build(folder / "straight", **SETTINGS).run), 0)
    kills, folders = list[dict[str, Any]](), [folder / "run_0"]
    while len(kills) < KILLS:
        run, file = folders[-1], folders[-1] / "metrics.jsonl"
        before = state_of(run)
        if before["lines"] == STEPS and before["newest"] == STEPS:  # whole: begin another
            folders.append(folder / f"run_{len(folders)}")
            continue
        child = forked(build(run, **SETTINGS).run)
        until = before["newest"] + drawn.randint(1, 2 * INTERVAL)
        while len(read_metrics(file)) < until and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(drawn.uniform(0, 0.02))
        try:
            os.kill(child, signal.SIGKILL)
            died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        except (ProcessLookupError, ChildProcessError):  # it was done before
            continue
        if died:
            kills.append({"resumed_at": before["newest"], **state_of(run)})
    build(folders[-1], **SETTINGS).run()
    return {"kills": kills, "runs": [path.name for path in folders]}


def kill_at_call(trainer: Trainer, number: int) -> None:
    """Save, and die just before the n-th call of a function of the operating system."""
    calls = 0

    def look(frame: object, event: str, function: Any) -> None:
        nonlocal calls
        if event == "c_call" and getattr(function, "__module__", "") == "posix":
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(look)
    trainer.save()


def each_call(folder: Path, seed: int) -> dict[str, Any]:
    """Save once for each system call that a save makes, killed before that call."""
    trainer = build(folder / "original", **SETTINGS | {"keep": 1})
    while trainer.step < 7:
        trainer.train_step()
        if trainer.step == 3:
            trainer.save()
    deaths = list[dict[str, Any]]()
    while True:
        trainer.folder = folder / f"call_{len(deaths) + 1}"
        shutil.copytree(folder / "original", trainer.folder)
        child = forked(lambda: kill_at_call(trainer, len(deaths) + 1))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:  # it has no more calls
            return {"deaths": deaths}
        assert code == -signal.SIGKILL
        deaths.append(state_of(trainer.folder))


if __name__ == "__main__":
    torch.set_num_threads(1)
    what = {"chain": chain, "each_call": each_call}[sys.argv[1]]
    print(json.dumps(what(Path(sys.argv[2]), int(sys.argv[3]))))
