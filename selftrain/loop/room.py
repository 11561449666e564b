"""Memory and disk: what is free, and whether a round has room."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from selftrain.errors import Blocked
from selftrain.places import free_disk

GB = 1e9
PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
UNLIMITED = 1 << 62
"""Version 1 of control groups says so much, rounded to pages, where there is no limit."""


class Need(NamedTuple):
    """What a round takes at least, in bytes."""

    disk: int
    memory: int


class Group(NamedTuple):
    """What a control group may take of memory, and takes, in bytes."""

    limit: int
    used: int


def groups(proc: Path = PROC, mount: Path = GROUPS) -> Iterator[Group]:
    """Yield the control groups that this process is in, and those they are in, that have a limit of memory."""
    try:
        lines = [line.split(":", 2) for line in (proc / "self" / "cgroup").read_text().splitlines()]
    except FileNotFoundError:
        lines = []
    # A container may show its group's path on the host, where the group itself is mounted: hence the top too.
    paths = {names: path for _, names, path in lines}
    for folder in _upwards(mount, paths.get("", "/")):
        yield from _group(folder, "memory.max", "memory.current", "inactive_file")
    version1 = next((path for names, path in paths.items() if "memory" in names.split(",")), "/")
    for folder in _upwards(mount / "memory", version1):
        yield from _group(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _upwards(top: Path, path: str) -> Iterator[Path]:
    """Yield the folders of a group and of all it is in, up to the top one."""
    parts = [] if ".." in path.split("/") else [part for part in path.split("/") if part]
    for length in range(len(parts), -1, -1):
        yield top.joinpath(*parts[:length])


def _group(folder: Path, limit: str, used: str, cached: str) -> Iterator[Group]:
    try:
        most = (folder / limit).read_text().strip()
        if most == "max" or int(most) >= UNLIMITED:
            return
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # Cached files count as used, and are given back on demand.
        yield Group(int(most), int((folder / used).read_text()) - int(stat.get(cached, 0)))
    except FileNotFoundError:
        return


def memory_limit(proc: Path = PROC, mount: Path = GROUPS) -> int | None:
    """Return the bytes of memory that a control group lets this process have; None where none has a limit."""
    return min((group.limit for group in groups(proc, mount)), default=None)


def free_memory(proc: Path = PROC, mount: Path = GROUPS) -> int | None:
    """Return the bytes of memory that can be had, a control group's limit considered; None where nobody tells."""
    found = [group.limit - group.used for group in groups(proc, mount)]
    if (proc / "meminfo").exists():
        lines = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            found.append(int(lines["MemAvailable"].split()[0]) * 1024)
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
