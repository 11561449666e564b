"""Each monitor on made-up tables: its value is known, it alarms on its fault, and says where it lacks the data."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain import monitors, statistics
from selftrain.errors import StoreError
from selftrain.monitors import Reading, about, alarms, available, measured, read
from selftrain.observed import Observed
from selftrain.records import Sample
from selftrain.statistics import of_sums, quotient
from tests.front_door import call
from tests.monitors.cases import CASES, half
from tests.monitors.further import FURTHER
from tests.monitors.made import Made

MONITORS = available()
Readings = Callable[..., tuple[Reading, ...]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Readings:
    """What a monitor reads in its case's run, made once."""

    @cache
    def readings(name: str, faulty: bool, shuffle: int = 0) -> tuple[Reading, ...]:
        run = Made(tmp_path_factory.mktemp(name) / "run", shuffle)
        CASES[name].make(run, faulty)
        return tuple(run.read(name))

    return readings


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """A run that has begun: it has its problems and nothing else."""
    return Observed(Made(tmp_path_factory.mktemp("empty") / "run").store)


def check(name: str, found: Sequence[Reading], *, faulty: bool) -> None:
    """Check what is known of a monitor's case."""
    case = CASES[name]
    (known,) = [each for each in found if (each.name, each.round) == (case.name, case.round)]
    assert known.value == pytest.approx(case.faulty if faulty else case.healthy)
    assert known.monitor == name
    assert bool(alarms(found)) is faulty, found


def test_every_monitor_has_a_case() -> None:
    assert set(CASES) == set(MONITORS)
    folder = Path(monitors.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(MONITORS)


@pytest.mark.parametrize("name", MONITORS)
def test_it_names_its_source(name: str) -> None:
    text = (Path(monitors.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    assert "arXiv:" in text.split('"""')[1]
    assert json.loads(call("list", "monitors", "--json").out)[name] == about(name)
    assert about(name).endswith(".")


@pytest.mark.parametrize("name", MONITORS)
def test_it_is_quiet_on_a_healthy_run(name: str, made: Readings) -> None:
    check(name, made(name, False), faulty=False)


@pytest.mark.parametrize("name", MONITORS)
def test_it_alarms_on_its_fault_and_says_what_to_do(name: str, made: Readings) -> None:
    found = made(name, True)
    check(name, found, faulty=True)
    for each in alarms(found):
        met, _, advice = (each.alarm or "").rpartition(": ")
        assert len(advice) > 10, each.alarm
        assert any(char.isdigit() for char in met), each.alarm
        assert "\n" not in (each.alarm or "")


@pytest.mark.parametrize("name", MONITORS)
def test_a_run_that_is_otherwise_is_noticed(name: str, made: Readings) -> None:
    """The two checks above fail where the fault is there, or isn't."""
    for faulty in (True, False):
        with pytest.raises(AssertionError):
            check(name, made(name, not faulty), faulty=faulty)


@pytest.mark.parametrize("name", MONITORS)
def test_its_values_lie_in_their_intervals(name: str, made: Readings) -> None:
    for each in made(name, True):
        if each.value is not None and each.low is not None and each.high is not None:
            assert each.low <= each.value <= each.high, each


@pytest.mark.parametrize("name", MONITORS)
def test_without_its_data_it_says_so(name: str, empty: Observed) -> None:
    found = measured(empty, [name])
    assert not alarms(found)
    # Whether a train problem is held out can be told of problems alone.
    unknown = [each for each in found if each.name != "train problems that are held out"]
    assert unknown
    for each in unknown:
        assert each.value is None
        assert each.note.startswith("not applicable: ")


@pytest.mark.parametrize("name", MONITORS)
def test_where_a_record_lies_does_not_matter(name: str, made: Readings) -> None:
    one, other = made(name, True), made(name, True, 5)
    assert [_plain(each) for each in one] == [_plain(each) for each in other]


def test_a_sabotaged_order_is_noticed(tmp_path: Path, made: Readings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals that follow the order of shards would fail the test above."""
    draw = np.random.default_rng(0)

    def shuffled(columns: Sequence[np.typing.ArrayLike], of: object) -> statistics.Estimate:
        order = draw.permutation(len(np.asarray(columns[0])))
        return of_sums([np.asarray(each)[order] for each in columns], quotient)

    monkeypatch.setattr("selftrain.observed.statistics.of_sums", shuffled)
    run = Made(tmp_path / "run", 5)
    CASES["forgetting"].make(run, True)
    assert [_plain(each) for each in run.read("forgetting")] != [_plain(each) for each in made("forgetting", True)]


@pytest.mark.parametrize("name", FURTHER)
def test_its_further_alarms(name: str, tmp_path: Path) -> None:
    monitor, make, words = FURTHER[name]
    for faulty in (False, True):
        run = Made(tmp_path / f"{faulty}")
        make(run, faulty)
        said = [each.alarm or "" for each in alarms(run.read(monitor))]
        assert any(words in each for each in said) is faulty, said


def test_few_problems_do_not_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.monitors.made.PROBLEMS", monitors.FEWEST - 1)
    run = Made(tmp_path / "run")
    CASES["length"].make(run, True)
    assert not alarms(run.read("length"))


def test_an_unfinished_stage_does_not_count(tmp_path: Path) -> None:
    run = Made(tmp_path / "run")
    CASES["length"].make(run, True)
    (run.store.stages(2)["generate"].path / "stage.json").unlink()
    assert {each.round for each in run.read("length") if each.value is not None} == {1}


def test_a_gate_sees_what_is_before_it_and_no_test_split(tmp_path: Path) -> None:
    run = Made(tmp_path / "run")
    for split in ("train", "valid", "test"):
        run.sampled(1, half, split=split, name=f"generate-{split}")
    run.sampled(2, half)
    everything, before = Observed(run.store), Observed(run.store, before=(1, 4))
    query = "SELECT split, round, count(*) AS n FROM attempts GROUP BY ALL ORDER BY ALL"

    def counted(seen: Observed) -> list[tuple[str, int]]:
        found = seen.query(query)
        return list(zip(map(str, found["split"]), map(int, found["round"]), strict=True))

    assert ("test", 1) in counted(everything)
    assert counted(before) == [("train", 1), ("valid", 1)]
    assert len(Observed(run.store, before=(1, 1)).query("SELECT * FROM truth")["sample"]) == 0


def test_status_shows_alarms_and_all_readings(tmp_path: Path) -> None:
    run = Made(tmp_path / "run")
    CASES["length"].make(run, True)
    answer = call("status", run.root)
    assert answer.code == 0, answer
    (line,) = [line for line in answer.out.splitlines() if line.startswith("alarm")]
    assert "length" in line
    assert "(round 2)" in line
    assert "20 tokens" in line
    assert "control length" in line
    said = json.loads(call("status", run.root, "--json").out)["monitors"]
    assert {each["monitor"] for each in said} == set(MONITORS)
    assert [each["alarm"] for each in said if each["alarm"]]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run"):
        read(tmp_path)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=60))
def test_a_quotient_of_sums_lies_in_its_interval(parts: list[tuple[int, int]]) -> None:
    part, whole = zip(*parts, strict=True)
    found = of_sums([part, whole], quotient)
    assert found.value == pytest.approx(sum(part) / sum(whole))
    assert found.low <= found.value <= found.high
    assert found.n == len(parts)
    again = of_sums([np.asarray(part) * 3, np.asarray(whole) * 3], quotient)
    assert again.low == pytest.approx(found.low)


def test_its_interval_is_the_bootstraps() -> None:
    values = [1.0] * 30 + [0.0] * 70
    here, there = of_sums([values, np.ones(100)], quotient), statistics.mean(values)
    assert (here.low, here.high) == pytest.approx((there.low, there.high), abs=0.02)
    # Blocks of problems say the same of many.
    many = of_sums([values * 100, np.ones(10_000)], quotient)
    wide = statistics.mean(values * 100)
    assert (many.low, many.high) == pytest.approx((wide.low, wide.high), abs=0.002)


def test_nothing_is_nan() -> None:
    assert np.isnan(of_sums([[], []], quotient).value)
    assert np.isnan(of_sums([[1.0], [0.0]], quotient).value)


def test_a_part_of_the_texts_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Made(tmp_path / "run")
    run.sampled(1, half)
    monkeypatch.setattr("selftrain.observed.SHOWN", 20)
    seen = Observed(run.store)
    found = seen.query("SELECT count(*) AS n, count(ids) AS shown FROM attempts")
    assert (int(found["n"][0]), 5 <= int(found["shown"][0]) <= 50) == (160, True)
    assert run.store.stages(1)["generate"].count(Sample) == 160
    assert measured(seen, ["degeneration"])


def _plain(each: Reading) -> tuple[object, ...]:
    numbers = [None if value is None else round(value, 9) for value in (each.value, each.low, each.high)]
    return (each.name, each.round, *numbers, each.alarm, each.note)


def test_the_page_lists_every_monitor() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitors.md").read_text(encoding="utf-8")
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")] == list(MONITORS)
