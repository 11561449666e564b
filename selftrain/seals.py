"""Seals: what a file held when it was written, so that one that has changed since is named and never read.

A folder of tables has a manifest.json, file -> hash of its content. A JSON file of a run holds the hash of what else is
in it. What an earlier selftrain wrote without them is read as it is.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selftrain.errors import StoreError
from selftrain.records import digest

MANIFEST = "manifest.json"
SEAL = "seal"
"""The key under which a JSON file holds the hash of all its others."""

MOST = 1 << 16
"""Files whose hashes are remembered, at 150 bytes each; a large run has some ten thousand."""
_known: dict[bytes, bytes] = {}
"""A file as it was met -> the hash of its content."""


def hashed(path: Path) -> str:
    """Return the hash of a file's content; raises OSError.

    What has the size, time and inode that it had is not read again.
    """
    found = path.stat()
    met = as_met(path, found.st_size, found.st_mtime_ns, found.st_ino)
    content = _known.get(met)
    if content is None:
        content = _digest(path)
        if len(_known) >= MOST:
            _known.clear()
        _known[met] = content
    return content.hex()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def whole(path: Path) -> bool:
    """Return whether a table's file holds, read anew, what the manifest beside it says; False without a manifest."""
    manifest = path.with_name(MANIFEST)
    if not manifest.exists():
        return False
    return read(manifest, "delete its folder").get(path.name) == _digest(path).hex()


def as_met(path: Path, *signature: int) -> bytes:
    """Return 16 bytes that stand for a path and a signature: what is remembered of every file of a run must be small.

    A path with its parts takes a kilobyte, which made 12 MB of a hundred rounds.
    """
    return hashlib.blake2b(os.fsencode(path) + repr(signature).encode(), digest_size=16).digest()


def check(folder: Path, contents: Mapping[str, str], remedy: str) -> None:
    """Raise StoreError if one of a folder's files is not what it was; `remedy` is what the user can do."""
    for name, wanted in contents.items():
        try:
            found = hashed(folder / name)
        except OSError as error:
            raise StoreError(f"{folder / name} cannot be read: {error.strerror}; {remedy}") from error
        if found != wanted:
            raise StoreError(
                f"{folder / name} is damaged: it does not hold what was written to it (hash {found[:8]}, was"
                f" {wanted[:8]}); {remedy}"
            )


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to write as JSON, with its seal."""
    plain = json.loads(json.dumps(content))
    return {**plain, SEAL: f"{SEAL}:{digest(plain)}"}


def read(path: Path, remedy: str) -> dict[str, Any]:
    """Return a JSON file of a run without its seal; raises StoreError for one that is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged: {' '.join(str(error).split())}; {remedy}") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path} is damaged: it holds a {type(content).__name__}; {remedy}")
    seal = content.pop(SEAL, None)
    # The damage may be in the seal's own key.
    lost = seal is None and any(str(value).startswith(f"{SEAL}:") for value in content.values())
    if lost or seal not in (None, f"{SEAL}:{digest(content)}"):
        raise StoreError(f"{path} is damaged: its content does not match its seal; {remedy}")
    return content
