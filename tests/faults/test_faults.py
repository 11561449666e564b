"""Some of the injected faults; `make faults` injects them all."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import oracle
from tests.faults.campaign import chosen_by, every_case
from tests.faults.case import Came, Case
from tests.faults.injection import Injection
from tests.faults.small_cases import damage, settled
from tests.faults.stand import SMALL, Ended, Stand, Wrong, clear, resumed, run

SLOW = (
    "SIGKILL of the controller: between a shard's manifest and its rename",
    "input/output error (EIO): writing a manifest",
    "SIGINT of the controller: between write and rename of stage.json",
    "rename seen only later, as on NFS: ",
    "rename done, but said to have failed: ",
    "two controllers on one folder: the first at round-02",
    "disk full: a tmpfs with 128 kB",
    "read-only file system: a bind mount, from round-02",
    "manifest.json cut off: round-01/00-generate",
    "stage.json a bit flipped: ",
    "server: garbage: the first two tries",
    "clock jumps back a day: at its look number 20",
)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    return Stand(tmp_path_factory.mktemp("faults"))


def attempt(stand: Stand, beginning: str) -> None:
    outcome = chosen_by(beginning).tried(stand)
    if outcome.startswith("skipped"):
        pytest.skip(outcome)


def test_a_flipped_bit_is_named_and_what_it_spoiled_is_made_again(stand: Stand) -> None:
    attempt(stand, "samples.parquet a bit flipped: round-01/00-generate, of a run half-way")


@pytest.mark.slow
@pytest.mark.parametrize("fault", SLOW)
def test_a_fault_costs_nothing_that_was_stored(stand: Stand, fault: str) -> None:
    attempt(stand, fault)


def test_problems_that_were_half_written_are_written_to_the_end(stand: Stand) -> None:
    """The same command said "Directory not empty", with a traceback, before it looked what was there."""
    reference, out = stand.reference(SMALL), stand.fresh()
    kill = Injection(call="rename", match=r"00-problems/part-\d+\.unfinished$", when="after", do="kill", k=3)
    assert settled(SMALL, run(SMALL, out, injection=kill), out, reference).words.startswith("killed; ")


def test_the_oracle_sees_what_it_is_there_for(stand: Stand) -> None:
    """Every kind of damage that must not go unseen, done to a finished run."""
    import pyarrow.parquet as pq

    for number, pattern in enumerate(("samples", "verdicts", "rows", "picks")):
        out = stand.begun(SMALL, "")
        file = sorted(out.glob(f"round-01/*/part-*/{pattern}.parquet"))[0]
        table = pq.read_table(file)
        pq.write_table(
            table.slice(0, table.num_rows - 1) if number % 2 else table.take([*range(table.num_rows), 0]), file
        )
        found = oracle.wrong(out, stand.reference(SMALL))
        assert any("is not what its manifest says" in each for each in found), found
        assert any(each.startswith(f"{pattern}: ") for each in found), found
    out = stand.begun(SMALL, "")
    before = oracle.done_files(out)
    file = sorted(out.glob("round-01/*/part-*/samples.parquet"))[0]
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    assert [each for each in oracle.redone(before, out) if "was written again" in each]
    with (out / "events.jsonl").open("a") as lines:
        lines.write('{"round": 1, "sta')
    assert [each for each in oracle.wrong(out) if each.startswith(oracle.UNREADABLE)]
    (out / "round-01" / "00-generate" / "stage.json").unlink()
    assert "round-01/00-generate is not done" in oracle.wrong(out)


def test_a_sabotaged_resume_is_caught(stand: Stand) -> None:
    """A stage that is done again, and a fault that finds no place, count as wrong."""
    out = stand.begun(SMALL, "round-02")
    damage(sorted(out.glob("round-01/01-verify/part-*/verdicts.parquet"))[0], "a bit flipped")
    with pytest.raises(Wrong, match=r"does not finish: 2 .*verdicts\.parquet is damaged"):
        resumed(SMALL, out, reference=stand.reference(SMALL))
    nothing = Injection(call="rename", match="no such file", do="kill")
    with pytest.raises(Wrong, match="nothing was disturbed"):
        run(SMALL, stand.begun(SMALL, ""), injection=nothing)


@pytest.mark.parametrize(
    ("code", "said", "trouble"),
    [
        (1, "error: no disk\nerror: no disk", "1 and 2 such lines"),
        (1, "no disk", "1 and 0 such lines"),
        (1, "interrupted; the same command goes on", "1 and 1 such lines"),
        (0, "error: no disk", "0 and 1 such lines"),
        (0, "Traceback (most recent call last):", "a traceback"),
        (-signal.SIGKILL, "error: no disk", "and 1 such lines"),
        (-signal.SIGTERM, "", "exit code -15"),
        (130, "", "130 and 0 such lines"),
        (70, "error: no disk", "exit code 70"),
    ],
)
def test_an_end_without_order_is_caught(code: int, said: str, trouble: str) -> None:
    with pytest.raises(Wrong, match=trouble):
        clear(Ended(code, "", f"warning: all is well\n{said}\n"))


def ends(code: int) -> Callable[[Stand], Came]:
    """An attempt that comes to this."""
    return lambda stand: Came(code, "")


def test_an_end_that_is_not_the_promised_one_is_caught(stand: Stand) -> None:
    for ended, promised in ((1, "0"), (3, "0"), (130, "0")):
        with pytest.raises(Wrong, match=f"exit code {ended}, where {promised} is promised"):
            Case("SIGKILL of the worker", "", "nano", ends(ended)).tried(stand)
    with pytest.raises(Wrong, match="exit code 2, where 1 or 3 is promised"):
        Case("disk full", "", "small", ends(2), (1, 3)).tried(stand)


def test_there_are_two_hundred_faults_each_with_a_name_of_its_own() -> None:
    cases = every_case()
    assert len(cases) >= 200
    names = [(case.fault, case.point, case.run) for case in cases]
    assert len(set(names)) == len(names)
    assert all(case.right for case in cases)
    assert {case.run for case in cases} >= {"small", "nano", "server"}
    assert [case[:3] for case in every_case()] == [case[:3] for case in cases]
    assert Path(__file__).with_name("oracle.py").read_text().count("selftrain") == 0
