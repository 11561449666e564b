"""The process that feeds accelerate's trackers from a run's metrics.jsonl.

`look` makes it read what is new, `end` too, and then end; it answers `end` with '', and anything that goes wrong with
one line. What each tracker has had stands in trackers/sent.json, so that a run that goes on sends nothing twice.
"""

import json
import math
import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from selftrain.backends import process
from selftrain.loop.runfile import read_file
from selftrain.records import digest

SENT = "sent.json"


class Tracked:
    """One tracker of a run, and what it has had."""

    def __init__(self, name: str, root: Path, sent: dict[str, Any]) -> None:
        self.name = name
        self.sent = sent
        self.folder = root / "trackers"
        self.folder.mkdir(exist_ok=True)
        self._tracker = _opened(name, root, self.folder, sent)
        self._tracker.start()
        if not sent:
            self._begin(root)

    def push(self, rounds: dict[int, list[dict[str, Any]]]) -> None:
        """Send the lines of each round that were not sent before."""
        had = self.sent.setdefault("lines", {})
        for number, lines in sorted(rounds.items()):
            new = lines[int(had.get(str(number), 0)) :]
            if values := _by_round(new):
                self._log(values, number, {"round": number})
            for step, values in sorted(_curves(new, number).items()):
                self._log(values, step, {"step": step})
            had[str(number)] = len(lines)

    def end(self) -> None:
        """Close it."""
        self._tracker.finish()

    def _begin(self, root: Path) -> None:
        """Say what runs, and how its figures are to be read."""
        settings = _flat(read_file(root / "run.yaml"))
        if self.name == "tensorboard":
            self._tracker.log(
                {"settings": "\n".join(f"    {name}: {value}" for name, value in settings.items())}, step=0
            )
            return
        self._tracker.store_init_configuration(settings)
        if self.name == "mlflow":
            self.sent["id"] = self._tracker.tracker.info.run_id
        if self.name == "wandb":
            self.sent["id"] = self._tracker.tracker.id
            self._tracker.tracker.define_metric("*", step_metric="round")
            self._tracker.tracker.define_metric("curve/*", step_metric="step")

    def _log(self, values: dict[str, float], step: int, axis: dict[str, int]) -> None:
        if self.name == "wandb":
            # wandb's own step may only grow; rounds and steps are axes of their own there.
            self._tracker.log({**values, **axis})
        elif self.name == "mlflow":
            named = {
                re.sub(r"[^\w\-. :/]", lambda met: "_at_" if met[0] == "@" else "_", k): v for k, v in values.items()
            }
            self._tracker.log(named, step=step)
        else:
            self._tracker.log(values, step=step)


def main() -> None:
    """Serve the owner until it says `end` or is gone."""
    process.die_with_owner()
    pipe = process.owner_pipe()
    root, names = Path(sys.argv[1]), sys.argv[2].split(",")
    store = root / "trackers" / SENT
    try:
        sent = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
        tracked = [Tracked(name, root, sent.setdefault(name, {})) for name in names]
        last = False
        while not last:
            last = pipe.recv() == "end"
            rounds = _read(root)
            for each in tracked:
                each.push(rounds)
            store.write_text(json.dumps(sent), encoding="utf-8")
        for each in tracked:
            each.end()
        pipe.send("")
    except EOFError:
        pass
    except Exception as error:  # trackers raise errors of many libraries; the run must not end by any of them
        pipe.send(f"{type(error).__name__}: {error}".partition("\n")[0])
        raise


def _opened(name: str, root: Path, folder: Path, sent: dict[str, Any]) -> Any:
    """Return accelerate's tracker, not yet started; everything it writes goes under the run's own `trackers`.

    Where the user's environment says that a server has it (WANDB_MODE, MLFLOW_TRACKING_URI), the server has it.
    """
    from accelerate import PartialState, tracking

    PartialState(cpu=True)
    if name == "tensorboard":
        return tracking.TensorBoardTracker("tensorboard", logging_dir=str(folder))
    if name == "wandb":
        os.environ.setdefault("WANDB_MODE", "offline")
        id = sent.get("id") or digest(str(root), os.getpid())
        return tracking.WandBTracker("selftrain", dir=str(folder), name=root.name, id=id, resume="allow")
    if name == "mlflow":
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        return tracking.MLflowTracker(
            "selftrain", logging_dir=str(folder / "mlflow"), run_id=sent.get("id"), run_name=root.name
        )
    os.environ.setdefault("TRACKIO_DIR", str(folder / "trackio"))
    return tracking.TrackioTracker("selftrain", name=root.name, resume="allow")


def _read(root: Path) -> dict[int, list[dict[str, Any]]]:
    """Round -> its lines of metrics.jsonl."""
    path = root / "metrics.jsonl"
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        read = json.loads(line)
        found[int(read["round"])].append(read)
    return found


def _by_round(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Name -> value of what is measured once a round, the ends of its interval beside it."""
    values: dict[str, float] = {}
    for line in lines:
        if not line["step"]:
            name = f"{line['name']}/{line['split']}" if line["split"] else line["name"]
            ends = {name: line["value"], f"{name}/low": line["low"], f"{name}/high": line["high"]}
            values |= {key: float(value) for key, value in ends.items() if value is not None and math.isfinite(value)}
    return values


def _curves(lines: list[dict[str, Any]], number: int) -> dict[int, dict[str, float]]:
    """Step -> name -> value of what is measured within a training, a curve for each round."""
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for line in lines:
        if line["step"] and math.isfinite(line["value"]):
            found[int(line["step"])][f"curve/round-{number:02d}/{line['name']}"] = float(line["value"])
    return found


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Settings as name -> plain value: trackers know no nested ones."""
    if isinstance(value, dict):
        inner = [_flat(each, f"{name}.{key}" if name else str(key)) for key, each in value.items()]
        return {key: each for part in inner for key, each in part.items()}
    return {name: value if isinstance(value, (str, int, float, bool)) else json.dumps(value)}


if __name__ == "__main__":
    main()
