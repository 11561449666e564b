"""The pulse of a run: when anything was last heard of its work, by whatever part of it.

Engines, verifiers, trainings and the controller say `beat()` when they get on; `loop/watchdog.py` listens.
"""

import time

_last = [time.monotonic()]


def beat() -> None:
    """Say that work gets on; any thread may."""
    _last[0] = time.monotonic()


def silence() -> float:
    """Return the seconds since the last beat."""
    return time.monotonic() - _last[0]
