"""Where something is to be written: whether it can be is known before any work is done for it."""

import contextlib
import os
import shutil
from pathlib import Path

from selftrain.errors import UserError


def existing(path: Path) -> Path:
    """Return the path, or else the nearest folder above it that is there."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


def free_disk(path: Path) -> int:
    """Return the bytes that are free where a path is, or would be made."""
    return shutil.disk_usage(existing(path)).free


def size_of(folder: Path, but: str) -> int:
    """Return the bytes of all files below a folder, without those of one folder in it; 0 where nothing is."""
    size = 0
    for path in folder.rglob("*"):
        # What a run has in hand may be gone a moment later.
        with contextlib.suppress(FileNotFoundError):
            if path.relative_to(folder).parts[0] != but and path.is_file():
                size += path.lstat().st_size
    return size


def check_writable(folder: Path, what: str, remedy: str, error: type[UserError] = UserError) -> None:
    """Raise `error`, with what cannot be done and the remedy, unless the folder is there or can be made."""
    there = existing(folder)
    if not there.is_dir():
        raise error(f"{what}: {there} is a file; {remedy}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise error(f"{what}: {there} is read-only; {remedy}")
