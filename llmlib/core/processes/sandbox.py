"""Run Python that a model or a student wrote, without trusting it.

What is in force depends on the system, and each result says so in `isolation`:

- `network namespace`: no interface, not even loopback; `process namespace`: it sees no other
  process, and none of its own outlives it; `own user` or `user namespace`: the count of its
  processes is limited; `disk quota`: its folder lies in memory and cannot grow past the limit;
  `file access list`: it reads the interpreter, the packages and its folder, and writes its folder
  alone; `no TCP`. These are the kernel's (Linux namespaces and Landlock).
- `limits`: processor time, address space, file size and open files of each process, everywhere but
  on Windows, which has no sandbox here.
- `processor sum`: the processor time of all its processes together (Linux).
- `python guard`: an audit hook that refuses sockets, further processes and writing outside the
  folder. It stands in where the first kind is missing, as on macOS; it stops honest mistakes, and
  not a program that sets out to break it.

A program is judged by the processor seconds that it uses, so that a busy machine does not stop an
honest one; the clock stands far behind, against one that sleeps or waits. Without the sum, or with
children that nobody waits for, several processes can use several times the seconds until the clock
ends them. Memory is limited per process, so several processes can together use several times
as much. The processor's own side channels, the kernel's faults and what a program may infer from
the packages it can read are out of scope.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llmlib.core.processes._pump import Pump
from llmlib.core.processes.sandbox_process import KilledFor, SandboxProcess

_JAIL = Path(__file__).with_name("_jail.py")
_WITHOUT: frozenset[str] = frozenset()  # tests take kernel features away to see the fallbacks


@dataclass(frozen=True)
class SandboxResult:
    """What came of a run."""

    returncode: int
    """The program's exit code; minus the signal's number where a signal ended it."""
    stdout: str
    stderr: str
    """What it printed on each stream, up to the limit; bytes that are not UTF-8 are replaced."""
    timed_out: bool
    """Whether the processor limit or the clock ended it."""
    killed_for: KilledFor | None
    """The limit that ended it: `cpu`, `time` (the clock), `output`, `memory`; None if it ended by
    itself. `memory` is an uncaught MemoryError."""
    isolation: frozenset[str]
    """What was in force; see the module's description."""


def _readable(extra: Sequence[Path]) -> list[str]:
    """List what a program may read: the interpreter, its packages, the system's libraries."""
    own = [sys.prefix, sys.base_prefix, sys.executable, Path(__file__).resolve().parents[2]]
    system = ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime"]
    numbers = ["/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system/cpu"]
    paths = [*own, *system, *numbers, *extra]
    return sorted({os.path.realpath(path) for path in paths})


def _reach(paths: list[str]) -> bool:
    """Tell whether some folder above a path is closed to a user without rights."""
    folders = {parent for path in paths for parent in Path(path).parents if Path(path).exists()}
    return any(not folder.stat().st_mode & 0o001 for folder in folders)


def _write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write the program's files.

    Raises:
        ValueError: If a name leaves the folder.
    """
    for name, content in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"a file of the sandbox has a relative name, not {name!r}")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)


def clock_for(time_s: int | float) -> int | float:
    """Return the seconds by the clock that stand behind a limit: no honest program meets them.

    Example:
        >>> clock_for(1), clock_for(5)
        (60, 100)
    """
    return max(60, 20 * time_s)


@contextmanager
def sandboxed(
    code: str,
    *,
    time_s: int | float = 5,
    memory_mb: int = 512,
    disk_mb: int = 16,
    processes: int = 16,
    files: Mapping[str, str | bytes] | None = None,
    readable: Sequence[Path] = (),
    keep_stderr: bool = True,
) -> Iterator[SandboxProcess]:
    """Start a program in the sandbox and stop it at the end of the block.

    Args:
        code: The program; it becomes `main.py` in a private folder, its working directory.
        time_s: Processor seconds of the whole program, and of each process where the kernel does
            not tell the sum. The clock is the caller's to watch; see `clock_for`.
        memory_mb: Address space of each process, in MiB. Importing torch takes about 4000.
        disk_mb: Size of each file, and of all together where there is a disk quota, in MiB.
        processes: How many processes and threads it may have at once.
        files: Further files of its folder, by relative name.
        readable: Further files and folders it may read.
        keep_stderr: Whether its error stream is a pipe; else it is thrown away.

    Raises:
        ValueError: If a limit is not positive or a file's name leaves the folder.
        NotImplementedError: On Windows.
    """
    if os.name != "posix":
        raise NotImplementedError("the sandbox needs Linux or macOS; on Windows use WSL")
    if min(time_s, memory_mb, disk_mb, processes) <= 0:
        raise ValueError("time, memory, disk and processes must each be positive")
    with tempfile.TemporaryDirectory(prefix="llmlib-sandbox-") as base:
        root = Path(base).resolve()
        root.chmod(0o711)  # its own user must get through to its folder
        work, spool = root / "work", root / "spool"
        work.mkdir(0o700)
        spool.mkdir(0o700)
        _write_files(spool, {"main.py": code, **(files or {})})
        allowed = _readable(readable)
        config = {
            "work": str(work),
            "spool": str(spool),
            "uid": random.SystemRandom().randrange(1_000_000_000, 2_000_000_000),
            "reach": _reach([*allowed, str(work)]),
            "readable": allowed,
            "without": sorted(_WITHOUT),
            "arguments": ["main.py"],
            "command": [sys.executable, "-s", "-B", "-X", "utf8", "main.py"],
            "environment": _environment(work),
            "time_s": time_s,
            "memory_mb": memory_mb,
            "disk_mb": disk_mb,
            "processes": processes,
        }
        process = _start(config, keep_stderr)
        try:
            yield process
        finally:
            process.stop()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            os.close(process.status)


def _environment(work: Path) -> dict[str, str]:
    """Return the program's whole environment: nothing of ours, where secrets may lie."""
    folder = str(work)
    return {
        "HOME": folder,
        "TMPDIR": folder,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
    }


def _start(config: dict[str, object], keep_stderr: bool) -> SandboxProcess:
    """Start the jail."""
    status, status_end = os.pipe()
    control_end, control = os.pipe()
    config = {**config, "status": status_end, "control": control_end}
    try:
        outer = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(_JAIL), json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if keep_stderr else subprocess.DEVNULL,
            cwd="/",
            env={"LANG": "C.UTF-8"},
            pass_fds=(status_end, control_end),
            start_new_session=True,
            bufsize=0,
        )
    except BaseException:
        os.close(status)
        os.close(control)
        raise
    finally:
        os.close(status_end)
        os.close(control_end)
    assert outer.stdin is not None
    assert outer.stdout is not None
    return SandboxProcess(outer, outer.stdin, outer.stdout, outer.stderr, status, control)


def run_python(
    code: str,
    *,
    time_s: int | float = 5,
    wall_s: int | float | None = None,
    memory_mb: int = 512,
    disk_mb: int = 16,
    processes: int = 16,
    max_output: int = 200_000,
    stdin: str = "",
    files: Mapping[str, str | bytes] | None = None,
    readable: Sequence[Path] = (),
) -> SandboxResult:
    r"""Run a program to its end in the sandbox; one that fails is a result too.

    The program gets a private folder, an environment without the caller's variables, no network,
    and limits on all it can use up. When it ends or meets a limit, all it started ends with it.

    Args:
        code: The program; for the arguments not named here see `sandboxed`.
        wall_s: Seconds by the clock, for a program that sleeps or waits; by default 20 times the
            processor seconds, and 60 at least.
        memory_mb: Address space of each process, in MiB. Importing numpy takes about 200,
            importing torch about 4000.
        max_output: Bytes of each output stream to keep; a program that prints more is stopped.

    Raises:
        ValueError: If a limit is not positive or a file's name leaves the folder.

    Example:
        >>> run_python("print(sum(map(int, input().split())))", stdin="2 3").stdout
        '5\n'
    """
    if max_output <= 0:
        raise ValueError(f"max_output must be positive, not {max_output}")
    if wall_s is None:
        wall_s = clock_for(time_s)
    if wall_s <= 0:
        raise ValueError(f"wall_s must be positive, not {wall_s}")
    deadline = time.monotonic() + wall_s
    with sandboxed(
        code,
        time_s=time_s,
        memory_mb=memory_mb,
        disk_mb=disk_mb,
        processes=processes,
        files=files,
        readable=readable,
    ) as process:
        pump = Pump(process, stdin.encode(), max_output)
        with pump.selector:
            killed_for: KilledFor | None = pump.run(deadline)
        process.stop()
        returncode = -9 if process.returncode is None else process.returncode
    stdout, stderr = pump.text("out"), pump.text("err")
    killed_for = killed_for or process.killed_for
    if killed_for is None and returncode and stderr.rstrip().endswith("MemoryError"):
        killed_for = "memory"
    timed_out = killed_for in ("time", "cpu")
    return SandboxResult(returncode, stdout, stderr, timed_out, killed_for, process.isolation)
