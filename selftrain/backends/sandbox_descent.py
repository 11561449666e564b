"""The way down from root: become an ordinary user who can read what the sandbox shows."""

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path

NOBODY = 65534
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE, _MS_BIND = 0x20000, 1 << 14, 1 << 18, 1 << 12


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
    return [pair for pair in sorted(found) if not any(within(pair[1], other) for _, other in found if other != pair[1])]


def within(path: str, folder: str) -> bool:
    """Whether a path lies in a folder, or is it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
