"""Inject every fault, one after the other, and write down what came of each: `make faults`.

python -m tests.faults.campaign [--only WORD] [--every K] [--kinds small,nano,server,vllm] [--write]
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.faults import real_cases, small_cases
from tests.faults.case import Case
from tests.faults.stand import ROOT, Stand

RESULTS = ROOT / "benchmarks" / "results" / "faults-injected"
SEED = 17
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where runs lie: processes are killed, not machines, so a disk that is slow to sync would show nothing more."""


def every_case() -> list[Case]:
    """All faults, always the same ones."""
    chance = random.Random(SEED)
    return [*small_cases.cases(chance), *real_cases.cases(chance)]


def chosen_by(beginning: str) -> Case:
    """Return the first fault whose name and point begin so."""
    return next(case for case in every_case() if f"{case.fault}: {case.point}".startswith(beginning))


def tried(case: Case, stand: Stand) -> dict[str, Any]:
    """Try one fault; what it came to, and whether that is as it must be."""
    began = time.monotonic()
    try:
        outcome, well = case.tried(stand), True
    except Exception as error:  # one fault's trouble must not hide the others
        outcome, well = f"{type(error).__name__}: {error}", False
    if well:
        shutil.rmtree(stand.folder / f"case-{stand.count:03d}", ignore_errors=True)
    seconds = round(time.monotonic() - began, 1)
    return {
        "fault": case.fault,
        "point": case.point,
        "run": case.run,
        "outcome": outcome.replace(str(stand.folder), "DIR").replace(str(ROOT), "CHECKOUT"),
        "as it must be": well,
        "seconds": seconds,
    }


class Ledger:
    """What came of each fault so far, on disk after each where that is wanted."""

    def __init__(self, about: dict[str, Any], *, again: bool, written: bool) -> None:
        self.about, self.written = about, written
        self.found: dict[str, dict[str, Any]] = {}
        self._guard = threading.Lock()
        if again:
            self.found = {
                name_of(each): each for each in json.loads(RESULTS.with_suffix(".json").read_text())["faults"]
            }

    def well(self, case: Case) -> bool:
        """Whether a fault was tried before and ended as it must."""
        return bool(self.found.get(name_of(case._asdict()), {}).get("as it must be"))

    def add(self, found: dict[str, Any]) -> None:
        """Note what came of a fault."""
        with self._guard:
            self.found[name_of(found)] = {**found, "commit": self.about["commit"]}
            if self.written:
                order = [name for case in every_case() if (name := name_of(case._asdict())) in self.found]
                rows = [self.found[name] for name in order]
                text = json.dumps({**self.about, "faults": rows}, indent=1)
                RESULTS.with_suffix(".json").write_text(text + "\n")
                RESULTS.with_suffix(".md").write_text("\n".join(table(rows, self.about)) + "\n")


def name_of(found: dict[str, Any]) -> str:
    """What a fault is known by."""
    return f"{found['run']} {found['fault']}: {found['point']}"


def lane_tried(cases: list[Case], stand: Stand, ledger: Ledger) -> None:
    """Try faults one after the other, and say how each went."""
    stand.folder.mkdir()
    for case in cases:
        found = tried(case, stand)
        ledger.add(found)
        mark = "ok   " if found["as it must be"] else "WRONG"
        print(f"{mark} {name_of(found)}: {' '.join(found['outcome'].split())} ({found['seconds']} s)", flush=True)


def chosen(arguments: argparse.Namespace) -> list[Case]:
    """The faults that were asked for."""
    kinds = arguments.kinds.split(",") if arguments.kinds else None
    cases = [case for case in every_case() if kinds is None or case.run in kinds]
    cases = [case for case in cases if arguments.only in f"{case.fault}, {case.point}, {case.run}"]
    return cases[:: arguments.every]


def table(found: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    """The results as Markdown: a summary, then every fault."""
    wrong = [each for each in found if not each["as it must be"]]
    yield "# Injected faults"
    yield ""
    minutes = sum(each["seconds"] for each in found) / 60
    where = f"{about['cores']} cores of {about['processor']}"
    yield f"`make faults`, begun at commit {about['commit']}: {len(found)} faults, {len(wrong)} of them not as they"
    yield f"must be; {minutes:.0f} minutes of trials, three at a time, on {where}."
    yield "docs/reliability.md says what is checked after each."
    later = Counter(each["commit"] for each in found if each["commit"] != about["commit"])
    if later:
        yield "Tried at another commit (`--again` tries what is new or went wrong): "
        yield ", ".join(f"{count} at {commit}" for commit, count in later.items()) + "."
    yield ""
    yield "| run | faults | outcome |"
    yield "|---|---|---|"
    outcomes = Counter((each["run"], each["outcome"]) for each in found if each["as it must be"])
    for (run, outcome), count in sorted(outcomes.items(), key=lambda each: (each[0][0], -each[1])):
        yield f"| {run} | {count} | {outcome} |"
    yield ""
    yield "| fault | point | run | outcome | s |"
    yield "|---|---|---|---|---|"
    for each in found:
        said = each["outcome"] if each["as it must be"] else f"**WRONG** {each['outcome'][:300]}"
        cells = (each["fault"], each["point"], each["run"], " ".join(said.split()), str(each["seconds"]))
        yield "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def machine() -> dict[str, Any]:
    """Commit and machine, without any path."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "commit": commit.stdout.strip(),
        "command": "make faults",
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def main() -> int:
    """Try the faults; exit code 1 if one of them did not end as it must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults whose name, point or run has this in it")
    parser.add_argument("--kinds", default="", help="kinds of runs, by comma: small, nano, server, vllm")
    parser.add_argument("--every", type=int, default=1, help="each so many faults one")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/results")
    parser.add_argument("--again", action="store_true", help="only what is new or went wrong in the written table")
    parser.add_argument("--list", action="store_true", help="name the faults and stop")
    arguments = parser.parse_args()
    # A shell that starts this in the background has Ctrl-C ignored, by all it starts too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cases = chosen(arguments)
    if arguments.list:
        print("\n".join(f"{case.run:<7} {case.fault}: {case.point}" for case in cases), f"\n{len(cases)} faults")
        return 0
    ledger = Ledger(machine(), again=arguments.again, written=arguments.write)
    left = [case for case in cases if not ledger.well(case)]
    # Side by side: the short ones, and two halves of those that wait for engines.
    small, others = ([case for case in left if (case.run == "small") is wanted] for wanted in (True, False))
    lanes = [small, others[: len(others) // 2], others[len(others) // 2 :]]
    with (
        tempfile.TemporaryDirectory(prefix="faults-", dir=MEMORY, ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(len(lanes)) as threads,
    ):
        stands = [Stand(Path(folder) / str(number)) for number in range(len(lanes))]
        list(threads.map(lane_tried, lanes, stands, [ledger] * len(lanes)))
    wrong = sum(not each["as it must be"] for each in ledger.found.values())
    print(f"{len(ledger.found)} faults, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
