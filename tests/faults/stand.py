"""Where faults are tried: runs are started, disturbed, started again, and judged."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.faults import oracle
from tests.faults.injection import Injection

ROOT = Path(__file__).parents[2]
SMALL, NANO = "tests.faults.small", "selftrain.cli"
SETTINGS = ("model=nano", "data=sums", "pool=20", "valid=8", "test=8", "samples=4", "keep=2", "rounds=2", "shard=5")
MORE = ("max_new_tokens=64", "learning_rate=0.003", "gate.patience=9", "workers=1", "free_disk=0", "free_memory=0")
FINISHED = (0, 3)
"""Exit codes of a finished run: 3 where no round was better."""
PATIENCE = 300.0
"""Seconds after which a command counts as hanging."""
ENDS = ("error: ", "interrupted;")
"""How the line begins that says of a command's end."""


class Wrong(AssertionError):
    """A fault led to something that must not be."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """What it said of its end, in one line."""
        lines = self.err.strip().splitlines() or [""]
        return next((line for line in lines if line.startswith(ENDS)), lines[0])


@dataclass
class Stand:
    """A folder with undisturbed runs to compare with, and room for disturbed ones."""

    folder: Path
    references: dict[str, Path] = field(default_factory=dict)
    count: int = 0

    def reference(self, module: str, *settings: str) -> Path:
        """Return the folder of an undisturbed run; it is made once."""
        name = "-".join([module.rpartition(".")[2], *settings]).replace("/", "_")
        if name not in self.references:
            out = self.folder / f"reference-{name}"
            ended = run(module, out, *settings)
            if ended.code not in FINISHED or (faults := oracle.wrong(out)):
                raise Wrong(f"the undisturbed run is wrong: {ended}, {faults if ended.code in FINISHED else ''}")
            self.references[name] = out
        return self.references[name]

    def fresh(self) -> Path:
        """Return a folder for a run, which isn't there yet."""
        self.count += 1
        return self.folder / f"case-{self.count:03d}" / "run"

    def begun(self, module: str, until: str, *settings: str) -> Path:
        """Return a copy of the undisturbed run, as it was before a stage: "round-02/04-train"; "" for all of it."""
        out = self.fresh()
        shutil.copytree(self.reference(module, *settings), out, symlinks=True)
        if until:
            (out / "state.json").unlink(missing_ok=True)
            number, _, position = until.partition("/")
            for stage in sorted(out.glob("round-*/*")):
                if (stage.parent.name, stage.name) >= (number, position):
                    shutil.rmtree(stage) if stage.is_dir() else None
            for later in out.glob("round-*"):
                if later.name > number:
                    shutil.rmtree(later)
            lines = (out / "events.jsonl").read_text().splitlines(keepends=True)
            done = len(list(out.glob("round-*/*/stage.json"))) - 2
            (out / "events.jsonl").write_text("".join(lines[:done]))
        return out


def command(module: str, out: Path, *settings: str) -> list[str]:
    """Return the command of a run."""
    given = {pair.partition("=")[0]: pair for pair in ("recipe=rest_em", *SETTINGS, *MORE, *settings)}
    recipe = given.pop("recipe").partition("=")[2]
    return [sys.executable, "-m", module, "run", recipe, *given.values(), "--out", str(out)]


def run(
    module: str,
    out: Path,
    *settings: str,
    injection: Injection | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run to the end, undisturbed or with an injection; raises Wrong if it hangs or the injection found no place."""
    flag = out.parent / "happened"
    flag.parent.mkdir(parents=True, exist_ok=True)
    flag.unlink(missing_ok=True)
    more = {**(injection.environment(flag) if injection else {}), **(environment or {})}
    ended = called(command(module, out, *settings), more)
    if injection and not flag.exists():
        raise Wrong(f"nothing was disturbed: {ended.code} {ended.line}")
    return ended


def called(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Ended:
    """Run a command; raises Wrong if it takes too long."""
    process = started(arguments, environment)
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise Wrong(f"it hangs: {out[-500:]} {err[-500:]}") from None
    return Ended(process.returncode, out, err)


def started(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "400", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def clear(ended: Ended) -> None:
    """Raise Wrong if a run did not end in order: finished without an error, killed, or with one line that says how."""
    lines = ended.err.splitlines()
    if "bug in selftrain" in ended.err or any(line.startswith("Traceback") for line in lines):
        raise Wrong(f"a traceback: {ended.code} {ended.err[-1500:]}")
    begins: dict[int, tuple[str, ...]] = dict.fromkeys((1, 2, 3), ENDS[:1])
    begins |= {130: ENDS[1:], 0: (), -signal.SIGKILL: ()}
    if ended.code not in begins:
        raise Wrong(f"exit code {ended.code}: {ended.err[-1000:]}")
    said = [line for line in lines if line.startswith(ENDS)]
    right = begins[ended.code]
    if len(said) != len(right) or not all(line.startswith(right) for line in said):
        raise Wrong(f"it ended with {ended.code} and {len(said)} such lines: {ended.err[-1000:]}")


def resumed(module: str, out: Path, *settings: str, reference: Path | None, strict: bool = True) -> None:
    """Run the same command again, undisturbed: it finishes, nothing finished is redone, nothing is lost or other."""
    before = oracle.done_files(out)
    ended = run(module, out, *settings)
    clear(ended)
    if ended.code not in FINISHED or not oracle.finished(out):
        raise Wrong(f"the same command does not finish: {ended.code} {ended.line[:600]}")
    if faults := [*oracle.redone(before, out), *oracle.wrong(out, reference, strict=strict)]:
        raise Wrong("; ".join(faults[:5]))


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """Have a file system in memory of a size at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "faults", str(folder)], check=True, capture_output=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def may_mount(folder: Path) -> bool:
    """Whether this process may mount; asked by trying."""
    try:
        with mounted(folder / "trial", "64k"):
            return True
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False
