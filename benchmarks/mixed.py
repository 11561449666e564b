"""Ten thousand programs and answers through the worker pool, one in twenty hanging and one in twenty crashing.

python -m benchmarks.mixed [--items 10000]

Counts what must not happen: a lost or doubled verdict, a wrong status, a process left over, memory that grows. A mix of
`python_tests`, `stdin_stdout`, `number` and `expression`, right and wrong, and of a verifier that hangs and crashes
itself. Exits with 1 if anything of it did happen.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from benchmarks.paired import keep
from selftrain.backends.pool import VerifierPool
from selftrain.loop.plan import cores
from selftrain.records import Problem, Sample

Item = tuple[Problem, Sample]
TESTS = '{"name": "python_tests", "seconds": 0.5}'
SHAKY = """
import os, time
from selftrain.records import Case
time_limit = 0.5

def verify(*, problem, response):
    if response.startswith("hang"):
        while True:
            pass
    if response.startswith("die"):
        os._exit(1)
    if response.startswith("raise"):
        raise RuntimeError("no")
    return response.startswith("right")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shaky = Path(folder) / "shaky.py"
        shaky.write_text(SHAKY)
        expected, items = made(asked.items, str(shaky))
        watch = Watch()
        begun = time.monotonic()
        with VerifierPool(cores(), log=Path(folder) / "log") as pool:
            watch.start()
            said = []
            for verdict in pool.verify("", items):
                said.append(verdict)
                if len(said) % 1000 == 0:
                    print(f"{len(said)} after {time.monotonic() - begun:.0f} s", flush=True)
            seconds = time.monotonic() - begun
            watch.stop()
        left = descendants(os.getpid())
    wrong = [(v.sample, v.status, v.why) for v in said if v.status != expected[v.sample]]
    lost = len(expected) - len({v.sample for v in said})
    found = {
        "items": len(items),
        "seconds": round(seconds, 1),
        "statuses": dict(Counter(v.status for v in said)),
        "lost": lost,
        "doubled": len(said) - len({v.sample for v in said}),
        "wrong status": len(wrong),
        "processes left": len(left),
        "zombies seen": watch.zombies,
        "memory MB by tenth of the time": watch.tenths(),
    }
    keep("mixed", f"python -m benchmarks.mixed --items {asked.items}", found)
    print(*wrong[:5], sep="\n")
    sys.exit(bool(lost or found["doubled"] or wrong or left))


def made(count: int, shaky: str) -> tuple[dict[str, str], list[Item]]:
    """Return the status each item must get, and the items: every problem has one response of its own."""
    stream = random.Random(0)
    expected, items = {}, []
    for number in range(count):
        fate = stream.random()
        kind = "hang" if fate < 0.05 else "crash" if fate < 0.1 else stream.choice(("right", "wrong"))
        problem, text, status = stream.choice((function, script, number_answer, formula, shaken))(number, kind, shaky)
        sample = Sample.given(problem, text, id=str(number), model="benchmark")
        expected[sample.id] = status
        items.append((problem, sample))
    return expected, items


def function(number: int, kind: str, shaky: str) -> tuple[Problem, str, str]:
    tests = f"assert f(2) == {2 + number}\nassert f(-1) == {number - 1}"
    problem = Problem.of(f"Add {number}.", tests=tests, verifier=TESTS)
    bodies = {
        "right": f"return x + {number}",
        "wrong": f"return x - {number + 1}",
        "hang": "while True: pass",
        "crash": ("import os; os._exit(3)", "raise ValueError(x)", "import ctypes; ctypes.string_at(0)")[number % 3],
    }
    return problem, f"```python\ndef f(x):\n    {bodies[kind]}\n```", "pass" if kind == "right" else "fail"


def script(number: int, kind: str, shaky: str) -> tuple[Problem, str, str]:
    tests = json.dumps([{"input": f"{number}\n", "output": f"{number * 2}\n"}])
    problem = Problem.of(
        f"Double it ({number}).", tests=tests, verifier='{"name": "stdin_stdout", "seconds": 0.5, "total": 2}'
    )
    bodies = {
        "right": "print(int(input()) * 2)",
        "wrong": "print(int(input()) * 2 + 1)",
        "hang": "while True: pass",
        "crash": ("import os; os.abort()", "1 / 0", "raise SystemExit(2)")[number % 3],
    }
    return problem, bodies[kind], "pass" if kind == "right" else "fail"


def number_answer(number: int, kind: str, shaky: str) -> tuple[Problem, str, str]:
    right = kind in ("right", "hang")
    return (
        Problem.of(f"Number {number}?", answer=str(number), verifier="number"),
        f"It is {number if right else number + 1}.",
        "pass" if right else "fail",
    )


def formula(number: int, kind: str, shaky: str) -> tuple[Problem, str, str]:
    right = kind in ("right", "hang")
    return (
        Problem.of(f"Formula {number}?", answer=f"x^2+{number}", verifier="expression"),
        rf"So \boxed{{{number if right else number + 1} + x^2}}",
        "pass" if right else "fail",
    )


def shaken(number: int, kind: str, shaky: str) -> tuple[Problem, str, str]:
    texts = {"right": "right", "wrong": "wrong", "hang": "hang", "crash": ("die", "raise")[number % 2]}
    status = {"right": "pass", "wrong": "fail", "hang": "timeout", "crash": "error"}[kind]
    return Problem.of(f"Shaky {number}", verifier=shaky), f"{texts[kind]} {number}", status


class Watch(threading.Thread):
    """Looks at this process's descendants: their memory together, and zombies that are there twice in a row."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.memory: list[int] = []
        self.zombies = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Look once a second."""
        before: set[int] = set()
        while not self._over.wait(1.0):
            total, dead = 0, set()
            for pid in descendants(os.getpid()):
                try:
                    state, pages = state_of(pid), int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                except (FileNotFoundError, ProcessLookupError):
                    continue
                total += pages * os.sysconf("SC_PAGE_SIZE")
                if state == "Z":
                    dead.add(pid)
            self.zombies += len(dead & before)
            before = dead
            self.memory.append(total >> 20)

    def stop(self) -> None:
        """End."""
        self._over.set()
        self.join()

    def tenths(self) -> list[int]:
        """The median of each tenth of what was seen."""
        size = max(1, len(self.memory) // 10)
        parts = [sorted(self.memory[at : at + size]) for at in range(0, len(self.memory), size)]
        return [part[len(part) // 2] for part in parts]


def descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(parent, []).append(int(name))
    found, open_ones = [], [pid]
    while open_ones:
        children = parents.get(open_ones.pop(), [])
        found += children
        open_ones += children
    return found


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


if __name__ == "__main__":
    main()
