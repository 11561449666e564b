"""Faults of real runs: the bundled model by transformers, TRL and vLLM, the workers, the sandbox, a server, exports."""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import duckdb

from tests.faults import oracle
from tests.faults.case import Came, Case
from tests.faults.injection import Injection
from tests.faults.small_cases import damage, refused_or_redone, settled
from tests.faults.stand import FINISHED, MORE, NANO, ROOT, SETTINGS, Ended, Stand, Wrong, called, clear, resumed, run
from tests.faults.stub_server import serving
from tests.killing import Launched

STALLED = "stall_minutes=0.5"
SAVING = ("save_strategy=steps", "save_steps=1", "num_train_epochs=3")
ONE = (f"recipe={Path(__file__).parent / 'served_recipe.py'}", "rounds=1", "sampler.context=256", "sampler.timeout=5")
HANGING = str(ROOT / "tests" / "faults" / "hanging_verifier.py")
ENTRY = [sys.executable, "-m", "selftrain.cli"]


def cases(chance: random.Random) -> Iterator[Case]:
    """Every fault of these runs."""
    yield from _strikes(chance)
    yield from _trainings()
    yield from _checkpoints()
    yield from _exports()
    yield from _models()
    yield from _servers()
    yield Case("verifier hangs in C", "round-01/01-verify", "nano", _hanging)
    yield Case("sandbox killed", "SIGKILL of its parent, in verify", "nano", _sandbox)
    if find_spec("vllm"):
        for role in ("controller", "engine"):
            yield Case(f"SIGKILL of the {role}", "vLLM, round 1 generate", "vllm", partial(_vllm, role=role))
        yield Case(
            "engine hangs (SIGSTOP)",
            "vLLM, round 1 generate",
            "vllm",
            partial(_vllm, role="engine", sign=signal.SIGSTOP),
        )


def _strikes(chance: random.Random) -> Iterator[Case]:
    yield _strike("controller", 2, "00-generate", signal.SIGKILL)
    yield _strike("controller", 2, "04-train", signal.SIGKILL)
    yield _strike("controller", 2, "04-train", signal.SIGTERM)
    yield _strike("controller", 2, "05-evaluate-greedy", signal.SIGINT)
    yield _strike("engine", 2, "00-generate", signal.SIGKILL)
    yield _strike("engine", 2, "05-evaluate-greedy", signal.SIGTERM)
    yield _strike("engine", 2, "00-generate", signal.SIGSTOP)
    starting = partial(_struck, role="engine", number=2, stage="00-generate", sign=signal.SIGSTOP, early=True)
    yield Case("engine hangs (SIGSTOP)", "while it starts, in round-02/00-generate", "nano", starting)
    yield _strike("trainer", 2, "04-train", signal.SIGTERM)
    yield _strike("trainer", 2, "04-train", signal.SIGSTOP)
    yield _strike("worker", 2, "01-verify", signal.SIGKILL)
    yield _strike("worker", 2, "01-verify", signal.SIGSTOP)


def _strike(role: str, number: int, stage: str, sign: signal.Signals) -> Case:
    hangs = sign == signal.SIGSTOP
    fault = f"{role} hangs ({sign.name})" if hangs else f"{sign.name} of the {role}"
    return Case(
        fault,
        f"at random in round-{number:02d}/{stage}",
        "nano",
        partial(_struck, role=role, number=number, stage=stage, sign=sign),
    )


def _struck(stand: Stand, role: str, number: int, stage: str, sign: signal.Signals, early: bool = False) -> Came:
    begin = f"round-{number:02d}/{'00-generate' if stage == '01-verify' else stage}"
    if role == "engine" and not early:
        # So that it runs, and is to change its weights: one that is lost while it starts ends the run.
        begin = {"round-02/00-generate": "round-01/05-evaluate-greedy"}.get(begin, "round-02/00-generate")
    reference, out = stand.reference(NANO), stand.begun(NANO, begin)
    given = (*SETTINGS, *MORE, *((STALLED,) if sign == signal.SIGSTOP else ()))
    before = oracle.done_files(out)
    launched = Launched(out, "rest_em", given)
    struck = launched.strike(number, stage[3:], role, sign)
    ended = _over(launched)
    if not struck:
        raise Wrong(f"no {role} was there in {stage}: {ended.err[-500:]}")
    # What was judged when a worker was lost is an error or a timeout, and so other than undisturbed.
    strict = role != "worker"
    if faults := oracle.redone(before, out):
        raise Wrong("; ".join(faults[:5]))
    outcome = settled(NANO, ended, out, reference, strict=strict)
    if not strict and (lost := _undecided(out)) > 1:
        raise Wrong(f"{lost} verdicts were lost to one worker")
    return outcome


def _over(launched: Launched) -> Ended:
    """Wait for a run's end and see that none of its processes outlives it; all it said counts as its errors."""
    code = launched.wait(300)
    if not launched.gone():
        raise Wrong(f"processes outlive the run: {launched.family()}")
    return Ended(code, "", launched.log.read_text(errors="replace"))


def _undecided(out: Path) -> int:
    files = [str(path) for path in out.glob("round-*/*/part-*/verdicts.parquet")]
    query = "SELECT count(*) FROM read_parquet(?) WHERE status IN ('error', 'timeout')"
    with duckdb.connect() as database:
        return int(database.execute(query, [files]).fetchall()[0][0])


def _trainings() -> Iterator[Case]:
    made = r"/\.checkpoint\.partial$"
    for when in ("before", "after"):
        injection = Injection(role="trainer", call="rename", match=made, when=when, do="kill")
        yield _trained("SIGKILL of the trainer", f"{when} the rename of the checkpoint", injection)
    written = Injection(role="trainer", call="fsync", match=r"\.checkpoint\.partial/master/", do="kill")
    yield _trained("SIGKILL of the trainer", "between the checkpoint's files and its rename", written)
    for number in (1, 2):
        saved = Injection(role="trainer", call="fsync", match=rf"work/checkpoint-{number}/", k=3, do="kill")
        yield _trained("SIGKILL of the trainer", f"during TRL checkpoint {number}", saved, *SAVING)
    full = Injection(role="trainer", call="fsync", match=r"\.checkpoint\.partial/", do="ENOSPC")
    yield _trained("disk full (ENOSPC)", "writing the checkpoint", full)
    memory = Injection(role="trainer", call="open", match=r"work/job$", do="memory")
    yield _trained("out of memory in the trainer", "as it loads the model (RLIMIT_AS)", memory)


def _trained(fault: str, point: str, injection: Injection, *settings: str) -> Case:
    def attempt(stand: Stand) -> Came:
        reference = stand.reference(NANO, *settings)
        out = stand.begun(NANO, "round-01/04-train", *settings)
        before = oracle.done_files(out)
        ended = run(NANO, out, *settings, injection=injection)
        if faults := oracle.redone(before, out):
            raise Wrong("; ".join(faults[:5]))
        return settled(NANO, ended, out, reference, *settings)

    return Case(fault, point, "nano", attempt)


def _checkpoints() -> Iterator[Case]:
    damages = {
        "a bit flipped": ("serve/model.safetensors", "serve/tokenizer.json", "checkpoint.json"),
        "cut off": ("serve/model.safetensors", "serve/config.json", "serve/probe.json"),
    }
    for how, names in damages.items():
        for name in names:

            def attempt(stand: Stand, name: str = name, how: str = how) -> Came:
                reference, out = stand.reference(NANO), stand.begun(NANO, "round-02/00-generate")
                victim = out / "round-01" / "04-train" / "checkpoint" / name
                damage(victim, how)
                return refused_or_redone(NANO, out, victim, reference)

            yield Case(f"checkpoint's {name} {how}", "before round 2", "nano", attempt)
    for name in ("master/model.safetensors", "adapter/adapter_model.safetensors"):
        yield Case(f"checkpoint's {name} a bit flipped", "before an export", "nano", partial(_export_of, name=name))


def _export_of(stand: Stand, name: str) -> Came:
    out = stand.begun(NANO, "")
    victim = out / "round-01" / "04-train" / "checkpoint" / name
    damage(victim, "a bit flipped")
    target = out.parent / "model"
    ended = called([*ENTRY, "export", str(out), "--round", "1", "--to", str(target)])
    clear(ended)
    if victim.name not in ended.line or target.exists():
        raise Wrong(f"exported all the same: {ended.code} {ended.line}")
    return Came(ended.code, f"named and refused (exit code {ended.code}); nothing exported")


def _exports() -> Iterator[Case]:
    for point, call, match, when in (
        ("writing", "fsync", r"/\.model\.partial/", "before"),
        ("before the rename", "rename", r"/\.model\.partial$", "before"),
        ("after the rename", "rename", r"/\.model\.partial$", "after"),
    ):
        for do in ("kill", "term"):
            injection = Injection(call=call, match=match, when=when, do=do)
            yield Case(f"{do} during export", point, "nano", partial(_exported, injection=injection))
    yield Case("hub unreachable", "pushing an export", "nano", _pushed, (1,))


def _exported(stand: Stand, injection: Injection) -> Came:
    out = stand.reference(NANO)
    there = stand.folder / "exported"
    command = [*ENTRY, "export", str(out), "--round", "1", "--to"]
    if not there.exists():
        called([*command, str(there)])
    target, flag = stand.fresh().parent / "model", stand.folder / f"flag-{stand.count}"
    target.parent.mkdir(parents=True)
    ended = called([*command, str(target)], injection.environment(flag))
    clear(ended)
    if not flag.exists():
        raise Wrong(f"nothing was disturbed: {ended.code} {ended.line}")
    whole = target.exists()
    again = called([*command, str(target)])
    clear(again)
    if again.code != (2 if whole else 0):
        raise Wrong(f"the same command ended with {again.code}: {again.line}")
    left = [path.name for path in target.parent.iterdir() if path != target]
    if left or _contents(target) != _contents(there):
        raise Wrong(f"the export is another; beside it {left}")
    words = "the export was whole" if whole else "nothing exported; the same command exported the same files"
    return Came(ended.code, words)


def _contents(folder: Path) -> dict[str, bytes]:
    # The card tells the day and the command.
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "README.md"}


def _pushed(stand: Stand) -> Came:
    target = stand.fresh().parent / "model"
    ended = called(
        [*ENTRY, "export", str(stand.reference(NANO)), "--round", "1", "--to", str(target), "--push", "nobody/model"],
        {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_none"},
    )
    clear(ended)
    if "nobody/model" not in ended.line or not (target / "model.safetensors").exists():
        raise Wrong(f"{ended.code} {ended.line}")
    return Came(ended.code, f"one line, exit code {ended.code}; the export is there")


def _models() -> Iterator[Case]:
    for name, how in (
        ("model.safetensors", "cut off"),
        ("model.safetensors", "emptied"),
        ("config.json", "cut off"),
        ("tokenizer.json", "cut off"),
    ):
        yield Case(f"model's {name} {how}", "before the run", "nano", partial(_bad_model, name=name, how=how))
    yield Case("model's weights a bit flipped", "between two rounds", "nano", _changed_model)
    yield Case("hub unreachable", "before the run", "nano", _no_hub, (2,))


def _bad_model(stand: Stand, name: str, how: str) -> Came:
    out = stand.fresh()
    model = out.parent / "given"
    shutil.copytree(ROOT / "data" / "nano", model)
    damage(model / name, how)
    ended = run(NANO, out, f"model={model}")
    clear(ended)
    if name not in ended.line and "given" not in ended.line:
        raise Wrong(f"{ended.code} {ended.line[:500]}")
    shutil.copyfile(ROOT / "data" / "nano" / name, model / name)
    resumed(NANO, out, f"model={model}", reference=None)
    return Came(ended.code, f"one line, exit code {ended.code}; with the model mended the same command finished")


def _changed_model(stand: Stand) -> Came:
    model = stand.folder / "given"
    if not model.exists():
        shutil.copytree(ROOT / "data" / "nano", model)
    reference = stand.reference(NANO, f"model={model}")
    out = stand.begun(NANO, "round-02/04-train", f"model={model}")
    victim = model / "model.safetensors"
    damage(victim, "a bit flipped")
    try:
        ended = run(NANO, out, f"model={model}")
        clear(ended)
        if str(model) not in ended.line:
            raise Wrong(f"trained all the same: {ended.code} {ended.line[:500]}")
    finally:
        damage(victim, "a bit flipped")
    resumed(NANO, out, f"model={model}", reference=reference)
    words = f"named and refused (exit code {ended.code}); with the model put back the same command finished"
    return Came(ended.code, words)


def _no_hub(stand: Stand) -> Came:
    where = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(stand.fresh().parent / "empty")}
    ended = run(NANO, stand.fresh(), "model=nobody/model", environment=where)
    clear(ended)
    if "nobody/model" not in ended.line:
        raise Wrong(f"{ended.code} {ended.line[:500]}")
    return Came(ended.code, f"one line, exit code {ended.code}")


def _servers() -> Iterator[Case]:
    for trouble in ("500", "slow", "silent", "garbage", "hangs up"):
        served, dead = partial(_served, trouble=trouble), partial(_dead, trouble=trouble)
        yield Case(f"server: {trouble}", "the first two tries of every request", "server", served, (0,))
        yield Case(f"server: {trouble}", "for good", "server", dead, (1,))
    yield Case("server: refuses some", "every seventh request", "server", _refusing, (0,))


def _well(stand: Stand) -> Path:
    """An undisturbed run with the server."""
    if "server" not in stand.references:
        out = stand.folder / "reference-server"
        with serving() as server:
            ended = run(NANO, out, *ONE, "sampler=server", f"sampler.url={server.url}")
        if ended.code not in FINISHED or oracle.wrong(out):
            raise Wrong(f"the undisturbed run is wrong: {ended}")
        stand.references["server"] = out
    return stand.references["server"]


def _served(stand: Stand, trouble: str) -> Came:
    reference, out = _well(stand), stand.fresh()
    with serving(trouble) as server:
        ended = run(NANO, out, *ONE, "sampler=server", f"sampler.url={server.url}")
        clear(ended)
        troubled = sum(count > 1 for count in server.tries.values())
    if ended.code not in FINISHED or not troubled or (faults := oracle.wrong(out, reference)):
        raise Wrong(f"{ended.code} {ended.line[:300]} {faults if troubled and ended.code in FINISHED else troubled}")
    return Came(0, "asked again; the run finished by itself, tables equal")


def _dead(stand: Stand, trouble: str) -> Came:
    reference, out = _well(stand), stand.fresh()
    with serving(trouble, times=10**9) as server:
        ended = run(NANO, out, *ONE, "sampler=server", f"sampler.url={server.url}", "sampler.tries=2")
    clear(ended)
    if "in 2 tries" not in ended.line:
        raise Wrong(f"{ended.code} {ended.line[:500]}")
    with serving() as server:
        settings = (*ONE, "sampler=server", f"sampler.url={server.url}", "sampler.tries=2")
        resumed(NANO, out, *settings, reference=reference, strict=False)
    return Came(ended.code, f"one line, exit code {ended.code}; with the server well the same command finished")


def _refusing(stand: Stand) -> Came:
    out = stand.fresh()
    with serving("refuses some", times=10**9) as server:
        ended = run(NANO, out, *ONE, "sampler=server", f"sampler.url={server.url}")
    clear(ended)
    files = [
        [str(p) for p in out.glob(f"round-01/00-generate/part-*/{name}.parquet")] for name in ("samples", "quarantined")
    ]
    with duckdb.connect() as database:
        counts = [database.execute("SELECT count(*) FROM read_parquet(?)", [each]).fetchall()[0][0] for each in files]
    if ended.code not in FINISHED or not counts[1] or sum(counts) != 80 or oracle.wrong(out):
        raise Wrong(f"{ended.code} {ended.line[:300]} {counts}")
    return Came(0, "refused ones quarantined with the reason, the run finished")


def _hanging(stand: Stand) -> Came:
    out = stand.fresh()
    ended = run(NANO, out, "rounds=1", f"verify.by={HANGING}", "time_limit=1")
    clear(ended)
    if ended.code not in FINISHED or (faults := oracle.wrong(out)):
        raise Wrong(f"{ended.code} {ended.line[:300]} {faults if ended.code in FINISHED else ''}")
    if not _undecided(out):
        raise Wrong("no verdict is a timeout")
    return Came(0, "timeouts recorded as such, the run finished by itself")


def _sandbox(stand: Stand) -> Came:
    settings = ("model=nano-programs", "data=programs", "rounds=1", "max_new_tokens=112", "valid=24", "test=24")
    out = stand.fresh()
    out.parent.mkdir(parents=True)
    launched = Launched(out, "rest_em", (*SETTINGS, *MORE, *settings))
    end, killed = time.monotonic() + 200, 0
    while launched.process.poll() is None and time.monotonic() < end and not killed:
        for pid in _descendants(launched.pid, b"bwrap"):
            os.kill(pid, signal.SIGKILL)
            killed += 1
        time.sleep(0.01)
    ended = _over(launched)
    if not killed:
        raise Wrong(f"no sandbox was there: {ended.err[-300:]}")
    clear(ended)
    if ended.code not in FINISHED or (faults := oracle.wrong(out)):
        raise Wrong(f"{ended.code} {ended.err[:300]} {faults if ended.code in FINISHED else ''}")
    return Came(0, "the sandbox was made anew, the run finished by itself")


def _descendants(root: int, name: bytes) -> Sequence[int]:
    """Processes under a process whose command line has a name in it."""
    parents, lines = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(path.name)] = (path / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue

    def under(pid: int) -> bool:
        while pid in parents and pid != root:
            pid = parents[pid]
        return pid == root

    return [pid for pid, line in lines.items() if name in line.partition(b"\0")[0] and under(pid)]


def _vllm(stand: Stand, role: str, sign: signal.Signals = signal.SIGKILL) -> Came:
    out = stand.fresh()
    out.parent.mkdir(parents=True)
    more = ("sampler=vllm", "rounds=1", *(("stall_minutes=2",) if sign == signal.SIGSTOP else ()))
    launched = Launched(out, "rest_em", (*SETTINGS, *MORE, *more))
    struck = launched.strike(1, "generate", role, sign)
    ended = _over(launched)
    if not struck:
        raise Wrong(f"no {role} was there: {ended.err[-500:]}")
    reference = stand.reference(NANO, "rounds=1")
    return settled(NANO, ended, out, reference, "sampler=vllm", "rounds=1", strict=False)
