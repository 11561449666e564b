"""A stored file that is not what was written is named and never read."""

import errno
import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain import seals, store, tables
from selftrain.errors import StoreError
from selftrain.records import Metric, Pick
from selftrain.store import StageFolder, Store


def stored(root: Path) -> StageFolder:
    folder = Store(root).stage(1, 1, "select")
    folder.begin({"n": 1})
    for shard in range(2):
        picks = [Pick(sample=f"s{shard}{n}", problem="p", side="kept", rule="passed") for n in range(9)]
        folder.write(shard, {Pick: picks, Metric: []})
    folder.finish({"pick": 18})
    return folder


def flipped(path: Path, at: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["part-00001/picks.parquet", "part-00001/metrics.parquet", "part-00001/manifest.json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "emptied", "gone"])
def test_a_damaged_shard_is_named_and_not_read(tmp_path: Path, name: str, how: str) -> None:
    folder = stored(tmp_path)
    victim = folder.path / name
    if how == "flipped":
        flipped(victim, victim.stat().st_size // 2, 3)
    elif how == "gone":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[: 0 if how == "emptied" else -7])
    with pytest.raises(StoreError, match=r"damaged|cannot be read"):
        StageFolder(folder.path).check()
    if victim.suffix == ".parquet":
        with pytest.raises(StoreError, match=rf"{victim.name} .*delete .*round-01 and the rounds after it"):
            StageFolder(folder.path).read(Pick, 1)
    assert len(StageFolder(folder.path).read(Pick, 0)) == 9


@pytest.mark.parametrize(
    "trouble",
    [
        OSError("ZSTD_DCtx create failed"),
        pa.ArrowException("Failed to launch worker thread"),
        pa.ArrowMemoryError("malloc"),
    ],
    ids=["no room to unpack", "no thread", "no memory"],
)
def test_a_whole_file_that_the_machine_cannot_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    path = stored(tmp_path).file(Pick, 1)

    def fail(*arguments: object) -> None:
        raise trouble

    monkeypatch.setattr("selftrain.tables.pq.ParquetFile", fail)
    with pytest.raises(OSError, match="holds what was written to it") as caught:
        tables.read(Pick, path)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(path))
    flipped(path, 20, 3)
    with pytest.raises(StoreError, match="it is damaged"):
        tables.read(Pick, path)


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_of_a_sealed_file_can_be_flipped_unseen(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    """White space aside: what the file says is what was written, or it is refused."""
    path = tmp_path_factory.getbasetemp() / "sealed.json"
    content = {"pick": 18, "content": "abc", "seconds": 0.5}
    path.write_text(json.dumps(seals.sealed(content), indent=1))
    flipped(path, at, bit)
    try:
        assert seals.read(path, "make it again") == content
    except StoreError as error:
        assert "sealed.json is damaged" in str(error)  # noqa: PT017


def test_a_finished_stage_that_has_lost_a_shard_is_refused(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    (folder.path / "part-00001").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="its shards are not those"):
        StageFolder(folder.path).begin({"n": 1})


@pytest.mark.parametrize("lost", ["part-00001", "part-00001/manifest.json"])
def test_who_reads_a_finished_stage_misses_what_it_has_lost(tmp_path: Path, lost: str) -> None:
    folder = stored(tmp_path / "run")
    assert folder.count(Pick) == 18
    # In a copy: what was found whole is not looked at again by the same process.
    copied = StageFolder(Path(shutil.copytree(tmp_path / "run", tmp_path / "copy")) / "round-01" / "01-select")
    victim = copied.path / lost
    if victim.is_dir():
        shutil.rmtree(victim)
    else:
        victim.unlink()
    looks: list[Callable[[], object]] = [
        copied.shards,
        lambda: copied.read(Pick, 1),
        lambda: copied.files(Pick),
        lambda: copied.columns(Pick, ["sample"]),
        lambda: copied.count(Pick),
        lambda: copied.file(Pick, 1),
    ]
    for look in looks:
        with pytest.raises(
            StoreError, match=r"01-select is damaged: .* that its stage.json tells of; delete .*round-01"
        ):
            look()
    assert len(copied.read(Pick, 0)) == 9


def test_what_is_lost_while_a_process_reads_is_missed_too(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    assert folder.shards() == [0, 1]
    assert folder.read(Pick, 2) == []
    (folder.path / "part-00001").rename(folder.path / "part-00001.old")
    with pytest.raises(StoreError, match="its shards are not those"):
        folder.shards()


def test_what_an_earlier_selftrain_wrote_is_read(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    for part in folder.path.glob("part-*"):
        (part / seals.MANIFEST).unlink()
    (folder.path / "stage.json").write_text('{"pick": 18}')
    folder.check()
    assert len(folder.read(Pick, 1)) == 9
    assert folder.summary() == {"pick": 18}


def test_a_file_is_hashed_again_when_it_was_touched(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = seals.hashed(path)
    path.write_bytes(b"two")
    assert seals.hashed(path) != first


def test_what_is_remembered_of_each_file_is_small(tmp_path: Path) -> None:
    """A run keeps what it has looked at in mind, and each round of hundreds stores some sixty files."""
    folders = [StageFolder(tmp_path / f"a-run-with-a-long-name/round-{n:03d}/03-select") for n in range(300)]
    for folder in folders:
        folder.begin({"n": 1})
        folder.write(0, {Pick: []})
        folder.finish({"pick": 0})
    forgotten = (seals._known, store._whole)
    for memory in forgotten:
        memory.clear()
    tracemalloc.start()
    for folder in folders:
        StageFolder(folder.path).files(Pick)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Each stage is one thing to remember, its manifest and its table two more.
    assert len(seals._known) + len(store._whole) == 3 * 300
    assert taken < 3 * 300 * 250
