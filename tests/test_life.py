"""A run afterwards, by the commands and with a real model: explained, forked, tidied."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from selftrain.after import standing
from selftrain.after.explain import explain, gaps
from selftrain.errors import EngineError, StoreError
from selftrain.loop.launch import Run
from selftrain.records import Checkpoint, Pick, Row, Sample
from selftrain.store import Store
from tests.front_door import call, refused

SMALL = ("model=nano", "data=sums", "pool=12", "valid=8", "test=8", "samples=4", "max_new_tokens=48", "gate.patience=9")
TRAINED = ("learning_rate=0.003", "shard=4")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two rounds, which no test may change."""
    root = tmp_path_factory.mktemp("life") / "run"
    answer = call("run", "rest_em", *SMALL, *TRAINED, "rounds=2", "--out", root)
    # Eight problems are too few for a gate to accept anything.
    assert answer.code in (0, 3), answer
    assert len(Run.open(root).history.rounds) == 3
    return root


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    """A copy of it to work on."""
    return Path(shutil.copytree(done, tmp_path / "run"))


def every(root: Path, kind: type[Any]) -> list[Any]:
    store = Store(root)
    folders = [folder for number in store.rounds() for folder in store.stages(number).values()]
    return [each for folder in folders for shard in folder.shards() for each in folder.read(kind, shard)]


def bytes_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_every_row_is_explained_to_its_problem(done: Path) -> None:
    rows = every(done, Row)
    assert rows
    kept = {(pick.sample, pick.side) for pick in every(done, Pick)}
    for row in rows:
        found = explain(done, row.id)
        assert gaps(found) == []
        (sample,) = found["sources"]
        assert (sample["id"], "kept") in kept
        assert [v["status"] for v in sample["verdicts"]] == ["pass"]
        assert [p["side"] for p in sample["picks"]] == ["kept"]
        assert sample["picks"][0]["passed"][0] == "passed"
        assert found["trained_by"] == [f"round {found['round']} train"]


def test_a_chain_with_a_link_taken_out_is_seen(run: Path) -> None:
    row = every(run, Row)[0]
    for folder in ("verify", "select"):
        shutil.rmtree(Store(run).stages(1)[folder].path)
    found = gaps(explain(run, row.id))
    assert any("nothing has judged" in gap for gap in found)
    assert any("nothing has picked" in gap for gap in found)


def test_a_lost_shard_is_missed_by_whoever_reads_it(run: Path, tmp_path: Path) -> None:
    """An export of the round took the weights of the one before, and the report showed fewer samples."""
    (train,) = run.glob("round-02/*-train")
    (train / "part-00000").rename(tmp_path / "lost")
    for command in (("export", run, "--round", 2, "--to", tmp_path / "model"), ("status", run), ("gc", run, "--yes")):
        assert f"{train} is damaged: its shards are not those" in refused(*command)
    assert not (tmp_path / "model").exists()
    (tmp_path / "lost").rename(train / "part-00000")
    (train.parent / "00-generate" / "part-00000" / "manifest.json").unlink()
    for look in (("report", run), ("explain", run, "nosuch"), ("reverify", run, "--with", "number")):
        assert "round-02/00-generate is damaged: part-00000 has lost its manifest.json" in refused(*look)


@pytest.mark.parametrize("lost", ["round-02/*-train", "round-01/*-train", "round-01/*-gate", "round-02/plan.json"])
def test_a_lost_stage_is_missed_by_whoever_looks_for_weights(run: Path, tmp_path: Path, lost: str) -> None:
    """An export of the round, or of the best, took the weights of the one before."""
    (place,) = run.glob(lost)
    place.rename(tmp_path / "lost")
    name = place.name.partition("-")[2] or place.name
    asked: tuple[tuple[object, ...], ...] = (
        ("export", run, "--round", 2, "--to", tmp_path / "model"),
        ("export", run, "--to", tmp_path / "model"),
        ("gc", run, "--yes"),
        ("status", run),
        ("run", run / "run.yaml", "--out", run),
    )
    for command in asked[:4] if name == "plan.json" else asked:
        assert f"{place.parent} has lost {name}, but what came after is there" in refused(*command)
    assert weights(run) | {int(place.parent.name[6:])} == {1, 2}
    assert not (tmp_path / "model").exists()
    before = int(place.parent.name[6:]) - 1
    assert call("fork", run, "--from-round", before, "--out", tmp_path / "fork", "rounds=3").code == 0
    (tmp_path / "lost").rename(place)
    assert call("status", run).code == 0


def test_a_round_that_has_not_trained_yet_has_no_weights_to_export(run: Path, tmp_path: Path) -> None:
    for folder in ("train", "evaluate", "gate"):
        for path in run.glob(f"round-02/*-{folder}*"):
            shutil.rmtree(path)
    assert call("status", run).code == 0
    line = refused("export", run, "--round", 2, "--to", tmp_path / "model")
    assert "round 2 of" in line
    assert "is not finished and has no weights of 'policy' yet" in line
    assert not (tmp_path / "model").exists()


def test_what_somebody_puts_aside_in_a_run_is_no_part_of_it(run: Path) -> None:
    (run / "round-02").rename(run / "round-02.bak")
    shutil.copytree(run / "round-01", run / "round-01 (copy)")
    for folder in run.glob("round-01/*"):
        if (folder / "part-00001").is_dir():
            shutil.copytree(folder / "part-00001", folder / "part-00001.old")
    for command in (("status", run), ("runs", run), ("gc", run)):
        answer = call(*command)
        assert answer.code == 0, answer
    assert [each["round"] for each in json.loads(call("status", run, "--json").out)["rounds"]] == [0, 1]


def test_explain_prints_the_chain_and_what_became_of_samples_and_problems(done: Path) -> None:
    row = every(done, Row)[0]
    answer = call("explain", done, row.id)
    assert answer.code == 0
    chain = (f"row {row.id}", f"sample {row.sources[0]}", "pass by number", "kept by passed", "trained on by round 1")
    for said in chain:
        assert said in answer.out
    told = json.loads(call("explain", done, row.sources[0], "--json").out)
    assert told["what"] == "sample"
    assert [each["id"] for each in told["rows"]] == [row.id]
    problem = json.loads(call("explain", done, told["problem"]["id"], "--json").out)
    assert problem["what"] == "problem"
    asked = [sample.id for sample in every(done, Sample) if sample.problem == problem["id"]]
    assert [each["id"] for each in problem["samples"]] == asked
    dropped = next(pick for pick in every(done, Pick) if pick.side == "dropped")
    assert f"dropped by {dropped.rule}" in call("explain", done, dropped.sample).out


def test_explain_refuses_what_is_not_there(done: Path, tmp_path: Path) -> None:
    line = refused("explain", done, "nosuch")
    assert "holds no row, sample or problem 'nosuch'" in line
    assert every(done, Row)[0].id in line
    assert "is no run of selftrain" in refused("explain", tmp_path, "x")


def test_a_fork_shares_rounds_and_goes_on_with_other_settings(done: Path, tmp_path: Path) -> None:
    before, out = bytes_of(done), tmp_path / "fork"
    modes = {path: path.stat().st_mode for path in [done, *done.rglob("*")]}
    for path in modes:
        path.chmod(modes[path] & ~0o222)
    try:
        answer = call("fork", done, "--from-round", 1, "--out", out, "samples=2", "select.data=union")
        assert answer.code == 0, answer
        assert "samples was 4, is 2" in answer.out
        shared = {name: content for name, content in bytes_of(out).items() if name.startswith("round-")}
        gone_on = call("run", out / "run.yaml")
        assert gone_on.code in (0, 3), gone_on
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert bytes_of(done) == before
    assert all(not name.startswith("round-02") for name in shared)
    after = bytes_of(out)
    assert all(after[name] == content for name, content in shared.items())
    assert Store(out).stages(2)["generate"].count(Sample) == 12 * 2
    assert Store(out).stages(2)["select"].count(Pick) == 12 * 2 + 12 * 4
    # What it samples from is round 1's own checkpoint.
    sampled = {sample.model for sample in Store(out).stages(2)["generate"].read(Sample, 0)}
    assert sampled == {Store(done).stages(1)["train"].read(Checkpoint, 0)[0].id}
    told = json.loads((out / "fork.json").read_text())
    assert (told["from"], told["round"]) == (str(done), 1)
    assert "samples was 4, is 2" in told["changed"]


def test_what_a_fork_links_is_the_bulk_and_what_it_copies_can_be_edited(done: Path, tmp_path: Path) -> None:
    assert call("fork", done, "--from-round", 0, "--out", tmp_path / "fork").code == 0
    for path in (tmp_path / "fork").rglob("*"):
        if path.is_file():
            assert (path.stat().st_nlink > 1) == (path.suffix in (".parquet", ".safetensors")), path
    # A training in the shared rounds names its start by its place, which is the new folder's.
    assert call("fork", done, "--from-round", 2, "--out", tmp_path / "whole", "rounds=3").code == 0
    made = {name: content for name, content in bytes_of(tmp_path / "whole").items() if name.startswith("round-")}
    assert not any(str(done).encode() in content for content in made.values())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--from-round", "7"), "its finished rounds are 0 to 2"),
        (("--from-round", "-1"), "its finished rounds are 0 to 2"),
        (("--from-round", "2"), "say rounds=3 or more"),
        (("--from-round", "x"), "--from-round"),
        (("--from-round", "1", "seed=5"), "seed was 0, is 5"),
        (("--from-round", "1", "pool=10"), "pool was 12, is 10"),
        (("--from-round", "1", "prompt.suffix=Think."), 'prompt.suffix was "", is "Think."'),
        (("--from-round", "1", "max_new_tokens=32"), "max_new_tokens was 48, is 32"),
        (("--from-round", "1", "model=nano-programs"), 'model.policy was "nano", is "nano-programs"'),
        (("--from-round", "1", "evaluate.samples=4"), "evaluate-sampled"),
        (("--from-round", "1", "sample=5"), "did you mean samples"),
        (("--from-round", "1", "recipe=rest_emm"), "did you mean rest_em"),
    ],
)
def test_a_fork_that_would_change_what_is_shared_is_refused(
    done: Path, tmp_path: Path, given: tuple[str, ...], said: str
) -> None:
    assert said in refused("fork", done, *given, "--out", tmp_path / "fork")
    assert list(tmp_path.iterdir()) == []


def test_a_fork_takes_no_folder_that_is_there(done: Path, tmp_path: Path) -> None:
    assert "is there already" in refused("fork", done, "--from-round", 1, "--out", tmp_path)
    assert "is no run of selftrain" in refused("fork", tmp_path, "--from-round", 1, "--out", tmp_path / "x")


def test_a_refusal_advises_a_fork_that_works(run: Path, tmp_path: Path) -> None:
    line = refused("run", run / "run.yaml", "--out", run, "samples=2")
    assert "n was 4, is 2" in line
    advice = line.partition("(selftrain fork ")[2].partition(" --out NEW")[0]
    assert advice == f"{run} --from-round 0"
    assert call("fork", *advice.split(), "--out", tmp_path / "new", "samples=2").code == 0
    assert json.loads((run / "state.json").read_text())["state"] == "finished"


def weights(root: Path) -> set[int]:
    return {int(path.parts[-5][6:]) for path in root.glob("round-*/*-train/checkpoint/serve/*.safetensors")}


def test_gc_says_what_it_would_free_and_frees_it(run: Path) -> None:
    size = sum(path.stat().st_size for path in run.glob("round-01/*-train/checkpoint/**/*.safetensors"))
    told = json.loads(call("gc", run, "--json").out)
    assert weights(run) == {1, 2}
    assert [(each["round"], bool(each["kept"])) for each in told["checkpoints"]] == [(1, False), (2, True)]
    assert told["bytes"] == size > 0
    assert "would be freed; --yes frees them" in call("gc", run).out
    before = {name: content for name, content in bytes_of(run).items() if name.endswith(".parquet")}
    assert call("gc", run, "--yes").code == 0
    assert weights(run) == {2}
    after = bytes_of(run)
    assert {name: after[name] for name in before} == before
    assert json.loads(call("gc", run, "--json").out)["bytes"] == 0


@pytest.mark.slow
def test_after_gc_a_run_goes_on_and_exports_and_says_what_was_freed(run: Path, tmp_path: Path) -> None:
    assert call("gc", run, "--yes").code == 0
    line = refused("export", run, "--round", 1, "--to", tmp_path / "one")
    assert "the weights of round 1" in line
    assert "were freed on" in line
    assert "weights are there of rounds 0, 2" in line
    assert call("export", run, "--round", 2, "--to", tmp_path / "two").code == 0
    assert call("export", run, "--to", tmp_path / "best").code == 0
    assert "were freed on" in refused("fork", run, "--from-round", 1, "--out", tmp_path / "fork", "rounds=3")
    gone_on = call("run", run / "run.yaml", "--out", run, "rounds=3")
    assert gone_on.code in (0, 3), gone_on
    assert weights(run) == {2, 3}


@pytest.mark.slow
def test_a_run_can_tidy_up_as_it_goes(tmp_path: Path) -> None:
    given = (*SMALL, *TRAINED, "pool=4", "samples=2", "rounds=4", "keep_checkpoints=best,last,every:3")
    answer = call("run", "rest_em", *given, "--out", tmp_path / "run")
    assert answer.code in (0, 3), answer
    best = Run.open(tmp_path / "run").best
    assert weights(tmp_path / "run") == {3, 4} | ({best} - {0})
    again = call("run", "rest_em", *given, "--out", tmp_path / "run")
    assert again.code == answer.code, again


def test_gc_frees_nothing_that_a_fork_shares_and_refuses_nonsense(run: Path, tmp_path: Path) -> None:
    assert call("fork", run, "--from-round", 1, "--out", tmp_path / "fork").code == 0
    (first, _) = json.loads(call("gc", run, "--json").out)["checkpoints"]
    assert first["bytes"] == 0 < first["shared"]
    assert call("gc", run, "--yes").code == 0
    assert weights(tmp_path / "fork") == {1}
    assert "it can be all, or best,last and every:K" in refused("gc", run, "--keep", "first")
    assert "every:K" in refused("run", "rest_em", *SMALL, "keep_checkpoints=every:0", "--out", tmp_path / "x")


def test_gc_leaves_a_run_alone_that_is_going_on(run: Path) -> None:
    with Store(run).lock():
        assert "is in use by another run" in refused("gc", run, "--yes")
    assert weights(run) == {1, 2}


def test_runs_lists_every_run_and_where_it_stands(run: Path, tmp_path: Path) -> None:
    assert call("fork", run, "--from-round", 1, "--out", tmp_path / "more" / "fork", "samples=2").code == 0
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.yaml").write_text("format: 1\nrecipe: [")
    (tmp_path / "headless" / "round-01").mkdir(parents=True)
    (tmp_path / "nothing").mkdir()
    cut = Path(shutil.copytree(run, tmp_path / "cut"))
    metrics = next(cut.glob("round-01/*-evaluate/part-00000/metrics.parquet"))
    metrics.write_bytes(metrics.read_bytes()[:50])
    with Store(run).lock():
        found = {Path(each["folder"]).name: each for each in json.loads(call("runs", tmp_path, "--json").out)}
    assert {name: each["state"] for name, each in found.items()} == {
        "run": "running",
        "fork": "interrupted",
        "damaged": "broken",
        "headless": "broken",
        "cut": "broken",
    }
    assert "no run.yaml" in found["headless"]["why"]
    assert found["fork"]["source"] == f"{run}, round 1"
    listed, opened = found["run"], Run.open(run)
    assert (listed["recipe"], listed["model"], listed["data"]) == ("rest_em", "nano", "sums")
    assert (listed["rounds"], listed["asked"], found["fork"]["rounds"]) == (2, 2, 1)
    measured = opened.metric("accuracy")
    assert measured is not None
    assert (listed["value"], listed["low"], listed["high"]) == (measured.value, measured.low, measured.high)
    assert listed["bytes"] == sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    table = call("runs", tmp_path)
    assert table.code == 0
    assert "headless: broken: it has rounds, but no run.yaml" in table.out
    assert json.loads(call("runs", run, "--json").out)[0]["state"] == "finished"
    assert "holds no runs" in call("runs", tmp_path / "nothing").out
    assert "there is no folder" in refused("runs", tmp_path / "nosuch")


def test_a_run_that_failed_or_was_interrupted_says_so(run: Path) -> None:
    store = Store(run)
    with pytest.raises(EngineError), standing.going_on(store):
        raise EngineError("the engine is gone\nlog")
    assert json.loads(call("runs", run, "--json").out)[0]["why"] == "EngineError: the engine is gone"
    with pytest.raises(KeyboardInterrupt), standing.going_on(store):
        raise KeyboardInterrupt
    assert standing.state(store)["state"] == "interrupted"
    standing.note(store, "finished")
    with pytest.raises(StoreError), standing.going_on(store):
        raise StoreError("made with other settings")
    assert standing.state(store)["state"] == "finished"


def test_diff_names_settings_versions_and_paired_metrics(run: Path, tmp_path: Path) -> None:
    assert call("fork", run, "--from-round", 1, "--out", tmp_path / "fork", "samples=2", "train.start=latest").code == 0
    other = json.loads((tmp_path / "fork" / "environment.json").read_text())
    other["packages"]["trl"] = "0.0"
    (tmp_path / "fork" / "environment.json").write_text(json.dumps(other))
    found = json.loads(call("diff", run, tmp_path / "fork", "--json").out)
    assert "samples was 4, is 2" in found["settings"]
    assert 'train.start was not set, is "latest"' in found["settings"]
    assert [line for line in found["versions"] if line.startswith("trl was")] != []
    assert len(found["versions"]) == 1
    (same,) = [m for m in found["metrics"] if (m["round"], m["name"], m["split"]) == (1, "accuracy", "test")]
    assert same["first"] == same["second"]
    assert same["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 8}
    assert "samples was 4, is 2" in call("diff", run, tmp_path / "fork").out
    assert "is no run of selftrain" in refused("diff", run, tmp_path)


@pytest.mark.slow
def test_diff_pairs_only_equal_problems(run: Path, tmp_path: Path) -> None:
    given = (*SMALL, *TRAINED, "seed=1", "rounds=1")
    assert call("run", "rest_em", *given, "--out", tmp_path / "other").code in (0, 3)
    found = json.loads(call("diff", run, tmp_path / "other", "--json").out)
    assert "seed was 0, is 1" in found["settings"]
    assert found["metrics"]
    assert all(each["difference"] is None for each in found["metrics"])
    assert "other problems, so not paired" in call("diff", run, tmp_path / "other").out


def test_the_rows_of_a_round_are_a_data_set_that_loads(done: Path, tmp_path: Path) -> None:
    import datasets

    answer = call("export-data", done, "--round", 1, "--to", tmp_path / "rows")
    assert answer.code == 0, answer
    rows = {row.id: row for shard in (0, 1, 2) for row in Store(done).stages(1)["build"].read(Row, shard)}
    assert f"{len(rows)} of build" in answer.out
    samples = {sample.id: sample for sample in every(done, Sample)}
    loaded = datasets.load_dataset(str(tmp_path / "rows"), cache_dir=str(tmp_path / "cache"))["train"]
    assert {each["id"] for each in loaded} == set(rows)
    for each in loaded:
        row, sample = rows[each["id"]], samples[each["samples"][0]]
        assert each["input_ids"] == [id for part in row.segments for id in part.ids]
        assert [id for id in each["labels"] if id != -100] == list(sample.completion_ids)
        assert each["completion"].strip() == sample.text.strip()
        assert "What is" in each["prompt"]
        assert each["problems"] == [sample.problem]
    card = (tmp_path / "rows" / "README.md").read_text()
    assert card.startswith("---\nconfigs:\n- config_name: build\n")
    assert all(f"| `{name}` |" in card for name in loaded.column_names)
    assert "is there already" in refused("export-data", done, "--to", tmp_path / "rows")
    assert "rounds with rows: 1, 2" in refused("export-data", done, "--round", 0, "--to", tmp_path / "x")
    assert "has no round 9" in refused("export-data", done, "--round", 9, "--to", tmp_path / "x")
    assert "it can be best or a number" in refused("export-data", done, "--round", "last", "--to", tmp_path / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "rows"]
