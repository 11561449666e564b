"""`selftrain reverify`: a run's stored samples, judged again, and the run left as it is."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from selftrain.records import Problem, Sample, Status, Verdict
from selftrain.round import PROBLEMS
from selftrain.store import Store
from selftrain.verification.reverify import reverify
from tests.front_door import call, refused

PROBLEM = [Problem.of(f"What is {n}+1?", answer=str(n + 1), verifier="number", split="train") for n in range(4)]
HELD_OUT = [replace(Problem.of(f"What is 9+{n}?", answer=str(n + 9)), split="test") for n in range(2)]


def sample(id: str, problem: Problem, text: str) -> Sample:
    return Sample(
        id=id,
        problem=problem.id,
        index=0,
        text=text,
        prompt_ids=(1,),
        completion_ids=(2,),
        tokenizer="t",
        finish="stop",
        model="m",
    )


def verdicts(samples: Sequence[Sample], *statuses: Status) -> list[Verdict]:
    return [Verdict(sample=s.id, by="old", status=status) for s, status in zip(samples, statuses, strict=True)]


def laid_out(root: Path) -> Store:
    """Two rounds: one done, with a problem that a stage has made; one whose second shard is still being written."""
    store = Store(root)
    root.mkdir(parents=True)
    (root / "run.yaml").write_text("format: 1\nrecipe: star\n")
    problems = store.stage(0, 0, PROBLEMS)
    problems.write(0, {Problem: PROBLEM})
    problems.write(1, {Problem: HELD_OUT})
    # numbers say: right, right, wrong, wrong
    first = [sample(f"a{n}", PROBLEM[n], f"#### {n + 1 + (n > 1)}") for n in range(4)]
    made = Problem.of("And then?", answer="5", kind="followup", parent=PROBLEM[0].id)
    store.stage(1, 0, "propose").write(0, {Problem: [made]})
    store.stage(1, 1, "generate").write(0, {Sample: [*first, sample("b", made, "5")]})
    store.stage(1, 2, "verify").write(0, {Verdict: verdicts(first, "pass", "fail", "pass", "fail")})
    store.stage(1, 3, "audit").write(0, {Verdict: verdicts(first[:1], "error")})
    measured = [sample(f"c{n}", HELD_OUT[n], f"{n + 9}") for n in range(2)]
    store.stage(1, 4, "evaluate").write(1, {Sample: measured})
    store.stage(2, 1, "generate").write(0, {Sample: [replace(first[0], id="d")]})
    unfinished = store.stage(2, 1, "generate").path / "part-00001.unfinished"
    unfinished.mkdir()
    (unfinished / "samples.parquet").write_bytes(b"half of it")
    return store


def hashes(root: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "", path.stat().st_mtime_ns)
        for path in sorted([root, *root.rglob("*")])
    }


def test_stored_samples_are_judged_again_and_compared_by_round_stage_split_and_judge(tmp_path: Path) -> None:
    root = laid_out(tmp_path / "run").root
    found = reverify(root, "number")
    assert found.counts == {"pass": 6, "fail": 2}
    by_place = {tuple(each.place): each for each in found.compared}
    assert set(by_place) == {
        (1, "generate", "train", "verify"),
        (1, "generate", "train", "audit"),
        (1, "generate", "train", ""),
        (1, "evaluate", "test", ""),
        (2, "generate", "train", ""),
    }
    judged = by_place[1, "generate", "train", "verify"]
    assert (dict(judged.before), dict(judged.after)) == ({"pass": 2, "fail": 2}, {"pass": 2, "fail": 2})
    assert judged.same == 2
    assert dict(judged.changes) == {("fail", "pass"): 1, ("pass", "fail"): 1}
    before, after, gain = judged.rate(0), judged.rate(1), judged.gain()
    assert before is not None
    assert after is not None
    assert gain is not None
    assert (before.value, after.value, gain.value) == (0.5, 0.5, 0.0)
    assert gain.low < 0 < gain.high
    audited = by_place[1, "generate", "train", "audit"]
    assert (dict(audited.changes), audited.rate(0), audited.gain()) == ({("error", "pass"): 1}, None, None)


def test_a_run_is_only_read_and_may_go_on_meanwhile(tmp_path: Path) -> None:
    store = laid_out(tmp_path / "run")
    with store.lock():
        before = hashes(store.root)
        reverify(store.root, "number", out=tmp_path / "out.parquet")
        assert hashes(store.root) == before


def test_all_verdicts_go_to_a_file(tmp_path: Path) -> None:
    root = laid_out(tmp_path / "run").root
    reverify(root, "number", out=tmp_path / "out.parquet")
    reverify(root, "number", out=tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    for row in (*lines, *rows):
        row.pop("seconds")
    assert lines == rows
    assert [(row["round"], row["stage"], row["sample"]) for row in rows[3:]] == [
        (1, "generate", "a3"),
        (1, "generate", "b"),
        (1, "evaluate", "c0"),
        (1, "evaluate", "c1"),
        (2, "generate", "d"),
    ]
    assert rows[0]["by"] == "number"
    assert rows[0]["answer"] == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.parquet", "run"]


def test_one_round_alone(tmp_path: Path) -> None:
    root = laid_out(tmp_path / "run").root
    assert reverify(root, "number", round=2).counts == {"pass": 1}
    assert reverify(root, "number", round=0).counts == {}


def test_errors_are_named_and_are_no_fails(tmp_path: Path) -> None:
    root = laid_out(tmp_path / "run").root
    broken = tmp_path / "broken.py"
    broken.write_text("def verify(*, problem, response): return 1 / 0")
    found = reverify(root, str(broken), round=1)
    assert found.counts == {"error": 7}
    assert found.first["error"].startswith("a0: ZeroDivisionError")
    (verify,) = (each for each in found.compared if each.place.judge == "verify")
    assert (verify.rate(1), verify.same) == (None, 0)


def test_the_command(tmp_path: Path) -> None:
    root = laid_out(tmp_path / "run").root
    answer = call("reverify", root, "--with", "number", "--round", 1)
    assert answer.code == 0, answer
    lines = answer.out.splitlines()
    assert lines[0] == "round 1 generate, train: 4 samples, judged by verify"
    assert lines[1].startswith("  before  pass rate 50.0 % (")
    assert lines[1].endswith(" 2 pass, 2 fail")
    assert lines[3].split()[:3] == ["same", "50.0", "%"]
    assert lines[4] == "  changed fail -> pass 1, pass -> fail 1"
    assert lines[-1].startswith("number: 7 samples in ")
    assert max(map(len, lines)) <= 80
    told = json.loads(call("reverify", root, "--with", "number", "--json").out)
    assert told["counts"] == {"pass": 6, "fail": 2}
    assert told["places"][0]["pass_rate_before"]["value"] == 0.5


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    root = laid_out(tmp_path / "run").root
    assert "is no run of selftrain" in refused("reverify", tmp_path, "--with", "number")
    assert "has no round 7; it has 0, 1, 2" in refused("reverify", root, "--with", "number", "--round", 7)
    assert "did you mean number" in refused("reverify", root, "--with", "nummber")
    assert "must end in .jsonl or .parquet" in refused("reverify", root, "--with", "number", "--out", "x.csv")
    inside = root / "round-01" / "new.jsonl"
    assert "lies in the run's folder" in refused("reverify", root, "--with", "number", "--out", inside)
    for name in ("x.jsonl", "x.parquet"):
        missing = tmp_path / "none" / name
        assert "can't be written" in refused("reverify", root, "--with", "number", "--out", missing)
    stray = sample("e", Problem.of("Who?"), "me")
    Store(root).stage(2, 2, "late").write(0, {Sample: [stray]})
    assert "which no stage has stored" in refused("reverify", root, "--with", "number")
