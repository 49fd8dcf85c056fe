"""Run notebooks again and store their outputs in place: `make notebooks [ARGS=FILES] [CHANGED=1]`.

Each runs as continuous integration runs it, with one thread, from its own folder; a second call
with nothing changed leaves every byte as it was. `--changed` runs only those which differ from HEAD
or import what does.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from affected import affected, changed_files
from check_notebooks import fix
from project import ROOT, Address, address, notebooks

NBCONVERT = ["-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", "--log-level=ERROR"]
OPTIONS = [
    "--ExecutePreprocessor.record_timing=False",
    "--ExecutePreprocessor.store_widget_state=False",
    "--ExecutePreprocessor.timeout=600",  # of a cell that waits for ever
]


def execute(path: Path, where: Address) -> int:
    """Run one notebook, normalise it, and return nbconvert's exit status."""
    fix(path, where)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = [sys.executable, *NBCONVERT, *OPTIONS, str(path)]
    status = subprocess.run(command, cwd=ROOT, env=environment).returncode
    if status == 0:
        fix(path, where)
    return status


def main(arguments: list[str]) -> int:
    files = [Path(name).resolve() for name in arguments if name != "--changed"] or notebooks()
    if "--changed" in arguments:
        chosen = {ROOT / path for path in affected(ROOT, changed_files(ROOT)).notebooks}
        files = [path for path in files if path in chosen]
    where, failed = address(), 0
    for number, path in enumerate(files, 1):
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        print(f"[{number}/{len(files)}] {shown}", flush=True)
        begun = time.monotonic()
        failed += execute(path, where) != 0
        print(f"[{number}/{len(files)}] {time.monotonic() - begun:.1f} s", flush=True)
    if failed:
        print(f"{failed} notebooks failed", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
