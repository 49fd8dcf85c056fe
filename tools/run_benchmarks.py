"""Run every benchmark, one after the other: `make bench [ARGS="bench_bpe bench_step"]`.

Each is a script `tests/benchmarks/bench_*.py` that prints its table and writes a JSON report into
build/bench. They run alone, because two at once would measure each other.
"""

import subprocess
import sys
import time

from project import ROOT

REPORTS = ROOT / "build" / "bench"


def main(arguments: list[str]) -> int:
    scripts = sorted((ROOT / "tests" / "benchmarks").glob("bench_*.py"))
    chosen = [script for script in scripts if not arguments or script.stem in arguments]
    unknown = set(arguments) - {script.stem for script in scripts}
    if unknown or not chosen:
        known = ", ".join(script.stem for script in scripts) or "none"
        print(f"no benchmark named {', '.join(sorted(unknown))}; there are: {known}")
        return 2
    REPORTS.mkdir(parents=True, exist_ok=True)
    failed = []
    for number, script in enumerate(chosen, 1):
        print(f"\n[{number}/{len(chosen)}] {script.stem}", flush=True)
        begun = time.monotonic()
        if subprocess.run([sys.executable, str(script)], cwd=ROOT).returncode:
            failed.append(script.stem)
        print(f"[{number}/{len(chosen)}] {time.monotonic() - begun:.0f} s", flush=True)
    print(f"\nReports: {', '.join(path.name for path in sorted(REPORTS.glob('*.json')))}")
    print(f"in {REPORTS.relative_to(ROOT)}")
    if failed:
        print(f"FAILED: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
