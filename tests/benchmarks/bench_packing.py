"""Best-fit packing beside the textbook's loop over sorted free spaces, and privacy's detectors.

`python tests/benchmarks/bench_packing.py` prints the figures and writes build/bench/packing.json.
The loop keeps the free spaces in a sorted list and places one piece at a time, by bisection; both
must need the same number of rows. `--small` makes a quick trial.
"""

import json
import sys
import time
from bisect import bisect_left, insort
from pathlib import Path
from statistics import median

import numpy as np

from llmlib.core.files import atomic_write
from llmlib.core.hardware.machine import machine_class, versions
from llmlib.data import fixed_corpus
from llmlib.data.privacy import find_personal
from llmlib.data.privacy.spans import PERSONAL_KINDS
from llmlib.data.stream.best_fit_packing import concatenation_truncations, pack_best_fit

OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "packing.json"
SEQ_LEN = 2048


def lengths_like_pages(n: int) -> np.ndarray:
    """Log-normal lengths, a median of 400 tokens, a tenth of them longer than a row."""
    drawn = np.random.default_rng(0).lognormal(6, 1.2, n)
    return np.clip(drawn, 1, 50_000).astype(np.int64)


def rows_by_bisection(lengths: np.ndarray) -> int:
    """Pack piece by piece into the smallest space that holds it; return the number of rows."""
    pieces = [min(SEQ_LEN, n - at) for n in lengths.tolist() for at in range(0, n, SEQ_LEN)]
    spaces: list[int] = []
    rows = 0
    for piece in sorted(pieces, reverse=True):
        place = bisect_left(spaces, piece)
        if place < len(spaces):
            space = spaces.pop(place)
        else:
            space, rows = SEQ_LEN, rows + 1
        if space > piece:
            insort(spaces, space - piece)
    return rows


def packing(n: int, repeats: int) -> dict[str, float]:
    """Time both on the same lengths, in turn."""
    lengths = lengths_like_pages(n)
    packed = pack_best_fit(lengths, SEQ_LEN)
    ours, loops = [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        packed = pack_best_fit(lengths, SEQ_LEN)
        middle = time.perf_counter()
        rows = rows_by_bisection(lengths)
        ours.append(middle - begin)
        loops.append(time.perf_counter() - middle)
        assert packed.n_rows == rows
    full = -(-int(lengths.sum()) // SEQ_LEN)
    cuts = concatenation_truncations(lengths, SEQ_LEN)
    return {
        f"{n} documents: documents a second": n / median(ours),
        f"{n} documents: the loop's time / ours": median(
            loop / mine for loop, mine in zip(loops, ours, strict=True)
        ),
        f"{n} documents: rows above the least possible, in %": 100 * (packed.n_rows / full - 1),
        f"{n} documents: cuts / those of a stream": packed.truncations / cuts,
    }


def privacy(every: int) -> dict[str, float]:
    """Time the detectors on docstrings, with names and without."""
    texts = [document.text for document in fixed_corpus()[::every]]
    size = sum(len(text.encode()) for text in texts)
    figures = {}
    for label, kinds in (("all detectors", PERSONAL_KINDS), ("without names", PERSONAL_KINDS[:-1])):
        begin = time.perf_counter()
        for text in texts:
            find_personal(text, kinds)
        figures[f"privacy, {label}: MB/s"] = size / 1e6 / (time.perf_counter() - begin)
    return figures


def main() -> None:
    small = "--small" in sys.argv
    figures: dict[str, float] = {}
    for n in (5_000,) if small else (25_000, 100_000, 400_000):
        figures |= packing(n, 3 if small else 5)
    figures |= privacy(20 if small else 1)
    for name, value in figures.items():
        print(f"{name:56} {value:14.4f}")
    if not small:
        report = {"machine": machine_class(), "versions": versions(), "figures": figures}
        atomic_write(OUTPUT, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
