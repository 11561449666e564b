"""Faults of runs whose model is a rule: every one in a few seconds."""

import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.faults import oracle
from tests.faults.case import Came, Case
from tests.faults.injection import Injection
from tests.faults.stand import (
    FINISHED,
    SMALL,
    Ended,
    Stand,
    Wrong,
    clear,
    command,
    may_mount,
    mounted,
    resumed,
    run,
    started,
)
from tests.killing import waited


class Point(NamedTuple):
    """A named place in a run, as the k-th of some calls."""

    name: str
    call: str
    match: str
    when: str
    most: int
    """At least so many such calls are in a run."""


POINTS = (
    Point("between a shard's tables and its manifest", "open", r"part-\d+\.unfinished/manifest\.json", "before", 60),
    Point("between a shard's manifest and its rename", "rename", r"part-\d+\.unfinished$", "before", 60),
    Point("after a shard's rename", "rename", r"part-\d+\.unfinished$", "after", 60),
    Point("in a shard's fsync", "fsync", r"part-\d+\.unfinished/\w+\.parquet$", "before", 90),
    Point("between the last shard and stage.json", "open", r"stage\.json\.unfinished$", "before", 20),
    Point("between write and rename of stage.json", "rename", r"stage\.json\.unfinished$", "before", 20),
    Point("after stage.json", "rename", r"stage\.json\.unfinished$", "after", 20),
    Point("between write and rename of key.json", "rename", r"key\.json\.unfinished$", "before", 20),
    Point("between write and rename of plan.json", "rename", r"plan\.json\.unfinished$", "before", 2),
    Point("between write and rename of metrics.jsonl", "rename", r"metrics\.jsonl\.unfinished$", "before", 3),
    Point("between write and rename of state.json", "rename", r"state\.json\.unfinished$", "before", 2),
    Point("between write and rename of run.yaml", "rename", r"run\.yaml\.unfinished$", "before", 2),
)
SIGNALS = {"kill": "SIGKILL", "term": "SIGTERM", "int": "SIGINT"}
ERRORS = {
    "ENOSPC": "disk full",
    "EROFS": "read-only file system",
    "EACCES": "permission lost",
    "EIO": "input/output error",
    "ESTALE": "stale network file handle",
}
PLACES = (
    Point("writing a manifest", "open", r"part-\d+\.unfinished/manifest\.json", "before", 60),
    Point("making a shard's folder", "mkdir", r"part-\d+\.unfinished$", "before", 60),
    Point("renaming a shard", "rename", r"part-\d+\.unfinished$", "before", 60),
    Point("fsync of a table", "fsync", r"\.parquet$", "before", 90),
    Point("writing stage.json", "open", r"stage\.json\.unfinished$", "before", 20),
    Point("writing events.jsonl", "open", r"events\.jsonl$", "before", 15),
)
ANEW = ("metrics.jsonl", "events.jsonl")
"""Files that say nothing which the stored tables don't say."""
CLOCK = (1, 8, 20)
"""The first reading of the clock after the jump: a run has 24, of which the last is its end's."""
DAMAGE = ("cut off", "a bit flipped", "emptied")
EMPTIED = (".jsonl", ".yaml", "samples.parquet", "verdicts.parquet", "stage.json", "key.json")


def cases(chance: random.Random) -> Iterator[Case]:
    """Every fault of these runs."""
    for point in POINTS:
        for do, name in SIGNALS.items():
            for k in sorted(chance.sample(range(1, point.most + 1), 2 if do == "kill" else 1)):
                yield _injected(f"{name} of the controller", point, do, k)
    for do, name in ERRORS.items():
        for point in PLACES:
            yield _injected(f"{name} ({do})", point, do, chance.randint(1, point.most))
    for do, name in (("late", "rename seen only later, as on NFS"), ("lost", "rename done, but said to have failed")):
        for point in (POINTS[1], POINTS[5], POINTS[7], POINTS[8]):
            yield _injected(name, point._replace(when="after", name=point.name.rpartition(" of ")[2]), do, 1)
    for k in CLOCK:
        yield _injected("clock jumps back a day", Point(f"at its look number {k}", "time", "", "before", 1), "back", k)
    yield from _damaged()
    yield from _mounts()
    for at in ("round-01", "round-02"):
        yield Case("two controllers on one folder", f"the first at {at}", "small", partial(_second, at=at))
    yield Case("two controllers on one folder", "started at once", "small", _both, (2, 0))


def _injected(fault: str, point: Point, do: str, k: int) -> Case:
    injection = Injection(call=point.call, match=point.match, when=point.when, do=do, k=k)

    def attempt(stand: Stand) -> Came:
        reference, out = stand.reference(SMALL), stand.fresh()
        return settled(SMALL, run(SMALL, out, injection=injection), out, reference)

    number = f", number {k}" if point.call != "time" else ""
    return Case(fault, f"{point.name}{number}", "small", attempt)


def settled(module: str, ended: Ended, out: Path, reference: Path, *settings: str, strict: bool = True) -> Came:
    """Judge a disturbed run and, unless it finished all the same, have it go on; return the outcome."""
    clear(ended)
    if ended.code in FINISHED and oracle.finished(out):
        if faults := oracle.wrong(out, reference, strict=strict):
            raise Wrong("; ".join(faults[:5]))
        return Came(0, "the run finished by itself")
    resumed(module, out, *settings, reference=reference, strict=strict)
    how = (
        "killed"
        if ended.code < 0
        else "interrupted (130)"
        if ended.code == 130
        else f"one line, exit code {ended.code}"
    )
    return Came(ended.code, f"{how}; the same command finished")


def _damaged() -> Iterator[Case]:
    files = [
        f"round-{place}/part-*/{name}"
        for place, names in (
            ("00/00-problems", ("problems.parquet", "manifest.json")),
            ("01/00-generate", ("samples.parquet", "quarantined.parquet", "manifest.json")),
            ("01/01-verify", ("verdicts.parquet",)),
            ("01/02-select", ("picks.parquet",)),
            ("01/03-build", ("rows.parquet",)),
            ("01/04-train", ("checkpoints.parquet", "metrics.parquet")),
            ("01/07-evaluate", ("outcomes.parquet",)),
            ("01/08-gate", ("decisions.parquet",)),
        )
        for name in names
    ]
    files += ["round-01/00-generate/stage.json", "round-01/01-verify/key.json", "round-01/plan.json"]
    files += ["state.json", "run.yaml", *ANEW]
    for pattern in files:
        # A file without a line is as good as one that is cut off, but for those that are read line by line.
        for how in DAMAGE if pattern.endswith(EMPTIED) else DAMAGE[:2]:
            for until in ("", "round-02/01-verify") if "samples" in pattern else ("round-02/01-verify",):
                where = "of a finished run" if not until else "of a run half-way"
                # Of run.yaml only the format is read.
                anew = pattern in ANEW or (pattern, how) in (("run.yaml", "cut off"), ("run.yaml", "a bit flipped"))
                yield Case(
                    f"{pattern.rpartition('/')[2]} {how}",
                    f"{pattern.rpartition('/part')[0] or 'the run'}, {where}",
                    "small",
                    partial(_read_after, module=SMALL, pattern=pattern, how=how, until=until),
                    (0,) if anew else (2,),
                )
    yield Case("a shard gone", "round-01/00-generate, finished", "small", _gone, (2,))


def damage(file: Path, how: str) -> None:
    """Damage a file."""
    content = bytearray(file.read_bytes())
    if how == "cut off":
        content = content[: len(content) * 2 // 3]
    elif how == "emptied":
        content = bytearray()
    else:
        content[len(content) // 2] ^= 4
    # A rename would be the mark of somebody who writes in order; this is what a bad disk does.
    with file.open("r+b") as handle:
        handle.write(content)
        handle.truncate()


def _read_after(stand: Stand, module: str, pattern: str, how: str, until: str) -> Came:
    """Damage a file of a run: the run names it and stops, or makes it again; then the advice given helps."""
    reference, out = stand.reference(module), stand.begun(module, until)
    victim = sorted(out.glob(pattern))[0] if sorted(out.glob(pattern)) else None
    if victim is None and pattern == "state.json":
        (out / "state.json").write_text('{"state": "running", "why": "", "time": 0}')
        victim = out / pattern
    if victim is None:
        raise Wrong(f"there is no {pattern}")
    damage(victim, how)
    return refused_or_redone(module, out, victim, reference)


def refused_or_redone(module: str, out: Path, victim: Path, reference: Path, *settings: str) -> Came:
    """Run on a damaged folder; if it refuses, do what it says and run again."""
    ended = run(module, out, *settings)
    clear(ended)
    if ended.code in FINISHED and oracle.finished(out):
        faults = oracle.wrong(out, reference)
        if victim.name == "events.jsonl":
            # Nothing is read from it: what was damaged there stays.
            faults = [each for each in faults if not each.startswith(oracle.UNREADABLE)]
        if faults:
            raise Wrong(f"it was read: {faults[:3]}")
        return Came(0, "made again, tables equal")
    named = victim.name if victim.parent == out or victim.is_relative_to(out) else victim.parent.name
    if named not in ended.line and victim.parent.name not in ended.line:
        raise Wrong(f"refused, but {victim.name} is not named: {ended.line}")
    if victim.name == "run.yaml":
        victim.write_text("format: 1\n")
    elif victim.parent == out:
        victim.unlink()
    else:
        number = victim.relative_to(out).parts[0]
        for later in out.glob("round-*"):
            if later.name >= number:
                shutil.rmtree(later)
        (out / "events.jsonl").unlink()
    resumed(module, out, *settings, reference=reference)
    return Came(ended.code, f"named and refused (exit code {ended.code}); made again as advised")


def _gone(stand: Stand) -> Came:
    reference, out = stand.reference(SMALL), stand.begun(SMALL, "round-02/01-verify")
    victim = out / "round-01" / "00-generate" / "part-00001"
    shutil.rmtree(victim)
    return refused_or_redone(SMALL, out, victim, reference)


def _mounts() -> Iterator[Case]:
    for size in (16, 64, 128, 256, 400):
        yield Case("disk full", f"a tmpfs with {size} kB left in round 0", "small", partial(_full, size=size), (1, 3))
    for until in ("round-01", "round-02/02-select", ""):
        where = until or "the finished run"
        yield Case(
            "read-only file system", f"a bind mount, from {where} on", "small", partial(_readonly, until=until), (2,)
        )


def _full(stand: Stand, size: int) -> Came:
    """Let the file system shrink while the run is stopped: before it begins, too small a one is refused."""
    if not may_mount(stand.folder):
        return Came(None, "skipped: mounting is not permitted here")
    reference, out = stand.reference(SMALL), stand.fresh()
    with mounted(out.parent, "64m"):
        flag = stand.folder / f"flag-{stand.count}"
        stop = Injection(call="rename", match=r"round-00/0[1-9].*part-\d+\.unfinished$", do="stop")
        running = started(command(SMALL, out), stop.environment(flag))
        waited(flag.exists, 60)
        used = shutil.disk_usage(out).used
        subprocess.run(["mount", "-o", f"remount,size={used + size * 1024}", str(out.parent)], check=True)
        running.send_signal(signal.SIGCONT)
        said = running.communicate(timeout=120)
        ended = Ended(running.returncode, *said)
        # At the end of a round there may be less than the next one needs.
        if not ("No space left" in ended.line or "GB of disk, but" in ended.line):
            raise Wrong(f"a full disk is not named: {ended.code} {ended.line} {ended.err[-500:]}")
        subprocess.run(["mount", "-o", "remount,size=64m", str(out.parent)], check=True)
        return settled(SMALL, ended, out, reference)


def _readonly(stand: Stand, until: str) -> Came:
    if not may_mount(stand.folder):
        return Came(None, "skipped: mounting is not permitted here")
    reference, out = stand.reference(SMALL), stand.begun(SMALL, until)
    subprocess.run(["mount", "--bind", str(out), str(out)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(out)], check=True)
        ended = run(SMALL, out)
        clear(ended)
        if "read" not in ended.line.lower():
            raise Wrong(f"a read-only folder is not named: {ended.code} {ended.line}")
    finally:
        subprocess.run(["umount", str(out)], check=True)
    return settled(SMALL, ended, out, reference)


def _second(stand: Stand, at: str) -> Came:
    """A second controller while the first one is stopped in the middle: refused, and the first one finishes."""
    reference, out = stand.reference(SMALL), stand.fresh()
    out.parent.mkdir(parents=True)
    flag = out.parent / "happened"
    stop = Injection(call="rename", match=rf"{at}/.*part-\d+\.unfinished$", do="stop", k=3)
    first = started(command(SMALL, out), stop.environment(flag))
    waited(flag.exists, 60)
    other = run(SMALL, out.parent / "run")
    clear(other)
    if "in use" not in other.line or str(first.pid) not in other.line:
        raise Wrong(f"the second one is not refused: {other.code} {other.line}")
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=120)
    if first.returncode not in FINISHED or (faults := oracle.wrong(out, reference)):
        raise Wrong(f"the first one ended with {first.returncode}: {faults if first.returncode in FINISHED else ''}")
    return Came(other.code, f"the second is refused (exit code {other.code}); the first finished")


def _both(stand: Stand) -> Came:
    reference, out = stand.reference(SMALL), stand.fresh()
    out.parent.mkdir(parents=True)
    both = [started(command(SMALL, out)) for _ in range(2)]
    ended = [Ended(each.wait(120), *each.communicate()) for each in both]
    for each in ended:
        clear(each)
    codes = sorted(each.code for each in ended)
    if not set(codes) & set(FINISHED) or not oracle.finished(out):
        raise Wrong(f"both ended with {codes}")
    if faults := oracle.wrong(out, reference):
        raise Wrong("; ".join(faults[:5]))
    # One that comes when the other has finished is not refused, and finds nothing to do.
    refused = next((code for code in codes if code not in FINISHED), 0)
    return Came(refused, f"exit codes {codes}; finished once")
