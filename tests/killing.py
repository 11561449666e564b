"""Kill a process of a run while a stage is under way, and look at what is left."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from selftrain.backends.process import OWNER
from selftrain.store import Store

MODULES = {"engine": ("transformers_en", "vllm_engine"), "trainer": ("trainer_child",), "worker": ("pool_worker",)}


class Launched:
    """A run started by its command, its output in a file beside its folder."""

    def __init__(self, out: Path, recipe: str, settings: Sequence[str]) -> None:
        self.out = out
        self.log = out.parent / "run.log"
        command = [sys.executable, "-m", "selftrain.cli", "run", recipe, *settings, "--out", str(out)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.pid = self.process.pid

    def wait(self, seconds: float = 900) -> int:
        """Wait for its end; return its exit code."""
        return self.process.wait(seconds)

    def family(self) -> dict[int, str]:
        """Process id -> name and command line of every process it has started, wherever it hangs in the tree."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment = (path / "environ").read_bytes().split(b"\0")
                state = (path / "stat").read_text().rpartition(")")[2].split()[0]
                # What the nursery forked has its command line, and a name of its own, of 15 letters.
                line = (path / "comm").read_text() + (path / "cmdline").read_text(errors="replace").replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if f"{OWNER}={self.pid}".encode() in environment and state != "Z":
                found[int(path.name)] = line
        return found

    def gone(self, seconds: float = 5.0) -> bool:
        """Tell whether nothing that it has started lives after so many seconds."""
        return waited(lambda: not self.family(), seconds)

    def strike(self, number: int, stage: str, role: str = "controller", sign: int = signal.SIGKILL) -> bool:
        """Signal one of its processes while a stage is under way; tell whether there was one to signal."""
        waited(lambda: self._in_progress(number, stage) or self.process.poll() is not None, 300)
        if self.process.poll() is not None:
            return False
        time.sleep(random.Random(f"{number}{stage}{role}").random() * 0.3)
        if role == "controller":
            self.process.send_signal(sign)
            return True
        waited(lambda: self._one(role) is not None or self.process.poll() is not None, 60)
        victim = self._one(role)
        if victim is None:
            return False
        os.kill(victim, sign)
        return True

    def _one(self, role: str) -> int | None:
        # A child's watcher has the child's name; the child is the older of the two.
        found = [pid for pid, line in self.family().items() if any(module in line for module in MODULES[role])]
        return min(found, default=None)

    def _in_progress(self, number: int, stage: str) -> bool:
        folder = Store(self.out).stages(number).get(stage)
        return folder is not None and (folder.path / "key.json").exists() and not folder.done()


def stored(out: Path) -> dict[str, bytes]:
    """The records of the finished shards; a part's folder gets its name when it is whole."""
    parts = [path for path in out.glob("round-*/*/part-*") if path.suffix != ".unfinished"]
    return {str(file.relative_to(out)): file.read_bytes() for part in parts for file in part.iterdir()}


def unchanged(out: Path, before: dict[str, bytes]) -> bool:
    """Tell whether every shard that was there is there, byte for byte."""
    after = stored(out)
    return all(after.get(name) == content for name, content in before.items())


def waited(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds; tell whether it came to hold."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
