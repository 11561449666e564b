"""The nursery's process: it imports what children need, forks them, and tells their owner how they ended."""

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from selftrain.backends import process


class Birth(NamedTuple):
    """What the nursery is asked for; the child's pipe, its log, and the line to tell its fate follow."""

    module: str
    arguments: tuple[str, ...]
    preload: tuple[str, ...]
    environment: dict[str, str]
    folder: str


def hand(connection: "Connection[Any, Any]", *descriptors: int) -> None:
    """Send file descriptors."""
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:
        socket.send_fds(wire, [b"+"], descriptors)


def handed(connection: "Connection[Any, Any]", count: int) -> list[int]:
    """Receive file descriptors."""
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:
        _, descriptors, _, _ = socket.recv_fds(wire, 1, count, socket.MSG_CMSG_CLOEXEC)
    if len(descriptors) != count:
        raise EOFError("the other end broke off")
    return descriptors


def main() -> None:
    """Import and fork as the owner asks; when it hangs up, stay until the last child has ended."""
    process.die_with_owner()
    owner = process.owner_pipe()
    # Asked through NVML, whether there is a GPU does not start the driver, which must not happen before a fork.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    lines: dict[int, Connection[Any, Any]] = {}
    signal.signal(signal.SIGCHLD, lambda number, frame: _reap(lines))
    with contextlib.suppress(EOFError):
        while True:
            birth = Birth(*owner.recv())
            _fork(birth, handed(owner, 3), lines)
    while lines:
        time.sleep(1.0)


def _reap(lines: "dict[int, Connection[Any, Any]]") -> None:
    """Tell the owner how children ended."""
    for pid in list(lines):
        # Interrupted by itself, it may find that a child was reaped already.
        with contextlib.suppress(ChildProcessError):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                # The owner may have let go of the child.
                with contextlib.suppress(OSError), lines.pop(pid) as line:
                    line.send(("ended", os.waitstatus_to_exitcode(status)))


def _fork(birth: Birth, descriptors: Sequence[int], lines: "dict[int, Connection[Any, Any]]") -> None:
    pipe, output, line = descriptors
    # What an import prints, and the end of a nursery that it crashes, belong in the log of who wanted it.
    _print_to(output)
    os.close(output)
    loaded = _imported(birth)
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        _be_born(birth, loaded, pipe, line)
    lines[pid] = Connection(line)
    # Its end may have been signalled before it was written down.
    _reap(lines)
    os.close(pipe)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    _print_to(nowhere)
    os.close(nowhere)


def _imported(birth: Birth) -> ModuleType | BaseException:
    """Return the module, or what its import raised: that is for the child to raise, not for all others."""
    try:
        for name in birth.preload:
            importlib.import_module(name)
        return importlib.import_module(birth.module)
    except BaseException as error:
        return error


def _print_to(descriptor: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _be_born(birth: Birth, loaded: ModuleType | BaseException, pipe: int, line: int) -> NoReturn:
    """Become a process like one that was started afresh, and run the module's main."""
    status: object = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        owner = Connection(line)
        owner.send(("started", os.getpid()))
        hand(owner, os.pidfd_open(os.getpid()))
        os.closerange(3, pipe)
        os.closerange(pipe + 1, 65_536)
        os.chdir(birth.folder)
        os.environ.update({**birth.environment, process.PIPE: str(pipe)})
        if isinstance(loaded, BaseException):
            raise loaded
        # The command line, which it shares with the nursery, would not tell one child from another.
        Path("/proc/self/comm").write_text(birth.module.rpartition(".")[2])
        sys.argv = [str(loaded.__file__), *birth.arguments]
        sys.modules["__main__"] = loaded
        status = loaded.main(sys.argv[1:])
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        if isinstance(status, str):
            sys.stderr.write(f"{status}\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    main()
