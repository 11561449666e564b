"""Memory and disk: what is free, and whether a round has room."""

from pathlib import Path
from typing import NamedTuple

from selftrain.errors import Blocked
from selftrain.places import free_disk

GB = 1e9


class Need(NamedTuple):
    """What a round takes at least, in bytes."""

    disk: int
    memory: int


def free_memory(proc: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes of memory that can be had, a control group's limit considered; None where nobody tells."""
    found: list[int] = []
    if proc.exists():
        lines = dict(line.split(":", 1) for line in proc.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    limit = group / "memory.max"
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        used = int((group / "memory.current").read_text())
        # Cached files count as used, and are given back on demand.
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        found.append(int(text) - used + int(stat.get("inactive_file", 0)))
    return min(found, default=None)


def check(round: int, folder: Path, need: Need) -> None:
    """Raise Blocked, before a round begins, if it needs more disk or memory than there is."""
    disk, memory = free_disk(folder), free_memory()
    if disk < need.disk:
        raise Blocked(
            f"round {round} needs about {need.disk / GB:.2f} GB of disk, but {folder} has {disk / GB:.2f} GB free; free"
            " some (`selftrain gc` frees weights that nobody needs), and the same command goes on"
        )
    if memory is not None and memory < need.memory:
        raise Blocked(
            f"round {round} needs at least {need.memory / GB:.2f} GB of memory, but only {memory / GB:.2f} GB can be"
            " had; end something else, and the same command goes on, or take a smaller model"
        )
