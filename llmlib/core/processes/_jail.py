"""The inside of the sandbox: a script that locks itself in, then runs a Python program.

It is started by `sandbox.py` beside it as `python -I -S _jail.py CONFIG`, uses the standard library
alone, and works in three processes: the outer one takes what namespaces it can get, the second is
the first process of the new process namespace and ends everything when its time has come, the third
gives up every right and becomes the program.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import struct
import sys
import time
from pathlib import Path

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP = 1, 4, 8, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
CAP_DAC_READ_SEARCH = 2
NETWORK, FILES = "network namespace", "file access list"
PROCESSOR_SUM = "processor sum"

# include/uapi/linux/landlock.h
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
FS_EXECUTE, FS_WRITE_FILE, FS_READ_FILE, FS_READ_DIR = 1, 2, 4, 8
FS_TRUNCATE, FS_IOCTL_DEV = 1 << 14, 1 << 15
FS_FOR_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV


def libc():
    """Return the C library, with errno kept."""
    return ctypes.CDLL(None, use_errno=True)


def prctl(option, *args):
    """Call prctl with up to four numbers; return whether it worked."""
    values = [ctypes.c_ulong(value) for value in (*args, 0, 0, 0, 0)[:4]]
    return libc().prctl(option, *values) == 0


def unshare(flags):
    """Leave namespaces; return whether it worked."""
    return libc().unshare(ctypes.c_int(flags)) == 0


def enter_namespaces(config, isolation):
    """Take a network, process, mount and (without privileges) user namespace, as far as allowed."""
    uid, gid = os.getuid(), os.getgid()
    rest = NEWNET | NEWPID | NEWIPC | NEWUTS | NEWNS
    entered = unshare(rest) if uid == 0 else unshare(NEWUSER | rest)
    if not entered:
        return
    if uid != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        isolation.append("user namespace")
    isolation += [NETWORK, "process namespace"]
    c = libc()
    c.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    owner = config["uid"] if uid == 0 else uid
    options = f"size={config['disk_mb']}m,nr_inodes=4096,mode=0700,uid={owner}".encode()
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV)
    if c.mount(b"tmpfs", config["work"].encode(), b"tmpfs", flags, options) == 0:
        isolation.append("disk quota")


def fill_work(config):
    """Copy the program's files into its folder and give them to its user."""
    work = Path(config["work"])
    shutil.copytree(config["spool"], work, dirs_exist_ok=True)
    if os.getuid() == 0:
        for path in (work, *work.rglob("*")):
            os.chown(path, config["uid"], config["uid"])


def become_nobody(config, isolation):
    """As root, turn into a user of its own that owns nothing but the folder."""
    if os.getuid() != 0:
        return
    reach = config["reach"]  # the interpreter lies where only root may look
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(config["uid"], config["uid"], config["uid"])
    os.setresuid(config["uid"], config["uid"], config["uid"])
    mask = 1 << CAP_DAC_READ_SEARCH if reach else 0
    header = struct.pack("Ii", 0x20080522, 0)
    libc().capset(header, struct.pack("IIIIII", mask, mask, mask, 0, 0, 0))
    if reach:
        prctl(PR_CAP_AMBIENT, 2, CAP_DAC_READ_SEARCH)
    isolation.append("own user")


def landlock(config, isolation):
    """Allow reading the listed paths and writing the folder; nothing else of the file system."""
    c = libc()
    abi = c.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if abi < 1:
        return
    handled = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1
    attributes = struct.pack("QQQ", handled, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    attributes = attributes[: 8 if abi < 4 else 16 if abi < 6 else 24]
    size = ctypes.c_size_t(len(attributes))
    ruleset = c.syscall(LANDLOCK_CREATE, attributes, size, ctypes.c_uint(0))
    if ruleset < 0:
        return
    devices = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"]
    read = FS_EXECUTE | FS_READ_FILE | FS_READ_DIR
    rules = [(path, read) for path in config["readable"]]
    rules += [(path, FS_READ_FILE | FS_WRITE_FILE) for path in devices]
    rules += [(config["work"], handled)]
    for path, access in rules:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(path):  # noqa: PTH112 - one call less while locked in
            access &= FS_FOR_FILES
        rule = struct.pack("=Qi", access & handled, descriptor)
        c.syscall(LANDLOCK_ADD, ruleset, ctypes.c_int(1), rule, ctypes.c_uint(0))
        os.close(descriptor)
    if c.syscall(LANDLOCK_RESTRICT, ruleset, ctypes.c_uint(0)) == 0:
        isolation.append(FILES)
        if abi >= 4:
            isolation.append("no TCP")
    os.close(ruleset)


def limit(config):
    """Set the limits that the kernel enforces on each process."""
    megabyte = 2**20
    seconds = int(config["time_s"]) + 1
    wanted = {
        resource.RLIMIT_AS: (config["memory_mb"] * megabyte,) * 2,
        resource.RLIMIT_CPU: (seconds, seconds + 1),
        resource.RLIMIT_FSIZE: (config["disk_mb"] * megabyte,) * 2,
        resource.RLIMIT_NOFILE: (256, 256),
        resource.RLIMIT_CORE: (0, 0),
    }
    # The kernel counts a user's processes, in a user namespace of its own those inside only.
    # There the jail's own two count as well.
    others = {"own user": 0, "user namespace": 2}.get(config["alone"])
    if others is None:
        others = count_processes(os.getuid())
    wanted[resource.RLIMIT_NPROC] = (config["processes"] + others,) * 2
    for kind, (soft, hard) in wanted.items():
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        with contextlib.suppress(ValueError):  # macOS refuses an address-space limit
            resource.setrlimit(kind, (soft, hard))


def count_processes(uid):
    """Count the threads of a user, which is what RLIMIT_NPROC counts."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == uid:
                total += len(list((folder / "task").iterdir()))
    return total


def run_program(config, status):
    """Give up every right, report what is in force, and become the program."""
    isolation = config["isolation"]
    os.chdir(config["work"])
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # the first to go when memory runs out
            Path("/proc/self/oom_score_adj").write_text("1000")
        become_nobody(config, isolation)
        config["alone"] = next((x for x in isolation if x in ("own user", "user namespace")), "")
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        if "landlock" not in config["without"]:
            landlock(config, isolation)
        if os.getuid() == config["uid"] and config["reach"] and FILES not in isolation:
            raise PermissionError(
                "the interpreter lies in a folder that only root may enter, and this kernel has no "
                "Landlock to open it alone; install Python elsewhere or be another user"
            )
    else:
        config["alone"] = ""
    limit(config)
    isolation.append("limits")
    command = config["command"]
    if not {NETWORK, FILES} <= set(isolation):
        isolation.append("python guard")
        command = [command[0], "-s", "-B", "-X", "utf8", __file__, "guard", *config["arguments"]]
    os.write(status, json.dumps({"isolation": isolation}).encode() + b"\n")
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execve(command[0], command, config["environment"])


def descendants():
    """List the processes below this one, from the process table."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(path.parent.name)] = int(fields[1])
    found, size = {os.getpid()}, 0
    while len(found) > size:
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found - {os.getpid()}


def end_all(child):
    """Kill the program and whatever it has left behind, in rounds until nothing is left."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    if os.getpid() == 1 or sys.platform != "linux":
        return  # the kernel ends a process namespace with its first process
    for _ in range(100):
        pids = descendants()
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def processor_seconds():
    """Sum the processor time of all processes below this one, ended ones included.

    Parents are read before their children: one that is waited for meanwhile is missed, and none
    counts twice. The time of a child that is not waited for (SIGCHLD ignored) is lost with it.
    """
    own_pid = Path("/proc/self").readlink().name  # os.getpid() is another in a namespace
    found = [own_pid]
    ticks = 0
    for pid in found:
        with contextlib.suppress(OSError):  # it has ended since its parent was read
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
            own, waited_for = fields.split()[11:13], fields.split()[13:15]
            ticks += sum(map(int, waited_for if pid == own_pid else own + waited_for))
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                found += path.read_text().split()
    return ticks / os.sysconf("SC_CLK_TCK")


class ProcessorLimit:
    """The limit on the processor time of all the program's processes together."""

    def __init__(self, config):
        self.on = PROCESSOR_SUM in config["isolation"]
        self.limit, self.next_look = config["time_s"], 0.0
        self.processors = len(os.sched_getaffinity(0)) if self.on else 1

    def renew(self, seconds):
        """Allow some seconds from now on, and no more."""
        if self.on:
            self.limit, self.next_look = processor_seconds() + seconds, 0.0

    def is_reached(self):
        """Tell whether it is used up, without looking before that is possible."""
        if not self.on or time.monotonic() < self.next_look:
            return False
        left = self.limit - processor_seconds()
        self.next_look = time.monotonic() + left / self.processors
        return left <= 0


def reap(child):
    """Wait for whoever has ended, the orphans too; return the program's exit code or None."""
    result = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            if ended[0] == child:
                result = os.waitstatus_to_exitcode(ended[1])
    return result


def watch(child, status, control, processor):
    """Wait for the program's end, or bring it about.

    The control pipe renews the processor limit by a line with a number, and closes when the
    program has to end.
    """
    handle = os.pidfd_open(child) if hasattr(os, "pidfd_open") else None
    sources = [control] if handle is None else [control, handle]
    result = None
    while result is None:
        ready, _, _ = select.select(sources, [], [], 0.02 if handle is None else 0.1)
        if control in ready:
            lines = os.read(control, 4096).split()
            if not lines:
                break
            processor.renew(float(lines[-1]))
        result = reap(child)
        if result is None and processor.is_reached():
            os.write(status, json.dumps({"killed_for": "cpu"}).encode() + b"\n")
            break
    end_all(child)
    if result is None:
        with contextlib.suppress(ChildProcessError):
            result = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(status, json.dumps({"returncode": result}).encode() + b"\n")


def fork_program(config, status, control):
    """Be the first process of the namespace."""
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    listed = any(Path("/proc/self/task").glob("*/children"))
    if listed and PROCESSOR_SUM not in config["without"]:
        config["isolation"].append(PROCESSOR_SUM)
    child = os.fork()
    if child == 0:
        os.close(control)
        try:
            run_program(config, status)
        except BaseException as error:
            os.write(status, json.dumps({"failed": repr(error)}).encode() + b"\n")
        os._exit(127)
    if sys.platform == "linux":
        prctl(PR_SET_DUMPABLE, 0)  # the program must not look into this process
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    watch(child, status, control, ProcessorLimit(config))


def main():
    """Read the configuration and start the three processes."""
    config = json.loads(sys.argv[1])
    status, control = config["status"], config["control"]
    os.set_inheritable(status, False)
    os.set_inheritable(control, False)
    isolation = config["isolation"] = []
    try:
        if sys.platform == "linux" and "namespaces" not in config["without"]:
            enter_namespaces(config, isolation)
        fill_work(config)
    except OSError as error:
        os.write(status, json.dumps({"failed": repr(error)}).encode() + b"\n")
        return
    child = os.fork()
    if child == 0:
        fork_program(config, status, control)
        os._exit(0)
    for descriptor in (0, 1, 2, status, control):
        os.close(descriptor)
    os.waitpid(child, 0)


def guard():
    """Run a script under an audit hook: the second-best where the kernel gives no better."""
    import runpy

    home = os.path.realpath(os.getcwd())  # noqa: PTH109
    refused = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg")
    refused += ("socket.getaddrinfo", "socket.gethostbyname", "os.system", "subprocess.Popen")
    refused += ("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn")
    writes = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
    paths = {"os.remove": 1, "os.rename": 2, "os.rmdir": 1, "os.mkdir": 1, "os.truncate": 1}
    paths |= {"os.chmod": 1, "os.chown": 1, "os.link": 2, "os.symlink": 2, "os.utime": 1}

    def outside(path):
        if isinstance(path, int):
            return False
        real = os.path.realpath(os.fsdecode(path))
        return real != os.devnull and real != home and not real.startswith(home + os.sep)

    def hook(event, args):
        if event in refused:
            raise PermissionError(f"{event} is not allowed in the sandbox")
        written = args[: paths.get(event, 0)]
        if event == "open" and args[0] is not None and args[2] & writes:
            written = args[:1]
        if any(outside(path) for path in written):
            raise PermissionError("files outside the sandbox's folder cannot be written")

    sys.argv = sys.argv[2:]
    sys.path[0] = home
    sys.addaudithook(hook)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    guard() if sys.argv[1] == "guard" else main()
