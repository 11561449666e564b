"""One thing that goes wrong in a process of a run, as `site/sitecustomize.py` reads it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

SITE = Path(__file__).parent / "site"


@dataclass(frozen=True, kw_only=True)
class Injection:
    """The k-th call of `call` about a path that matches goes wrong as `do` says."""

    call: str
    """rename, fsync, mkdir, unlink, open (for writing), time."""
    do: str
    """kill, term, int, stop; an errno's name; late, lost (a rename), memory; back (the clock)."""
    match: str = ""
    k: int = 1
    when: str = "before"
    role: str = "controller"
    """controller, engine, trainer, worker; '' is any."""

    def environment(self, flag: Path) -> dict[str, str]:
        """Return the environment of a run in which it happens once; `flag` is made when it does."""
        path = os.pathsep.join(filter(None, [str(SITE), os.environ.get("PYTHONPATH", "")]))
        return {"INJECT": json.dumps({**asdict(self), "flag": str(flag)}), "PYTHONPATH": path}
