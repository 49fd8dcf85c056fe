"""Try the project on every supported Python found: `make versions`.

Each interpreter compiles all sources; then a light environment without torch runs the tests and
doctests that need none, which are found by following imports (see torch_free.py).
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from project import ROOT
from setup_env import SUPPORTED, interpreter_version, version_text
from torch_free import torch_free_files

PLACE = ROOT / "build" / "versions"
FOR_TESTS = ("beartype", "hypothesis", "pytest")


def find_interpreters() -> dict[str, Path]:
    """Return one runnable interpreter for each supported version, on PATH or under pyenv."""
    found: dict[str, Path] = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in SUPPORTED:
        name = f"python{version_text(version)}"
        candidates = [*sorted(pyenv.glob(f"*/bin/{name}"), reverse=True)]
        candidates += [Path(path)] if (path := shutil.which(name)) else []
        for candidate in candidates:
            if interpreter_version(candidate) == version:
                found[version_text(version)] = candidate
                break
    return found


def light_requirements() -> list[str]:
    """Return the core's dependencies without torch, and what the tests need."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = [need for need in declared["dependencies"] if not need.startswith("torch")]
    return [*core, *FOR_TESTS]


def light_environment(version: str, interpreter: Path) -> Path:
    """Make or reuse an environment without torch; return its Python."""
    folder = PLACE / version
    stamp = folder / "stamp"
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    wanted = json.dumps([light_requirements(), str(interpreter), str(folder)])
    wanted = hashlib.sha256((wanted + constraints).encode()).hexdigest()
    python = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"[{version}] installing the light environment", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--constraint", ROOT / "constraints.txt", *light_requirements()]
        subprocess.run(command, check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def compiles(interpreter: Path, version: str) -> bool:
    """Compile every source file, leaving no cache in the tree."""
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(PLACE / f"cache-{version}")}
    command = [interpreter, "-W", "error", "-m", "compileall", "-q", "-f", "llmlib", "tests"]
    return subprocess.run([*command, "tools"], cwd=ROOT, env=environment).returncode == 0


def torch_free_tests(python: Path) -> tuple[int, str]:
    """Run them; return how many passed and pytest's closing line."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not bench"]
    command += [path.relative_to(ROOT) for path in torch_free_files(ROOT)]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    closing = done.stdout.rstrip().rpartition("\n")[2]
    passed = re.search(r"(\d+) passed", closing)
    if done.returncode:
        print(done.stdout[-6000:])
        return 0, closing
    return int(passed.group(1)) if passed else 0, closing


def main() -> int:
    interpreters, failed = find_interpreters(), []
    for version in map(version_text, SUPPORTED):
        if version not in interpreters:
            print(f"[{version}] no interpreter found: not tried", flush=True)
            continue
        interpreter = interpreters[version]
        print(f"[{version}] {interpreter}", flush=True)
        if not compiles(interpreter, version):
            failed.append(version)
            continue
        try:
            python = light_environment(version, interpreter)
        except subprocess.CalledProcessError:
            print(f"[{version}] the light environment could not be installed", flush=True)
            failed.append(version)
            continue
        passed, closing = torch_free_tests(python)
        print(f"[{version}] compiles; {closing.strip('= ')}", flush=True)
        if not passed:
            failed.append(version)
    print("failed: " + ", ".join(failed) if failed else f"{len(interpreters)} versions are well")
    return int(bool(failed) or not interpreters)


if __name__ == "__main__":
    sys.exit(main())
