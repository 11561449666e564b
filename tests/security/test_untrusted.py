"""Models, data, runs and plug-ins of strangers: what they hold is read, never obeyed. See docs/security.md."""

import ast
import json
import os
import pickle
import re
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from selftrain.backends import checkpoints, models, tokens
from selftrain.cli.console import JOINERS
from selftrain.errors import ModelError, StoreError, UserError
from selftrain.loop import config
from selftrain.loop.keys import decoded, encoded
from selftrain.recipe import Recipe
from selftrain.records import Checkpoint
from selftrain.stages import Generate
from selftrain.store import Store
from tests.front_door import call, refused
from tests.report.made import NASTY, make_run

ROOT = Path(__file__).parents[2]


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def armed(mark: Path) -> bytes:
    """Bytes that make a folder when they are unpickled; proven by doing it."""
    data = pickle.dumps(Bomb(mark))
    pickle.loads(data)
    mark.rmdir()
    return data


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin"])
def test_a_pickle_beside_a_models_weights_is_not_read(tiny_model: Path, tmp_path: Path, name: str) -> None:
    mark, folder = tmp_path / "mark", tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / name).write_bytes(armed(mark))
    checkpoints.load(models.resolve(str(folder)), "float32")
    checkpoints.prepare(folder, tmp_path / "checkpoint")
    assert not mark.exists()
    assert not list((tmp_path / "checkpoint").rglob(name))


def test_a_model_whose_weights_are_a_pickle_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    mark, folder = tmp_path / "mark", tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(armed(mark))
    with pytest.raises(ModelError, match="only safetensors are read"):
        models.resolve(str(folder))
    with pytest.raises(ModelError, match="does not load as a language model"):
        checkpoints.load(folder, "float32")
    assert not mark.exists()


def test_an_index_of_weights_names_no_file_elsewhere(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").rename(tmp_path / "secret.safetensors")
    for name in ("../secret.safetensors", str(tmp_path / "secret.safetensors"), "pytorch_model.bin"):
        index = {"weight_map": {"model.norm.weight": name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(ModelError, match="names"):
            models.resolve(str(folder))


CODE = """
import os
os.mkdir({mark!r})
from transformers import LlamaConfig as Config, LlamaForCausalLM as Model, PreTrainedTokenizerFast as Tokenizer
"""


@pytest.mark.parametrize("kind", ["config", "tokenizer"])
def test_code_that_a_model_brings_along_is_not_executed(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    mark, folder = tmp_path / "mark", tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    name, auto = {
        "config": ("config.json", {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}),
        "tokenizer": ("tokenizer_config.json", {"AutoTokenizer": ["own.Tokenizer", "own.Tokenizer"]}),
    }[kind]
    told = json.loads((folder / name).read_text())
    told |= (
        {"auto_map": auto, "model_type": "own"} if kind == "config" else {"auto_map": auto, "tokenizer_class": "Own"}
    )
    (folder / name).write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"does not load|no tokenizer that loads"):
        checkpoints.load(folder, "float32") if kind == "config" else tokens.load(folder)
    assert not mark.exists()


def test_nothing_in_selftrain_unpickles_a_file_or_trusts_code() -> None:
    """Pickles cross pipes to processes of ours alone (multiprocessing does that); no file is read as one."""
    sources = [*(ROOT / "selftrain").rglob("*.py")]
    sources += [path for name in ("pipelines", "verifiers", "data") for path in (ROOT / name).glob("*.py")]
    found = set()
    for path in sources:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                if called.endswith(("torch.load", "pickle.load", "pickle.loads", "joblib.load", "read_pickle")):
                    found.add((path.name, called))
                if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "shelve.open"):
                    found.add((path.name, called))
                if given.get("trust_remote_code", "False") != "False" or "allow_pickle" in given:
                    found.add((path.name, called))
                loads = called.endswith(".from_pretrained") and not called.startswith("PeftModel")
                if loads and "gguf" not in path.name and "trust_remote_code" not in ast.unparse(node):
                    found.add((path.name, called))
    assert found == {
        # It pickles a verdict of its own, and reads that.
        ("conformance.py", "pickle.loads"),
        # They take these arguments from a mapping that says False.
        ("classifiers.py", "getattr(transformers, kind.auto).from_pretrained"),
        ("finetune.py", "AutoModelForCausalLM.from_pretrained"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "os:system", "subprocess:call", "subprocess:Popen", "shutil:rmtree", "builtins:exec", "importlib:import_module",
        "pathlib:Path", "selftrain.backends.nursery:start", "selftrain.store:Store", "selftrain.recipe:Stage.run",
        "tests.security.evil:Thing", "os.path:join", "nowhere:x", "", "selftrain.stages:Generate.__init__",
    ],
)  # fmt: skip
def test_a_plan_can_name_nothing_but_stages_rules_and_settings(name: str) -> None:
    with pytest.raises(StoreError, match="the stored plan names"):
        decoded({"@": name, "args": "x"})


def test_a_plan_imports_no_module_for_what_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'mark')!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StoreError, match="the stored plan names evil:Thing"):
        decoded({"@": "evil:Thing"})
    assert not (tmp_path / "mark").exists()


def test_what_a_plan_may_name_comes_back() -> None:
    for stage in config.load("rest_em", {}).recipe.given():
        assert encoded(decoded(encoded(stage))) == encoded(stage)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", rounds=1)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A run that a test may change."""
    return Path(shutil.copytree(run, tmp_path / "run"))


OWN: dict[str, dict[str, Any]] = {
    "recipe": {"recipe": "run/evil.py"},
    "verifier": {"verifier": '{"name": "run/evil.py"}'},
    "control": {"verify": {"by": "run/evil.py"}, "control": {"name": "shuffled", "figures": {"rounds": 1}}},
    "rows": {"data": {"name": "./run/rows.jsonl"}, "pool": 3, "valid": 0, "test": 0, "draw": None},
}
"""Where a run.yaml can name a program."""
FORK = ("fork", "--from-round", "0", "--out", "new")
EXPORT = ("export", "--to", "new")


@pytest.mark.parametrize(
    ("own", "command"),
    [
        *(("recipe", each) for each in (("status",), ("report",), ("explain", "x"), EXPORT, ("gc",), FORK)),
        *(("control", each) for each in (("report",), EXPORT, FORK)),
        *((own, each) for own in ("verifier", "rows") for each in (FORK, ("eval", "nano", "--like"))),
    ],
)
def test_looking_at_a_run_executes_nothing_that_lies_in_it(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    (copy / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    asked = ("How many legs have three cats?", "Which colour is grass in spring?", "Where does the sun go down?")
    rows = [json.dumps({"prompt": each, "answer": "x", "verifier": "run/evil.py"}) for each in asked]
    (copy / "rows.jsonl").write_text("\n".join(rows))
    told = yaml.safe_load((copy / "run.yaml").read_text())
    assert told["recipe"] == "rest_em"
    (copy / "run.yaml").write_text(yaml.safe_dump({**told, **OWN[own]}, sort_keys=False))
    for path in copy.glob("round-*/plan.json"):
        path.write_text(json.dumps({"stages": [{"@": "evil:Thing", "name": "evil"}]}))
    # `eval` names the run last.
    answer = call(*command, "run") if command[0] == "eval" else call(command[0], "run", *command[1:])
    assert answer.code in (0, 2), answer
    assert not mark.exists()
    if command[0] in ("fork", "eval"):
        # Of what rows of data name, none is executed wherever it lies.
        assert re.search(
            "run/evil.py is a program in the run's own folder|'run/evil.py', a program, which data", answer.err
        )


LOOKS = (
    ("status", "run"),
    ("report", "run"),
    ("explain", "run", "x"),
    ("export", "run", "--to", "new"),
    ("export-data", "run", "--round", "1", "--to", "rows"),
    ("diff", "run", "run"),
    ("compare", "run", "run"),
    ("gc", "run"),
    ("runs", "."),
)
"""Commands that look at a run."""
TAKING = (("fork", "run", "--from-round", "0", "--out", "new"), ("eval", "nano", "--like", "run"))
"""Those that take something of it, and so what judges its problems or gives them."""


@pytest.mark.parametrize("own", ["recipe", "verifier", "data"])
def test_looking_at_a_run_executes_no_program_that_came_beside_it(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    """Only what its user has named himself: here, or in a run of his own before."""
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    (tmp_path / "mine.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    told = yaml.safe_load((copy / "run.yaml").read_text())
    value: Any = {"name": "mine.py"} if own == "data" else "mine.py"
    (copy / "run.yaml").write_text(yaml.safe_dump({**told, own: value}, sort_keys=False))
    answers = [call(*command) for command in (*TAKING, *(LOOKS if own == "recipe" else ()))]
    assert not mark.exists()
    assert {answer.code for answer in answers} <= {0, 2}
    assert any(re.search(rf"{own} .*mine.py is a program that you have never named", each.err) for each in answers)


def test_a_program_that_was_named_once_is_known_when_its_run_is_looked_at(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "pipelines" / "rest_em.py", "mine.py")
    told = yaml.safe_load((copy / "run.yaml").read_text())
    (copy / "run.yaml").write_text(yaml.safe_dump({**told, "recipe": "mine.py"}, sort_keys=False))
    fork, report = ("fork", copy, "--from-round", "0", "--out", "new"), ("report", copy, "--out", "report.html")
    assert refused(*fork).endswith("name it once: selftrain run mine.py --dry-run")
    # What is typed with the command is named by that, for that command.
    assert "never named" not in refused(*fork, "recipe=mine.py", "data.max_terms=9")
    assert call(*report).code == 0
    assert "never named" in Path("report.html").read_text()
    assert call("run", "mine.py", "--model", "nano", "--data", "sums", "--dry-run").code == 0
    assert call(*report).code == 0
    assert "never named" not in Path("report.html").read_text()


@pytest.mark.parametrize("path", ["../outside", "/tmp/outside", "round-00/../../outside"])
def test_a_checkpoint_that_lies_outside_its_run_is_refused(copy: Path, tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "model.safetensors").write_bytes(b"somebody's weights")
    (outside / "checkpoint.json").write_text("{}")
    folder = next(each for name, each in Store(copy).stages(1).items() if name == "train")
    written = folder.read(Checkpoint, 0)[0]
    shutil.rmtree(folder.path / "part-00000")
    evil = Checkpoint(id=written.id, path=path, role="policy", parent=written.parent, base=written.base, round=1)
    folder.write(0, {Checkpoint: [evil]})
    (folder.path / "stage.json").unlink()
    folder.finish({"checkpoint": 1})
    for command in (
        ("gc", copy, "--keep", "best", "--yes"),
        ("export", copy, "--to", tmp_path / "new", "--round", "1"),
    ):
        assert "outside" in refused(*command)
    assert (outside / "model.safetensors").read_bytes() == b"somebody's weights"


def test_a_checkpoint_of_a_stage_that_no_plan_names_is_refused_too(copy: Path, tmp_path: Path) -> None:
    weights = tmp_path / "outside" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"somebody's weights")
    written = Store(copy).stages(1)["train"].read(Checkpoint, 0)[0]
    stage = Store(copy).stage(1, 20, "more")
    stage.begin({})
    stage.write(0, {Checkpoint: [replace(written, path="../outside")]})
    assert "is outside of it" in refused("gc", copy, "--yes")
    assert weights.exists()


def test_a_checkpoint_behind_a_link_is_neither_freed_nor_exported(tmp_path: Path) -> None:
    patient: dict[str, Any] = {"gate.patience": 9}
    run, outside = make_run(tmp_path / "run", rounds=3, **patient), tmp_path / "outside"
    for folder in run.glob("round-*/*-train/checkpoint"):
        (folder / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "alias").symlink_to(run)
    # The run itself may lie behind one.
    told = json.loads(call("gc", tmp_path / "alias", "--json").out)
    freed = next(each for each in told["checkpoints"] if not each["kept"])
    (run / freed["path"]).rename(outside)
    (run / freed["path"]).symlink_to(outside)
    for command in (("gc", run, "--yes"), ("export", run, "--to", tmp_path / "new", "--round", freed["round"])):
        assert "behind a link" in refused(*command)
    assert (outside / "model.safetensors").read_bytes() == b"weights"
    assert not (outside / "collected.json").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", ".hidden", "", "a b", "x" * 100, "a\nb"])
def test_no_stage_is_named_by_a_path(name: str) -> None:
    recipe = Recipe(paper="x", each_round=[Generate(name=name or ".")])
    with pytest.raises(UserError, match="a stage is named"):
        recipe.check()


TOKEN = "sk-this-is-a-secret-of-mine"


@pytest.mark.slow
def test_no_secret_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one of the environment nor one that was typed is in any file of a run, whatever ended it."""
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, f"{TOKEN}-{name}")
    monkeypatch.chdir(tmp_path)
    small = ("model=nano", "data=sums", "pool=4", "valid=2", "test=2", "samples=1", "max_new_tokens=8", "rounds=1")
    server = ("sampler=server", "sampler.url=http://127.0.0.1:9/v1", f"sampler.api_key={TOKEN}", "sampler.tries=1")
    answer = call("run", "rest_em", *small, *server, "--out", "run")
    assert answer.code == 1, answer
    assert "no answer from" in answer.err
    assert TOKEN not in answer.out + answer.err
    assert (tmp_path / "run/run.yaml").is_file()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    command = json.loads((tmp_path / "run/environment.json").read_text())["command"]
    assert "sampler.api_key=***" in command


def test_a_secret_goes_on_to_the_engine_though_it_is_not_written(tmp_path: Path) -> None:
    asked = {"model": "nano", "rounds": 1, "sampler": {"kind": "server", "url": "http://x", "api_key": TOKEN}}
    job = config.load("rest_em", asked)
    assert job.file.sampler["api_key"] == TOKEN
    assert TOKEN not in json.dumps(job.as_file(), default=str)


def test_what_a_model_says_moves_no_cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run", rounds=1)
    monkeypatch.chdir(tmp_path)
    examples = refused("explain", "run", "x")
    sample = examples.rpartition("sample ")[2].partition(",")[0]
    said = call("explain", "run", sample)
    assert said.code == 0
    assert "zero" in said.out
    assert "\x1b" in NASTY
    odd = [char for char in said.out if unicodedata.category(char) in ("Cc", "Cf", "Cs")]
    assert set(odd) <= {"\n", "\t", *JOINERS}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_a_run_file_that_grows_without_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(f"recipe: rest_em\n{BOMB}rounds: *i\n")
    assert "refers to more than 20 anchors" in refused("run", "run.yaml")
