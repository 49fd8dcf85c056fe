"""Run the tests that start processes again and again, and write down how each round ended.

`python tools/repeat_tests.py 50` adds rounds to data/results/repeated_tests.jsonl until it holds so
many of the code as it is. What deadlocks now and then shows only so.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from project import ROOT

RECORD = ROOT / "data" / "results" / "repeated_tests.jsonl"
TESTS = (
    "tests/training/parallel/test_context_and_experts.py",
    "tests/training/parallel/test_pipeline_parallel.py",
    "tests/training/parallel/test_tensor_parallel.py",
)
WATCHED = ("llmlib/training/parallel", "llmlib/core/processes", "tests/training/parallel")
LIMIT_S = 300
"""Half a minute is usual; a round that takes so long has hung."""


def code_hash(root: Path = ROOT) -> str:
    """Hash the source of what is repeated."""
    found = hashlib.sha256()
    for folder in WATCHED:
        for path in sorted((root / folder).rglob("*.py")):
            found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def one_round() -> dict[str, object]:
    """Run the tests once, in an interpreter of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"hung": True, "passed": 0, "failed": 0, "seconds": LIMIT_S}
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    return {
        "hung": False,
        "passed": counts.get("passed", 0),
        "failed": counts.get("failed", 0) + counts.get("error", 0) + (done.returncode > 1),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, help="rounds that the record shall hold")
    rounds = parser.parse_args().rounds
    code = code_hash()
    known = RECORD.read_text(encoding="utf-8").splitlines() if RECORD.exists() else []
    lines = [line for line in map(json.loads, known) if line["code"] == code]
    while len(lines) < rounds:
        load = round(os.getloadavg()[0], 1)
        lines.append({"round": len(lines), "code": code, "load": load, **one_round()})
        RECORD.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        print(lines[-1], flush=True)


if __name__ == "__main__":
    main()
