"""How a run stands: held by a process or not, ended in which way by its own word, a fork of which run."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selftrain import seals
from selftrain.errors import UserError
from selftrain.store import Store

FORK = "fork.json"
"""Of a fork: the run whose first rounds it shares, and which those are."""
STATE = "state.json"
"""How the run ended, or that it is going on; a killed run still says the latter, but holds no lock."""


def locked(store: Store) -> bool:
    """Return whether a process holds the run now; a folder that can only be read can be asked too."""
    try:
        with (store.root / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def state(store: Store) -> dict[str, Any]:
    """Return how the run stands by its own word: `state` is running, finished, paused, interrupted or failed."""
    return _read(store, STATE)


def note(store: Store, state: str, why: str = "") -> None:
    """Write down how the run stands."""
    store.write_json(store.root / STATE, {"state": state, "why": why, "time": time.time()})


@contextmanager
def going_on(store: Store) -> Iterator[None]:
    """Note that the run goes on, and where it ends by an error, how; a refusal leaves what was noted before."""
    before = state(store)
    note(store, "running")
    try:
        yield
    except UserError:
        if before:
            store.write_json(store.root / STATE, before)
        else:
            note(store, "interrupted")
        raise
    except KeyboardInterrupt:
        note(store, "interrupted")
        raise
    except Exception as error:
        note(store, "failed", f"{type(error).__name__}: {error}".partition("\n")[0])
        raise


def shared(store: Store) -> int:
    """Return the last round that a fork shares with the run it comes from; -1 where the run is no fork."""
    return int(_read(store, FORK).get("round", -1))


def source(store: Store) -> str:
    """Return the run and round that this one is a fork of, as words; '' where it is none."""
    told = _read(store, FORK)
    return f"{told['from']}, round {told['round']}" if told else ""


def _read(store: Store, name: str) -> dict[str, Any]:
    path = store.root / name
    remedy = "delete it: it only says how the run ended" if name == STATE else "fork the run anew"
    return seals.read(path, remedy) if path.exists() else {}
