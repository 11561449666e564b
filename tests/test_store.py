"""A run on disk: what is there is whole, and nothing half-written is ever seen."""

import json
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from selftrain import store as stores
from selftrain import tables
from selftrain.errors import StoreError
from selftrain.records import Metric, Pick, Row
from selftrain.store import StageFolder, Store, differences, write_text


def pick(number: int) -> Pick:
    return Pick(sample=f"s{number}", problem="p", side="kept", rule="passed", weight=float(number))


class Killed(BaseException):
    """Stands for a kill in the middle of a write."""


class StoreMachine(RuleBasedStateMachine):
    """Any order of writes, kills at any step of a write, and re-opening; the model is a plain dict."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.root = Path(tempfile.mkdtemp(prefix="store-"))
        self.whole: dict[int, list[Pick]] = {}
        self.bytes: dict[int, bytes] = {}
        self.folder = self.opened()

    def opened(self) -> StageFolder:
        folder = Store(self.root).stage(1, 3, "select")
        folder.begin({"settings": {"n": 1}})
        return folder

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @rule(shard=st.integers(0, 5), numbers=st.lists(st.integers(0, 99), max_size=4))
    def write(self, shard: int, numbers: list[int]) -> None:
        if shard in self.whole:
            return
        rows = [pick(n) for n in numbers]
        assert self.folder.write(shard, {Pick: rows, Metric: []}) == {"picks": len(rows), "metrics": 0}
        self.whole[shard] = rows
        self.bytes[shard] = self.folder.file(Pick, shard).read_bytes()

    @rule(shard=st.integers(0, 5), numbers=st.lists(st.integers(0, 99), max_size=4), step=st.integers(0, 4))
    def killed_while_writing(self, shard: int, numbers: list[int], step: int) -> None:
        if shard in self.whole:
            return
        calls = 0
        fsync, write = stores._fsync, tables.write

        def dies(then: Callable[..., Any]) -> Callable[..., Any]:
            def step_of_it(*arguments: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls > step:
                    raise Killed
                return then(*arguments)

            return step_of_it

        stores._fsync, tables.write = dies(fsync), dies(write)
        try:
            self.folder.write(shard, {Pick: [pick(n) for n in numbers], Metric: []})
        except Killed:
            pass
        else:
            raise AssertionError("a write has more than four steps")
        finally:
            stores._fsync, tables.write = fsync, write

    @rule(shard=st.integers(0, 5))
    def rubbish_left_by_a_kill(self, shard: int) -> None:
        if shard not in self.whole:
            left = self.folder.path / f"part-{shard:05d}.unfinished"
            left.mkdir(exist_ok=True)
            (left / "picks.parquet").write_bytes(b"PAR1 half of it")

    @rule()
    def open_again(self) -> None:
        self.folder = self.opened()
        assert not list(self.folder.path.glob("*.unfinished"))

    @invariant()
    def only_whole_shards_are_there_and_they_stay_as_they_were(self) -> None:
        assert self.folder.shards() == sorted(self.whole)
        for shard, rows in self.whole.items():
            assert self.folder.read(Pick, shard) == rows
            assert self.folder.file(Pick, shard).read_bytes() == self.bytes[shard]
        assert self.folder.count(Pick) == sum(map(len, self.whole.values()))
        everything = [each for shard in sorted(self.whole) for each in self.whole[shard]]
        assert self.folder.columns(Pick, ["sample"]).column(0).to_pylist() == [p.sample for p in everything]


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        folder = Store(tmp_path / name).stage(1, 1, "select")
        folder.begin({})
        folder.write(0, {Pick: [pick(n) for n in range(50)]})
    one, two = (next((tmp_path / name).rglob("picks.parquet")).read_bytes() for name in "ab")
    assert one == two


def test_a_stage_is_done_only_when_it_says_so(tmp_path: Path) -> None:
    folder = Store(tmp_path).stage(1, 1, "select")
    folder.begin({"a": 1})
    folder.write(0, {Pick: [pick(1)]})
    assert not folder.done()
    assert folder.summary() == {}
    folder.finish({"pick": 1})
    again = Store(tmp_path).stages(1)["select"]
    assert again.done()
    assert again.summary() == {"pick": 1}


def test_a_key_is_taken_once_and_another_is_refused_by_field(tmp_path: Path) -> None:
    folder = Store(tmp_path).stage(1, 1, "generate")
    folder.begin({"settings": {"n": 32, "stop": ("a",)}, "version": 1})
    folder.begin({"version": 1, "settings": {"stop": ["a"], "n": 32}})
    folder.write(0, {})
    with pytest.raises(StoreError, match=r"round-01/01-generate was made with other settings: n was 32, is 8;"):
        folder.begin({"settings": {"n": 8, "stop": ["a"]}, "version": 1})


def test_a_key_under_which_nothing_was_stored_gives_way(tmp_path: Path) -> None:
    """A wrong setting that ended a stage before its first shard does not stand in the way of the right one."""
    folder = Store(tmp_path).stage(1, 1, "generate")
    folder.begin({"settings": {"dtype": "wrong"}})
    (folder.path / "part-00000.unfinished").mkdir()
    folder.begin({"settings": {"dtype": "right"}})
    assert folder.settings() == {"settings": {"dtype": "right"}}
    assert [path.name for path in folder.path.iterdir()] == ["key.json"]


def test_a_link_in_a_run_leads_nobody_out_of_it(tmp_path: Path) -> None:
    store, outside = Store(tmp_path / "run"), tmp_path / "outside"
    store.root.mkdir()
    outside.write_text("mine")
    (store.root / ".lock").symlink_to(outside)
    with pytest.raises(StoreError, match="cannot write"), store.lock():
        pass
    (store.root / "report.html.unfinished").symlink_to(outside)
    write_text(store.root / "report.html", "page")
    assert outside.read_text() == "mine"
    assert (store.root / "report.html").read_text() == "page"
    (store.root / "events.jsonl").symlink_to(outside)
    with pytest.raises(StoreError, match=r"events.jsonl is a link"):
        store.append("events.jsonl", {"a": 1})
    assert outside.read_text() == "mine"


@pytest.mark.parametrize(
    ("stored", "asked", "said"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a was 1, is 2"]),
        ({"a": 1}, {}, ["a was 1, is not set"]),
        ({}, {"a": "x"}, ['a was not set, is "x"']),
        ({"settings": {"n": 1}}, {"settings": {"n": 2}}, ["n was 1, is 2"]),
        ({"sampler": {"engine": "a"}}, {"sampler": {"engine": "b"}}, ['sampler.engine was "a", is "b"']),
        ({"a": {"b": 1}}, {"a": None}, ['a was {"b": 1}, is not set']),
        ({"a": 1, "b": 2}, {"a": 3, "b": 4}, ["a was 1, is 3", "b was 2, is 4"]),
    ],
)
def test_differences_name_each_field(stored: Any, asked: Any, said: list[str]) -> None:
    assert differences(stored, asked) == said


def test_rounds_and_stages_are_listed_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number, position, name in ((2, 1, "verify"), (0, 0, "problems"), (2, 0, "generate"), (10, 0, "generate")):
        store.stage(number, position, name).begin({})
    assert store.rounds() == [0, 2, 10]
    assert list(store.stages(2)) == ["generate", "verify"]


def test_what_lies_beside_rounds_and_shards_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.stage(2, 1, "select")
    folder.begin({})
    folder.write(3, {Pick: [pick(1)]})
    for name in ("round-02.bak", "round-3", "round-04 (copy)", "round-x", "round-٣٣"):
        shutil.copytree(tmp_path / "round-02", tmp_path / name)
    for name in ("part-00003.old", "part-3", "part-00004.unfinished", "part-"):
        shutil.copytree(folder.path / "part-00003", folder.path / name)
    for stray in (tmp_path / "round-05", tmp_path / "round-02" / "02-build", folder.path / "part-00005"):
        stray.write_text("no folder")
    assert store.rounds() == [2]
    assert list(store.stages(2)) == ["select"]
    assert folder.shards() == [3]
    folder.finish({"pick": 1})
    assert folder.columns(Pick, ["sample"]).num_rows == 1
    assert Store(tmp_path / "nowhere").rounds() == []
    store.stage(100, 0, "select").begin({})
    assert store.rounds() == [2, 100]


def test_a_text_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.yaml"
    write_text(path, "first")

    def killed(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(Killed):
        write_text(path, "second, much longer")
    assert path.read_text() == "first"


HOLDS = """
import sys
from pathlib import Path
from selftrain.store import Store
with Store(Path(sys.argv[1])).lock():
    print("held", flush=True)
    input()
"""


def test_the_lock_keeps_others_out_and_ends_with_its_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match=f"in use by another run .process {other.pid}."), Store(tmp_path).lock():
            pass
        other.kill()
    with Store(tmp_path).lock():
        assert (tmp_path / ".lock").read_text() == f"process {os.getpid()}"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"thesis.tex": ""}, "is not a run of selftrain"),
        ({"run.yaml": "format: 2\n"}, "newer selftrain"),
        ({"run.yaml": "recipe: star\n"}, "run.yaml is damaged: .*write the line `format: 1`"),
        ({"run.yaml": "format: 1\nrecipe: star\n"}, None),
        ({".lock": "", "logs": ""}, None),
        ({".lock": "", "run.yaml.unfinished": "form"}, None),
        ({}, None),
    ],
)
def test_what_a_folder_holds_is_looked_at_first(tmp_path: Path, files: dict[str, str], said: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    if said is None:
        Store(tmp_path).check_format()
    else:
        with pytest.raises(StoreError, match=said):
            Store(tmp_path).check_format()


def test_lines_are_appended(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append("events.jsonl", {"a": "é"})
    store.append("events.jsonl", {"a": 2})
    assert [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()] == [
        {"a": "é"},
        {"a": 2},
    ]


def test_half_a_line_that_a_kill_has_left_goes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append("events.jsonl", {"a": 1})
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"a": 2, "b')
    store.append("events.jsonl", {"a": 3})
    assert [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()] == [{"a": 1}, {"a": 3}]


def test_a_rename_that_is_said_to_have_failed_but_was_done_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system whose answer was lost asks again, and hears that the source is gone."""
    rename = os.rename

    def twice(source: Any, target: Any) -> None:
        rename(source, target)
        rename(source, target)

    folder = Store(tmp_path).stage(1, 3, "select")
    folder.begin({})
    monkeypatch.setattr(os, "rename", twice)
    folder.write(0, {Pick: [pick(1)]})
    folder.finish({})
    folder.finish({"again": 1})
    assert folder.read(Pick, 0) == [pick(1)]
    assert folder.summary() == {"again": 1}


def test_a_rename_that_is_seen_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda *names: threading.Timer(0.3, rename, names).start())
    folder = Store(tmp_path).stage(1, 3, "select")
    folder.begin({})
    folder.write(0, {Pick: [pick(1)]})
    assert folder.shards() == [0]
    monkeypatch.setattr(os, "rename", lambda *names: None)
    monkeypatch.setattr(stores, "VISIBLE_SECONDS", 0.1)
    with pytest.raises(StoreError, match="did not appear within 0 s"):
        folder.write(1, {Pick: [pick(1)]})


def test_a_stage_is_counted_a_shard_at_a_time(tmp_path: Path) -> None:
    """A round of ten million samples is: its columns in one piece are gigabytes."""
    folder = Store(tmp_path).stage(1, 1, "select")
    folder.begin({})
    peaks = []
    for shard in range(8):
        picks = [Pick(sample=f"s{n}", problem="p", side="kept" if n % 4 else "dropped", rule="") for n in range(2000)]
        rows = [Row(id=f"r{n}", kind="example", segments=(), labels=(1, 0) * (n % 3)) for n in range(2000)]
        folder.write(shard, {Pick: picks, Row: rows})
        folder.tally(Pick, "side")
        tracemalloc.start()
        assert folder.tally(Pick, "side") == {"kept": 1500 * (shard + 1), "dropped": 500 * (shard + 1)}
        assert folder.length(Row, "labels") == sum(2 * (n % 3) for n in range(2000)) * (shard + 1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[-1] < 1.5 * peaks[0]
    empty = Store(tmp_path).stage(1, 2, "none")
    empty.begin({})
    assert (empty.tally(Pick, "side"), empty.length(Row, "labels")) == ({}, 0)


def test_shards_that_are_dropped_are_gone(tmp_path: Path) -> None:
    folder = Store(tmp_path).stage(0, 0, "problems")
    folder.begin({})
    for shard in range(3):
        folder.write(shard, {Pick: [pick(shard)]})
    folder.drop([0, 2])
    assert [path.name for path in sorted(folder.path.glob("part*"))] == ["part-00001"]
