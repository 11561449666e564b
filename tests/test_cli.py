"""The commands: what they print, what they leave, and their exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain import plugins
from selftrain.cli.console import visible
from tests.front_door import call, refused

SMALL = ("model=nano", "data=sums", "pool=4", "valid=2", "test=2", "samples=1", "max_new_tokens=8", "rounds=1")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_dry_run_prints_the_plan_and_writes_nothing() -> None:
    answer = call("run", "rest_em", *SMALL, "--dry-run")
    assert answer.code == 0
    assert answer.err == ""
    said = {line.split()[0]: line for line in answer.out.splitlines() if line.strip()}
    assert {"recipe", "model", "data", "sampler", "labels", "words", "rounds", "engine", "estimate"} <= said.keys()
    assert "start: base" in said["words"]
    assert "4 train, 2 valid, 2 test" in said["data"]
    assert "barriers a round" in said["engine"]
    assert "weight swaps" in said["engine"]
    assert "tokens" in said["estimate"]
    assert "of disk" in said["estimate"]
    for stage in ("generate", "verify", "select", "build", "train", "evaluate", "gate"):
        assert re.search(rf"^  . {stage}\b", answer.out, re.MULTILINE)
    assert "[valid+test]" in answer.out
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(("what", "kind"), [("recipes", "recipe"), ("verifiers", "verifier"), ("data", "data")])
def test_lists_name_every_plug_in_with_its_headline(what: str, kind: str) -> None:
    answer = call("list", what, "--json")
    listed = json.loads(answer.out)
    assert answer.code == 0
    assert set(listed) == set(plugins.available(kind))
    assert all(isinstance(text, str) and text for text in listed.values())
    plain = call("list", what)
    assert all(name in plain.out for name in listed)


def test_help_and_no_command() -> None:
    assert call("--help").code == 0
    assert "Launch a self-training run" in call("run", "--help").out
    assert call().code == 2


def copied(folder: Path, count: int) -> Path:
    """A file of problems in people's words, and an exam of the same ones in other letters."""
    things = ["apples", "boats", "cats", "doors", "eggs", "flags", "goats", "hats"]
    rows = [
        {"id": f"r{n}", "prompt": f"How many {things[n % 8]} are {n} and {n * 3} {things[n % 8]}?", "answer": n * 4}
        for n in range(count)
    ]
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "exam.jsonl").write_text(
        "".join(
            json.dumps({**row, "id": f"e{n}", "prompt": f"  {row['prompt']} ".upper()}) + "\n"
            for n, row in enumerate(rows)
        )
    )
    return path


def test_contamination_blocks_with_code_3_and_names_the_pairs(tmp_path: Path) -> None:
    copied(tmp_path, 12)
    given = ("run", "rest_em", *SMALL, "data=./mine.jsonl", "eval=./exam.jsonl", "pool=8", "--dry-run")
    answer = call(*given)
    assert answer.code == 3, answer
    assert "train problems are (nearly) in the held-out splits" in answer.err
    assert len(answer.err.splitlines()) == 1
    warned = call(*given, "contamination=warn")
    assert warned.code == 0
    assert warned.err.startswith("warning: ")
    # The file alone shares nothing between its splits.
    assert call("run", "rest_em", *SMALL, "data=./mine.jsonl", "pool=8", "--dry-run").code == 0


def test_verify_writes_verdicts_and_ends_with_the_summary(tmp_path: Path) -> None:
    rows = [{"id": str(n), "response": f"so {n % 2}", "answer": "1"} for n in range(6)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = call("verify", "number", "--in", "in.jsonl", "--out", "out.jsonl", "--json")
    assert answer.code == 0, answer.err
    summary = json.loads(answer.out.splitlines()[-1])
    assert summary["rows"] == 6
    verdicts = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [v["status"] for v in verdicts] == ["fail", "pass"] * 3


LISTEN = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def test_a_run_that_is_interrupted_ends_with_130_and_goes_on(tmp_path: Path) -> None:
    """Ctrl-C in a real process; status says where it stands, and the same command goes on to the limit."""
    command = [sys.executable, "-m", "selftrain.cli", "run", "rest_em", *SMALL, "--out", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    # A job in the background of a shell without job control is started with the signal ignored, and hands that on.
    command = [sys.executable, "-c", LISTEN, *command]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 240
        while not (tmp_path / "run/round-00/00-problems/stage.json").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert "the same command goes on where this one stopped" in err
    assert "Traceback" not in out + err

    seen = json.loads(call("status", "run", "--json").out)
    assert seen["best"] == 0
    assert seen["rounds"][0]["stages"]["problems"]["done"] is True
    stored = (tmp_path / "run/round-00/00-problems").rglob("*.parquet")
    before = {path: path.read_bytes() for path in stored}

    answer = call("run", "rest_em", *SMALL, "--out", "run", "--max-tokens", "1")
    assert answer.code == 0, answer
    assert "stopped: --max-tokens 1 reached" in answer.out
    assert {path: path.read_bytes() for path in before} == before
    table = call("status", "run")
    assert table.code == 0
    assert "base" in table.out
    assert "has no round 3" in refused("export", "run", "--to", "x", "--round", "3")


def test_doctor_says_a_line_for_each_thing_without_markup() -> None:
    answer = call("doctor")
    lines = answer.out.splitlines()
    assert all(re.match(r"(ok|warn|fail) +\S", line) for line in lines), answer.out
    assert {"python", "torch", "bubblewrap", "seccomp"} <= {line.split()[1] for line in lines}


@given(text=st.text())
def test_no_text_moves_the_cursor_or_turns_the_line(text: str) -> None:
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t\u200c\u200d"]
    assert visible(shown) == shown
    if text.isascii() and text.isprintable():
        assert shown == text


def test_an_escape_sequence_in_a_data_file_is_shown_not_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2Jb.jsonl"
    path.write_text("{")
    said = refused("run", "rest_em", "model=nano", "--data", path)
    assert "\\x1b[2J" in said
    assert "\x1b" not in said


def test_want_of_memory_is_one_line_and_not_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise MemoryError

    monkeypatch.setattr("selftrain.loop.launch.prepare", fail)
    answer = call("run", "rest_em", *SMALL, "--dry-run")
    assert answer.code == 1
    assert re.fullmatch(r"error: there is not enough memory; .*same command again\n", answer.err)
