"""Whatever is typed, written or said: one line says what to change, or it works; no traceback, hang or stray file.

`make fuzz` tries more of it: SELFTRAIN_FUZZ is how many examples each test takes.
"""

import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from selftrain.backends.arguments import lora_types, trl_types
from selftrain.cli import COMMANDS
from selftrain.errors import UserError
from selftrain.loop import config
from selftrain.loop.runfile import RunFile
from selftrain.records import Problem
from selftrain.testing import FakeBackends, fake_run
from selftrain.verification.audit import read_labelled
from selftrain.verification.verify import load_verifier
from selftrain.verification.verify_file import read_responses
from tests.front_door import Answer, call
from tests.input.kinds import listing
from tests.input.test_bad_data import GOOD, ROWS, TABLE
from tests.report.made import make_run

EXAMPLES = int(os.environ.get("SELFTRAIN_FUZZ", "0"))
PATIENCE = 60
"""Seconds after which a command counts as hanging."""
USUAL = settings(
    deadline=None,
    derandomize=not EXAMPLES,
    # Commands take too long for a failing one to be made smaller.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def tried(short: int) -> settings:
    """So many examples in the fast tests."""
    return settings(USUAL, max_examples=max(short, EXAMPLES))


@contextmanager
def hurried() -> Iterator[None]:
    """End what hangs."""

    def late(number: int, frame: Any) -> None:
        raise TimeoutError(f"it hung for {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def behaved(*words: object) -> Answer:
    """Run a command, which works or is refused by one line."""
    with hurried():
        answer = call(*words)
    said = answer.out + answer.err
    assert "Traceback" not in said, said
    assert "this is a bug" not in said, said
    if answer.code == 2:
        assert len([line for line in answer.err.splitlines() if line.startswith("error: ")]) == 1, answer
    else:
        assert answer.code in (0, 3), answer
    return answer


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to type commands in; what lies beside it must stay as it is."""
    folder = tmp_path / "place"
    folder.mkdir()
    (tmp_path / "beside").write_text("as it was")
    monkeypatch.chdir(folder)
    return folder


WORDS = st.sampled_from(
    [
        *(
            "",
            "none",
            "nan",
            "-1",
            "0",
            "1e400",
            "..",
            "../x",
            "/",
            "~",
            "~x",
            "x.py",
            "./x.jsonl",
            "{",
            "*",
            "&a",
            "!!x",
        ),
        *("a=b", "\0", "\u202e", "\x1b[2J", "best", "policy", "number", "sums", "nano", "rest_em", "2001-99-99"),
        *("9" * 5000, "x" * 300, "&a [*a]", "0x" + "f" * 5000, "1:61", "\ud800"),
    ]
)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 9),
    st.floats(),
    WORDS,
    # A slash could be a hub's model or data set, which would be asked for.
    st.text(max_size=12).filter(lambda text: "/" not in text and ":" not in text),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | WORDS, inner, max_size=3),
    max_leaves=6,
)
RECIPE = config.load("rest_em", {}).recipe
FIELDS = [f"{stage.name}.{name}" for stage in RECIPE.given() for name in stage.__dataclass_fields__]
KEYS = st.one_of(
    st.sampled_from([name for name in RunFile.model_fields if name != "model"]),
    st.sampled_from([stage.name for stage in RECIPE.given()]),
    st.sampled_from(FIELDS),
    st.sampled_from(sorted(trl_types())),
    st.sampled_from([f"train.lora.{name}" for name in sorted(lora_types())]),
    st.sampled_from(
        ["sampler.kind", "sampler.dtype", "prompt.examples", "data.max_terms", "model.policy", "train.loss.x"]
    ),
    st.text(max_size=8),
)
SMALL = {"recipe": "rest_em", "model": "nano", "data": "sums", "pool": 4, "valid": 2, "test": 2}


@given(changes=st.dictionaries(KEYS, VALUES, max_size=3))
@tried(40)
def test_run_files(changes: dict[str, Any], place: Path) -> None:
    (place / "run.yaml").write_text(yaml.dump({**SMALL, **changes}), errors="replace")
    before = listing(place.parent)
    behaved("run", "run.yaml", "--dry-run")
    assert listing(place.parent) == before


@given(text=st.text() | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
@tried(20)
def test_texts_as_run_files(text: str, place: Path) -> None:
    (place / "run.yaml").write_text(text, encoding="utf-8", errors="replace")
    behaved("run", "run.yaml", "--dry-run")


@given(key=KEYS, value=st.text() | WORDS)
@tried(40)
def test_settings_as_words(key: str, value: str, place: Path) -> None:
    behaved("run", "rest_em", "model=nano", "pool=4", "valid=2", "test=2", f"{key}={value}", "--dry-run")
    assert listing(place.parent).keys() == {"place", "beside"}


def damaged(content: bytes, stream: random.Random) -> bytes:
    """Bytes with some of them changed, taken out, doubled or cut off."""
    found = bytearray(content)
    for _ in range(stream.randint(1, 4)):
        at, length = stream.randrange(len(found) + 1), stream.choice((1, 1, 2, 8, 64))
        kind = stream.randrange(4)
        if kind == 0:
            found[at : at + length] = stream.randbytes(length)
        elif kind == 1:
            del found[at : at + length]
        elif kind == 2:
            found[at:at] = found[at : at + length] * 2
        else:
            del found[at:]
    return bytes(found)


@given(seed=st.integers(0, 2**32), kind=st.sampled_from([("a.jsonl", ROWS), ("a.csv", TABLE), ("a.parquet", GOOD)]))
@tried(60)
def test_damaged_data_files(seed: int, kind: tuple[str, str | bytes], place: Path) -> None:
    name, content = kind
    whole = content if isinstance(content, bytes) else content.encode()
    (place / name).write_bytes(damaged(whole, random.Random(seed)))
    columns = ("data.prompt=question", "data.answer=gold")
    behaved("run", "rest_em", "model=nano", "pool=4", "valid=2", "test=2", f"data=./{name}", *columns, "--dry-run")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["id", "prompt", "response", "answer", "tests", "meta", "choices", "solution", "verifier", "label"]
)


@given(rows=st.lists(st.dictionaries(NAMES, JSON | st.text(), max_size=6), max_size=12))
@tried(25)
def test_rows_of_data_and_of_responses(rows: list[dict[str, Any]], place: Path) -> None:
    (place / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    behaved("run", "rest_em", "model=nano", "pool=2", "valid=1", "test=1", "data=./a.jsonl", "--dry-run")
    for read in (read_responses, read_labelled):
        with hurried(), suppress(UserError):
            list(read(place / "a.jsonl"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run", rounds=1)


LOOKING = [("status", "run"), ("status", "run", "--json"), ("explain", "run", "x"), ("gc", "run"), ("runs", ".")]
LOOKING += [
    ("diff", "run", "run"),
    ("fork", "run", "--from-round", "0", "--out", "new"),
    ("export", "run", "--to", "new"),
]


@given(seed=st.integers(0, 2**32), command=st.sampled_from(LOOKING))
@tried(15)
def test_damaged_runs(seed: int, command: tuple[str, ...], place: Path, made: Path) -> None:
    stream = random.Random(seed)
    for old in ("run", "new"):
        shutil.rmtree(place / old, ignore_errors=True)
    shutil.copytree(made, place / "run")
    victim = stream.choice(sorted(path for path in (place / "run").rglob("*") if path.is_file()))
    if victim.suffix == ".json" and stream.random() < 0.5:
        victim.write_text(
            json.dumps(stream.choice([None, [], {}, 3, "x", {"@": "os:system"}, {"stages": [{"@": "x"}]}]))
        )
    else:
        victim.write_bytes(damaged(victim.read_bytes(), stream))
    behaved(*command)
    assert {path.name for path in place.parent.iterdir()} == {"place", "beside"}


@given(text=st.text(max_size=200))
@tried(2)
def test_a_run_of_whatever_a_model_says(text: str, place: Path) -> None:
    shutil.rmtree(place / "run", ignore_errors=True)
    job = config.load("rest_em", {"model": "nano", "rounds": 1, "samples": 2, "evaluate.samples": 1})
    said = "".join(char for char in text if char != "\0")
    with hurried():
        fake_run(job.recipe, place / "run", backends=FakeBackends(lambda prompt, skill, stream: said))
    (place / "run/run.yaml").write_text(f"format: 1\n{yaml.safe_dump(job.as_file())}")
    behaved("status", "run")
    if EXAMPLES:
        behaved("report", "run")


ALONE = ["number", "exact", "choice", "countdown", "regex", "json_schema", "instructions"]
PROBLEM = {"countdown": {"numbers": [1, 2, 3], "target": 6}}


@given(text=st.text(), answer=st.text(max_size=20), name=st.sampled_from(ALONE))
@tried(100)
def test_a_verdict_on_whatever_a_model_says(text: str, answer: str, name: str) -> None:
    spec = json.dumps({"name": "regex", "pattern": ".*"}) if name == "regex" else name
    verifier = load_verifier(spec)
    problem = Problem.of("What?", answer=answer, verifier=name, meta=PROBLEM.get(name, {}))
    with hurried():
        assert verifier.judge(problem=problem, response=text).status in ("pass", "fail", "error", "abstain", "scored")


FREE = [name for name in COMMANDS if name not in ("run", "eval", "verify", "audit", "reverify", "report", "compare")]
OPTIONS = [
    "--json",
    "--out",
    "--to",
    "--round",
    "--keep",
    "--from-round",
    "--yes",
    "--model",
    "--dtype",
    "--in",
    "--adapter",
]


@given(
    command=st.sampled_from(FREE), words=st.lists(st.sampled_from(OPTIONS) | WORDS | st.text(max_size=9), max_size=5)
)
@tried(60)
def test_command_lines(command: str, words: list[str], place: Path) -> None:
    typed = [word for word in words if "\0" not in word and "/" not in word and word not in ("..", "~", "~x")]
    answer = behaved(command, *typed)
    assert answer.code in (0, 2)
    assert {path.name for path in place.parent.iterdir()} == {"place", "beside"}
