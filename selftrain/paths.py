"""Paths as users type them."""

import os.path
from pathlib import Path


def typed(name: str) -> Path:
    """Return the path that a user typed, the home folder for a leading ~; a ~name of nobody stays as it stands."""
    return Path(os.path.expanduser(name))
