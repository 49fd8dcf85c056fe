"""How fast this machine is just now: processor seconds of a fixed piece of work.

`python tools/calibration.py` measures it. The work, half pure Python and half float32 matrix
products, is done by two processes at once, because the tests run two at a time: cores that share
their units, and neighbours who take the memory, slow it as they slow the tests.
"""

import os
import statistics
import subprocess
import sys
import time

PROCESSES, REPETITIONS = 2, 3
REFERENCE_S = 0.77
"""What the work takes on the machine in whose seconds the limits are written: a virtual one of two
cores of an AMD EPYC (family 25, model 17, 2.6 GHz), Python 3.11, torch 2.13. Measured 8 times:
0.76 to 0.81, the lower the less else was running."""


def pure_python() -> int:
    """Count words, sort, format and look up: what a tokenizer or a parser does."""
    words = [f"w{(n * 7919) % 4099}" for n in range(900_000)]
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    total = 0
    for n in range(2_500_000):
        total = (total * 31 + n) % 65_537
    return total + len(" ".join(ranked).split())


def matrix_products() -> float:
    """Multiply float32 matrices of the sizes that the tests' models have."""
    import torch

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(384, 384, generator=generator) for _ in range(2))
    for _ in range(320):
        a = torch.relu(a @ b) * 0.07
    return float(a.sum())


def work_seconds() -> float:
    """Do the work a few times in this process and return the median of its processor seconds."""
    matrix_products()  # the first call also loads torch
    seconds = []
    for _ in range(REPETITIONS):
        begun = time.process_time()
        pure_python()
        matrix_products()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds)


def command() -> list[str]:
    return [sys.executable, __file__, "--alone"]


def calibrate() -> float:
    """Return how many times slower than the reference this machine is now.

    Raises:
        RuntimeError: A process that does the work failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(command(), env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    said = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError("the calibration failed: run `python tools/calibration.py --alone`")
    return statistics.mean(map(float, said)) / REFERENCE_S


if __name__ == "__main__":
    print(f"{work_seconds() if '--alone' in sys.argv else calibrate():.4f}")
