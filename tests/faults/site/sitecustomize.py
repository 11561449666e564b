"""Does one thing wrong in a process of a run: python imports this by itself where it is on PYTHONPATH.

`INJECT` holds an injection as JSON (`tests/faults/injection.py`). The product knows nothing of it: calls of the
standard library are wrapped here, in every process that inherits the environment, and the one meant goes wrong once.
"""

import builtins
import errno
import io
import itertools
import json
import os
import re
import resource
import signal
import sys
import threading
import time
from typing import Any

ROLES = {
    "trainer_child": "trainer",
    "transformers_en": "engine",
    "vllm_engine": "engine",
    "pool_worker": "worker",
    "selftrain.cli": "controller",
    "tests.faults.small": "controller",
}
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT, "stop": signal.SIGSTOP}


def role() -> str:
    """What this process is to the run; what the nursery has forked tells by its name."""
    with REAL["open"]("/proc/self/comm") as file:
        known = [file.read().strip(), *sys.orig_argv]
    return next((role for name, role in ROLES.items() for text in known if name in text), "other")


def place(arguments: tuple[Any, ...]) -> str:
    """The path that a call is about; of a descriptor, where it leads."""
    first = arguments[0] if arguments else ""
    return os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else os.fspath(first)


class Injection:
    """Counts the calls that match, and makes the k-th one go wrong."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.role, self.call, self.match = said["role"], said["call"], re.compile(said["match"])
        self.k, self.when, self.do, self.flag = said["k"], said["when"], said["do"], said["flag"]
        self.calls = itertools.count(1)

    def due(self, arguments: tuple[Any, ...], mode: str) -> bool:
        """Whether this call is the one; it is so once in all processes of a run together."""
        try:
            meant = self.match.search(place(arguments)) and role() in (self.role, self.role or role())
        except (OSError, TypeError):
            return False
        if not meant or (self.call == "open" and not set(mode) & set("wax+")):
            return False
        # One step for all threads: no number is counted twice, none left out.
        if next(self.calls) != self.k:
            return False
        try:
            os.close(REAL["os_open"](self.flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def wrapped(self, real: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Make the call, or what becomes of it."""
        mode = str(named.get("mode", arguments[1] if self.call == "open" and len(arguments) > 1 else "r"))
        if not self.due(arguments, mode):
            return real(*arguments, **named)
        if self.do in SIGNALS and self.when == "before":
            self.struck()
        if self.do in errno.errorcode.values():
            number = getattr(errno, self.do)
            raise OSError(number, os.strerror(number), place(arguments))
        if self.do == "late":
            threading.Timer(0.4, real, arguments, named).start()
            return None
        if self.do == "memory":
            with REAL["open"]("/proc/self/statm") as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
        made = real(*arguments, **named)
        if self.do in SIGNALS and self.when == "after":
            self.struck()
        if self.do == "lost":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place(arguments))
        return made

    def struck(self) -> None:
        """Send the signal, and give it time to be seen: Python handles it between two steps."""
        os.kill(os.getpid(), SIGNALS[self.do])
        time.sleep(0.01)


REAL: dict[str, Any] = {
    "rename": os.rename,
    "fsync": os.fsync,
    "mkdir": os.mkdir,
    "unlink": os.unlink,
    "open": io.open,
    "os_open": os.open,
    "time": time.time,
}


def install(said: dict[str, Any]) -> None:
    """Wrap the call that is meant."""
    injection = Injection(said)
    real = REAL[said["call"]]
    jumped = [False]

    def back() -> float:
        jumped[0] = jumped[0] or injection.due((), "")
        return float(real()) - 86_400.0 * jumped[0]

    def wrapped(*arguments: Any, **named: Any) -> Any:
        return injection.wrapped(real, arguments, named)

    if said["call"] == "time":
        time.time = back
    elif said["call"] == "open":
        builtins.open = io.open = wrapped
    else:
        setattr(os, said["call"], wrapped)


if "INJECT" in os.environ:
    install(json.loads(os.environ["INJECT"]))
