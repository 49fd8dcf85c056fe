"""Make the project's virtual environment, or find it already made.

Run by every target of the Makefile as `python3 tools/setup_env.py core|all`. It uses the standard
library alone and parses on old interpreters, so that a wrong Python ends in a sentence and not in
a traceback. `core` holds what `make capstone` needs; `all` adds the book, JupyterLab and the tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
SUPPORTED = ((3, 11), (3, 12), (3, 13))
PROFILES = {"core": (), "all": ("book", "data", "hub", "lab", "test")}
FREE_GB = {"core": 2.0, "all": 4.0}
PROBE = "iniconfig"  # a 7 kB wheel, fetched to learn whether an index answers at all


class SetupError(Exception):
    """A condition that the reader can mend; its text says how."""


def say(message):
    print(f"[setup] {message}", flush=True)


def version_text(version):
    return ".".join(map(str, version))


def interpreter_version(command):
    """Return (major, minor) of a Python command, or None where it does not run."""
    try:
        out = subprocess.run(
            [str(command), "-c", "import sys; print(*sys.version_info[:2])"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return tuple(int(part) for part in out.split())


def choose_python(named=None, current=None):
    """Return a supported interpreter's command.

    Args:
        named: What the reader gave as PYTHON=..., which is used or refused, never replaced.
        current: The interpreter that runs this script, preferred when nothing is named.

    Returns:
        The interpreter's command and its (major, minor).

    Raises:
        SetupError: No supported interpreter is there.
    """
    needs = "this project needs Python 3.11, 3.12 or 3.13"
    if named:
        version = interpreter_version(named)
        if version is None:
            raise SetupError(f"PYTHON={named} does not run as a Python interpreter; {needs}.")
        if version not in SUPPORTED:
            raise SetupError(f"PYTHON={named} is Python {version_text(version)}; {needs}.")
        return named, version
    # The interpreter of .venv itself must not be the base of a new .venv: take the one below it.
    current = current or getattr(sys, "_base_executable", None) or sys.executable
    candidates = [current] + [f"python{version_text(v)}" for v in SUPPORTED]
    for candidate in candidates:
        version = interpreter_version(candidate)
        if version in SUPPORTED:
            return candidate, version
    found = interpreter_version(current)
    raise SetupError(
        f"python3 is Python {version_text(found) if found else 'unknown'}, and {needs}. "
        "Install one of them, or name it: make PYTHON=/path/to/python3.12 TARGET."
    )


def fingerprint(profile, python_version, root=None):
    """Hash what decides the environment's contents: declared needs, pins, Python and place."""
    import tomllib  # Python 3.11, which is certain once an interpreter has been chosen

    root = root or ROOT
    declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project = declared["project"]
    parts = {
        "build": declared["build-system"],
        "dependencies": project["dependencies"],
        "extras": {name: project["optional-dependencies"][name] for name in PROFILES[profile]},
        "identity": [project["name"], project["version"], project.get("scripts", {})],
        "constraints": (root / "constraints.txt").read_text(encoding="utf-8"),
        "python": list(python_version),
        "place": str(root),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def why_remake(venv, python_version):
    """Return the reason why an existing environment cannot be kept, or None."""
    if not venv.exists():
        return None
    found = interpreter_version(venv / "bin" / "python")
    if found is None:
        return "its Python no longer runs"
    if found != python_version:
        return f"it was made with Python {version_text(found)}, not {version_text(python_version)}"
    pip = venv / "bin" / "pip"
    if not pip.exists():
        return "it has no pip"
    made_for = re.match(r"#!\s*(.+)/bin/python", pip.read_text(encoding="utf-8", errors="replace"))
    if made_for and Path(made_for.group(1)) != venv:
        return f"the checkout moved here from {Path(made_for.group(1)).parent}"
    return None


def version_to_keep(venv, default):
    """Return an existing environment's version if it is supported: nobody asked for another."""
    found = interpreter_version(venv / "bin" / "python")
    return found if found in SUPPORTED else default


def check_disk(profile, folder, already_gb=0.0):
    """Refuse to start an installation that the disk cannot hold."""
    free = shutil.disk_usage(str(folder)).free / 1e9
    needed = max(FREE_GB[profile] - already_gb, 0.2)
    if free < needed:
        raise SetupError(
            f"only {free:.1f} GB are free where the checkout lies, and setting up takes "
            f"{needed:.1f} GB: free some space, or move the checkout to another disk."
        )


def check_index(python, root=None):
    """Fetch one tiny wheel, so that a missing index is said in a sentence before any work."""
    constraints = (root or ROOT) / "constraints.txt"
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1"]
        command += ["--disable-pip-version-check", "--no-cache-dir"]
        command += ["--constraint", constraints, "--dest", folder, PROBE]
        done = subprocess.run(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise SetupError(
            f"no package index answers: pip could not fetch {PROBE} ({said[-1]}). Connect to the "
            "network, or point pip at your mirror with PIP_INDEX_URL, or at a folder of wheels "
            "with PIP_FIND_LINKS and PIP_NO_INDEX=1."
        )


def make_venv(python, venv):
    say(f"making {venv.name} with {python}")
    try:
        subprocess.run(
            [python, "-c", "import ensurepip, venv"], check=True, stderr=subprocess.DEVNULL
        )
    except subprocess.CalledProcessError:
        raise SetupError(
            f"{python} cannot make virtual environments (its venv or ensurepip module is missing): "
            "on Debian and Ubuntu, install the package python3-venv."
        ) from None
    subprocess.run([python, "-m", "venv", str(venv)], check=True)


def pip_install(python, what, arguments, log):
    """Run `pip install`, with its words in a log and a line of progress on the screen."""
    say(what)
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", *map(str, arguments)]
    started, shown, collected = time.monotonic(), time.monotonic(), 0
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for raw in process.stdout or ():
            line = raw.decode(errors="replace")
            file.write(line)
            collected += line.startswith("Collecting ")
            installing = line.startswith("Installing collected")
            if installing or time.monotonic() - shown > 5:
                shown = time.monotonic()
                doing = (
                    "unpacking (a minute or so)" if installing else line.strip().split(" (")[0][:60]
                )
                say(f"  {shown - started:4.0f} s, {collected:3d} packages found, {doing}")
        process.wait()
    if process.returncode:
        tail = log.read_text(encoding="utf-8").splitlines()[-12:]
        raise SetupError(
            "pip failed; its last lines:\n    "
            + "\n    ".join(tail)
            + f"\nAll of them are in {log}."
        )


def install(profile, venv):
    """Install torch first, then the project with the profile's extras, all pinned."""
    python, log = venv / "bin" / "python", venv / "install.log"
    log.write_text("", encoding="utf-8")
    check_index(python)
    pinned = ["--constraint", ROOT / "constraints.txt"]
    pip_install(python, "[1/2] torch, by far the largest part", [*pinned, "torch"], log)
    extras = ",".join(PROFILES[profile])
    target = f"{ROOT}[{extras}]" if extras else str(ROOT)
    pip_install(python, f"[2/2] the project ({profile})", [*pinned, "--editable", target], log)


def folder_gb(folder):
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def set_up(profile, named_python=None):
    """Bring `.venv` to the state that the declared needs and pins describe."""
    python, version = choose_python(named_python)
    if sys.version_info[:2] < SUPPORTED[0]:  # go on in an interpreter that can read pyproject.toml
        os.execvp(python, [python, str(Path(__file__).resolve()), profile])
    wanted_version = version if named_python else version_to_keep(VENV, version)
    reason = why_remake(VENV, wanted_version)
    if reason:
        say(f"remaking {VENV.name}: {reason}")
        shutil.rmtree(str(VENV))
    elif VENV.exists():
        version = wanted_version
    wanted = {name: fingerprint(name, version) for name in PROFILES}
    enough = [profile] if profile == "all" else ["core", "all"]
    for name in enough:
        stamp = VENV / f"stamp-{name}"
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted[name]:
            return
    started = time.monotonic()
    check_disk(profile, ROOT, folder_gb(VENV))
    if not VENV.exists():
        make_venv(python, VENV)
    for stale in VENV.glob("stamp-*"):
        stale.unlink()
    install(profile, VENV)
    (VENV / f"stamp-{profile}").write_text(wanted[profile], encoding="utf-8")
    say(f"ready: {time.monotonic() - started:.0f} s, {folder_gb(VENV):.1f} GB in {VENV.name}")


def main(arguments):
    if len(arguments) != 1 or arguments[0] not in PROFILES:
        print(f"usage: setup_env.py {'|'.join(PROFILES)}", file=sys.stderr)
        return 2
    try:
        set_up(arguments[0], os.environ.get("LLMLIB_PYTHON") or None)
    except SetupError as error:
        print(f"\n[setup] Cannot go on: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n[setup] Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
