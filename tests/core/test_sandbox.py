"""Programs that try to break out, each stopped; and honest ones, which must not notice."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmlib.core.processes import sandbox
from llmlib.core.processes.sandbox import run_python, sandboxed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's means are Linux's")


def has(*features: str) -> bool:
    return set(features) <= run_python("").isolation


def only_with(*features: str) -> None:
    if not has(*features):
        pytest.skip(f"this kernel does not give {' and '.join(features)}")


@pytest.fixture(params=["as the kernel allows", "no namespaces", "nothing but limits"])
def strength(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each fallback in turn."""
    without = {"no namespaces": {"namespaces"}, "nothing but limits": {"namespaces", "landlock"}}
    monkeypatch.setattr(sandbox, "_WITHOUT", frozenset(without.get(request.param, ())))
    if (
        "landlock" in sandbox._WITHOUT
        and os.getuid() == 0
        and sandbox._reach(sandbox._readable(()))
    ):
        # Root's own interpreter cannot be opened to others without Landlock: take the system's.
        monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
        monkeypatch.setattr(sys, "prefix", "/usr")
        monkeypatch.setattr(sys, "base_prefix", "/usr")
        if not Path(sys.executable).exists() or sandbox._reach(sandbox._readable(())):
            pytest.skip("no interpreter lies where another user may run it")
    return request.param


def test_an_honest_program_runs(strength: str) -> None:
    code = "import sys, helper; print(helper.name, input()); sys.exit(3)"
    result = run_python(code, stdin="in\n", files={"helper.py": "name = 'here'"})
    assert (result.returncode, result.stdout, result.stderr) == (3, "here in\n", "")
    assert not result.timed_out
    assert result.killed_for is None
    assert "limits" in result.isolation


def test_its_own_folder_is_writable_and_gone_afterwards(strength: str) -> None:
    result = run_python("import os; open('a', 'w').write('x'); print(os.getcwd(), os.listdir())")
    folder, rest = result.stdout.split(" ", 1)
    assert sorted(json.loads(rest.replace("'", '"'))) == ["a", "main.py"]
    assert not Path(folder).exists()


def test_a_busy_loop_is_ended_for_its_processor_time(strength: str) -> None:
    result = run_python("print('begun', flush=True)\nwhile True: pass", time_s=1)
    assert result.killed_for == "cpu"
    assert result.timed_out
    assert result.stdout == "begun\n"


def test_without_the_sum_each_process_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_WITHOUT", frozenset({"processor sum"}))
    code = "import resource\nprint(resource.getrlimit(resource.RLIMIT_CPU), flush=True)\n"
    result = run_python(code + "while True: pass", time_s=0.5)
    assert result.stdout == "(1, 2)\n"
    assert result.killed_for == "cpu"
    assert "processor sum" not in result.isolation


@pytest.mark.parametrize("waited_for", [False, True])
def test_processes_share_one_processor_limit(waited_for: bool) -> None:
    only_with("processor sum")
    code = f"""
import os, time
for _ in range(4):
    if os.fork() == 0:
        while time.process_time() < 0.6: pass
        os._exit(0)
    if {waited_for}: os.wait()
for _ in range(0 if {waited_for} else 4): os.wait()
print("done")
"""
    result = run_python(code, time_s=1)
    assert (result.killed_for, result.stdout) == ("cpu", "")


@pytest.fixture
def busy_neighbours() -> Iterator[None]:
    """Six processes that never rest, on the one processor that is left to the test."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    loop = [sys.executable, "-S", "-c", "while True: pass"]
    # Sessions of their own: the kernel shares the processor between sessions.
    neighbours = [subprocess.Popen(loop, start_new_session=True) for _ in range(6)]
    yield
    for neighbour in neighbours:
        neighbour.kill()
        neighbour.wait()
    os.sched_setaffinity(0, processors)


@pytest.mark.slow
@pytest.mark.usefixtures("busy_neighbours")
def test_neighbours_do_not_stop_an_honest_program() -> None:
    code = """
import time
start = time.monotonic()
while time.process_time() < 1: pass
print(time.monotonic() - start)
"""
    result = run_python(code, time_s=3)
    assert result.killed_for is None
    assert float(result.stdout) > 3, "by the clock it would have been stopped"


def test_a_sleeper_is_ended_by_the_clock() -> None:
    result = run_python("import time; time.sleep(60)", time_s=3, wall_s=1)
    assert result.killed_for == "time"
    assert result.timed_out


def test_ignoring_signals_does_not_help(strength: str) -> None:
    code = "import signal, time\nfor n in set(signal.Signals) - {9, 19}: signal.signal(n, 1)\n"
    result = run_python(code + "time.sleep(60)", wall_s=1)
    assert result.killed_for == "time"


def test_a_memory_bomb_is_refused(strength: str) -> None:
    result = run_python("x = bytearray(10**9)\nprint(len(x))", memory_mb=200)
    assert result.killed_for == "memory"
    assert result.stdout == ""


FORK_BOMB = """
import os
made = 0
try:
    for _ in range(300):
        if os.fork() == 0:
            import time; time.sleep(30)
        made += 1
except BlockingIOError:
    print("refused after", made, flush=True)
"""


def test_a_fork_bomb_is_refused() -> None:
    if not (has("own user") or has("user namespace")):
        pytest.skip("processes are counted with the user's other ones here")
    result = run_python(FORK_BOMB, processes=7)
    assert result.stdout == "refused after 6\n"


def living_in(folder: str) -> list[str]:
    """List the processes whose working directory is a sandbox's, even one that is gone."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found += [path.parent.name] if os.readlink(path).startswith(folder) else []  # noqa: PTH115
        except OSError:
            continue
    return found


@pytest.mark.parametrize("without", [(), ("namespaces",)])
def test_no_daemon_outlives_the_program(
    without: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The C library's fork, because the Python guard of the fallback refuses os.fork.
    code = """
import ctypes, os, time
fork = ctypes.PyDLL(None).fork
if fork() == 0:
    os.setsid()
    if fork() == 0:
        print("daemon", flush=True)
        time.sleep(600)
    os._exit(0)
time.sleep(0.5)
print(os.getcwd())
"""
    monkeypatch.setattr(sandbox, "_WITHOUT", frozenset(without))
    result = run_python(code)
    assert result.killed_for is None, "it would be the clock, had it waited for the daemon"
    said, folder = result.stdout.splitlines()
    assert said == "daemon"
    assert living_in(folder) == []


def test_what_the_kernel_offers_is_used() -> None:
    got = run_python("").isolation
    abi = ctypes.CDLL(None).syscall(444, None, 0, 1)  # landlock_create_ruleset, asking the version
    assert ("file access list" in got) == (abi >= 1)
    assert ("no TCP" in got) == (abi >= 4)
    probe = ["unshare", *([] if os.getuid() == 0 else ["-U", "-r"]), "-n", "-p", "-m", "-f", "true"]
    if shutil.which("unshare") and subprocess.run(probe, capture_output=True).returncode == 0:
        assert {"network namespace", "process namespace", "disk quota"} <= got
    assert bool({"own user", "user namespace"} & got) or os.getuid() != 0


def test_a_child_that_holds_the_output_open_does_not_delay_the_end() -> None:
    code = "import os, time\nif os.fork() == 0: os.setsid(); time.sleep(600)\nprint('done')"
    result = run_python(code)
    assert (result.stdout, result.killed_for) == ("done\n", None)


def test_writing_outside_the_folder_is_refused(strength: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    target = tmp_path / "stolen"
    for parent in tmp_path.parents[:3]:
        if parent.stat().st_uid == os.getuid() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    result = run_python(f"open({str(target)!r}, 'w').write('x')")
    assert "PermissionError" in result.stderr
    assert not target.exists()


def test_the_users_files_cannot_be_read(tmp_path: Path) -> None:
    only_with("file access list")
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    for path in (str(secret), "/etc/passwd", "/proc/1/environ", f"/proc/{os.getpid()}/environ"):
        result = run_python(f"print(open({path!r}).read())")
        assert "PermissionError" in result.stderr or "FileNotFound" in result.stderr, path
        assert result.stdout == ""
    allowed = run_python(f"print(open({str(secret)!r}).read())", readable=[secret])
    assert allowed.stdout == "s3cret\n"


def test_the_environment_is_not_inherited(strength: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    result = run_python("import os; print(sorted(os.environ)); print(os.environ['HOME'])")
    assert "SECRET_TOKEN" not in result.stdout
    assert str(Path.home()) + "\n" not in result.stdout


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_no_socket_reaches_anything(strength: str, family: str, kind: str) -> None:
    address = "127.0.0.1" if family == "AF_INET" else "::1"
    code = f"""
import socket
s = socket.socket(socket.{family}, socket.{kind})
s.settimeout(1)
s.connect(("{address}", 53)); s.send(b"x"); print("sent")
"""
    result = run_python(code)
    assert result.returncode == 1
    assert "sent" not in result.stdout
    assert "Error" in result.stderr


def test_huge_output_is_cut_off(strength: str) -> None:
    result = run_python("while True: print('y' * 1000)", max_output=10_000)
    assert result.killed_for == "output"
    assert not result.timed_out
    assert len(result.stdout) < 10_100
    assert result.stdout.endswith("[output cut off here]\n")


def test_closing_the_output_does_not_hide_the_program() -> None:
    code = "import os, time\nos.close(1); os.close(2); os.close(0); time.sleep(60)"
    result = run_python(code, wall_s=1)
    assert result.killed_for == "time"


def test_a_file_too_large_and_a_folder_too_full_are_refused() -> None:
    result = run_python("open('a', 'wb').write(bytes(9 * 2**20))", disk_mb=3)
    assert result.returncode != 0
    only_with("disk quota")
    code = "for n in range(9): open(str(n), 'wb').write(bytes(2**20)); print(n, flush=True)"
    result = run_python(code, disk_mb=3)
    assert "No space left" in result.stderr
    assert len(result.stdout.splitlines()) <= 3


def test_other_processes_are_out_of_sight() -> None:
    only_with("process namespace", "own user")
    code = f"""
import os, signal
for pid in ({os.getpid()}, {os.getppid()}, 1):
    try:
        os.kill(pid, signal.SIGKILL)
        print("killed", pid)
    except OSError as error:
        print(type(error).__name__)
"""
    assert "killed" not in run_python(code).stdout


def test_privileges_are_gone() -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None), os.getuid() == 0)
print(libc.syscall(101, 16, 1, 0, 0))  # ptrace attach
"""
    lines = run_python(code).stdout.split()
    assert lines[0] == lines[2] == "-1"
    assert lines[1] == "False"


def test_a_program_that_dies_by_a_signal_says_so() -> None:
    result = run_python("import os; os.abort()")
    assert (result.returncode, result.killed_for) == (-6, None)


def test_input_larger_than_a_pipe_arrives_and_unread_input_does_no_harm() -> None:
    text = "x" * 300_000
    assert run_python("print(len(input()))", stdin=text).stdout == "300000\n"
    assert run_python("print('no')", stdin=text).stdout == "no\n"


def test_one_can_talk_with_a_program() -> None:
    with sandboxed("for line in iter(input, 'end'): print(2 * int(line), flush=True)") as process:
        for number in (3, 5, 7):
            process.stdin.write(b"%d\n" % number)
            assert process.stdout.readline() == b"%d\n" % (2 * number)
    assert process.outer.returncode is not None


def test_the_processor_limit_of_a_running_program_can_be_renewed() -> None:
    only_with("processor sum")
    code = """
import time
for line in iter(input, "end"):
    start = time.process_time()
    while time.process_time() < start + float(line): pass
    print("ready", flush=True)
"""
    with sandboxed(code, time_s=9) as process:
        for seconds in (b"0.5\n", b"0.5\n", b"5\n"):
            process.renew_time(0.8)
            process.stdin.write(seconds)
            assert process.stdout.readline() == (b"" if seconds == b"5\n" else b"ready\n")
    assert process.killed_for == "cpu"
    process.renew_time(1)  # of a program that has ended: no harm


def test_nothing_is_left_open_or_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        run_python("print(1)")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time_s": 0}, "positive"),
        ({"wall_s": 0}, "positive"),
        ({"max_output": 0}, "positive"),
        ({"files": {"../x": ""}}, "relative name"),
        ({"files": {"/x": ""}}, "relative name"),
    ],
)
def test_a_callers_mistake_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_python("", **arguments)  # pyright: ignore[reportArgumentType]
