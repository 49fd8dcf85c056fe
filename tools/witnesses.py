"""Try the comparisons with other libraries on these libraries' newest releases.

`make versions WITNESSES=newest`, once a month by hand: an environment under build/, thrown away at
the end, gets what the extras `test`, `data` and `hub` name without the pins of constraints.txt, and
tests/parity runs in it. torch stays at its pin: its newest release would bring the GPU's libraries
along. The report says what to expect of raising a pin; a comparison that fails is no failure here.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

from project import ROOT

PLACE = ROOT / "build" / "witnesses"
EXTRAS = ("test", "data", "hub")
SOME_FAILED = 1  # pytest's exit status


@dataclass(frozen=True)
class Outcome:
    """How one comparison ended."""

    file: str
    name: str
    result: str  # passed, failed or skipped
    message: str = ""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(root: Path = ROOT) -> tuple[list[str], list[str]]:
    """Return what the library needs, torch at its pin, and what the extras name."""
    declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = declared["optional-dependencies"]
    core = [need for need in declared["dependencies"] if not need.startswith("torch")]
    witnesses = [need for extra in EXTRAS for need in optional[extra]]
    return [f"torch=={pins(root)['torch']}", *core], witnesses


def pins(root: Path = ROOT) -> dict[str, str]:
    """Return the versions that constraints.txt pins."""
    text = (root / "constraints.txt").read_text(encoding="utf-8")
    return {canonical(name): v for name, v in re.findall(r"^([\w.-]+)==([^\s;#]+)", text, re.M)}


def imported_packages(path: Path, homes: Mapping[str, list[str]]) -> set[str]:
    """Return the distributions that a test file imports.

    Args:
        path: The file.
        homes: The distributions of each top-level module.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
            found.add(str(ast.literal_eval(node.args[0])).split(".")[0])
    return {canonical(name) for module in found for name in homes.get(module, [])}


def outcomes(junit: str) -> list[Outcome]:
    """Read the outcomes, one for each test, from pytest's JUnit report."""
    found = []
    for case in ET.fromstring(junit).iter("testcase"):
        bad = [child for child in case if child.tag in ("failure", "error")]
        skipped = case.find("skipped") is not None
        result = "failed" if bad else "skipped" if skipped else "passed"
        message = (bad[0].get("message") or "").strip().split("\n")[0] if bad else ""
        # A file that cannot be imported is reported by its name alone.
        module = case.get("classname") or case.get("name", "")
        found.append(Outcome(file_of(module), case.get("name", ""), result, message))
    return found


def file_of(module: str) -> str:
    """Return the test file of a dotted name, which may end in a class."""
    parts = module.split(".")
    last = next(n for n, part in enumerate(parts) if part.startswith("test_"))
    return "/".join(parts[: last + 1]) + ".py"


def report(
    named: Iterable[str],
    installed: Mapping[str, str],
    found: list[Outcome],
    imports: Mapping[str, set[str]],
) -> str:
    """Return, for each package, its pinned and its newest version and how its comparisons ended.

    Args:
        named: The requirements of the extras.
        installed: The versions that were tried, by canonical name.
        found: The outcomes of all comparisons.
        imports: The packages that each test file imports.
    """
    pinned = pins()
    by_package: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in found:
        for package in imports.get(outcome.file, ()):
            by_package[package][outcome.result] += 1
    lines = [f"{'package':<18} {'pinned':<12} {'tried':<12} comparisons"]
    for package in sorted({canonical(re.split(r"[<>=!~ \[;]", need)[0]) for need in named}):
        counts = by_package[package]
        ended = ", ".join(f"{counts[result]} {result}" for result in sorted(counts)) or "-"
        tried = installed.get(package, "-")
        lines.append(f"{package:<18} {pinned.get(package, '-'):<12} {tried:<12} {ended}")
    failed = [outcome for outcome in found if outcome.result == "failed"]
    lines += [f"FAILED {o.file}::{o.name}: {o.message}" for o in failed]
    return "\n".join([*lines, f"{len(found)} comparisons, {len(failed)} failed"])


def install(folder: Path) -> Path:
    """Make the environment and return its Python."""
    print(f"installing the newest witnesses into {folder.relative_to(ROOT)}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python, (core, witnesses) = folder / "bin" / "python", requirements()
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *core, *witnesses], check=True)
    return python


def installed_versions(python: Path) -> dict[str, str]:
    command = [python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {canonical(entry["name"]): entry["version"] for entry in json.loads(said)}


def compare(python: Path) -> str:
    """Run the comparisons and return pytest's JUnit report.

    Raises:
        RuntimeError: pytest did not come as far as to run them.
    """
    path = PLACE / "parity.xml"
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={path}"]
    command += ["--continue-on-collection-errors", "tests/parity"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    status = subprocess.run(command, cwd=ROOT, env=environment).returncode
    if status not in (0, SOME_FAILED):
        raise RuntimeError(f"pytest ended with status {status} before the comparisons were run")
    return path.read_text(encoding="utf-8")


def main() -> int:
    """Install, compare, print the report and remove the environment."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    homes = packages_distributions()
    tests = sorted((ROOT / "tests" / "parity").rglob("test_*.py"))
    imports = {p.relative_to(ROOT).as_posix(): imported_packages(p, homes) for p in tests}
    try:
        python = install(PLACE / "environment")
        text = report(
            requirements()[1], installed_versions(python), outcomes(compare(python)), imports
        )
    finally:
        shutil.rmtree(PLACE / "environment", ignore_errors=True)
    (PLACE / "report.txt").write_text(f"{text}\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
