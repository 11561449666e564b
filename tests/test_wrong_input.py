"""What is wrong in a user's input: one clear line, exit code 2, before any work, and nothing left behind."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.front_door import call, refused

SMALL = ("model=nano", "data=sums", "pool=4", "valid=2", "test=2", "samples=1", "max_new_tokens=8")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rejected(*settings: object) -> str:
    """The line for a run with wrong settings; nothing was made, and the run never began."""
    before = sorted(Path().rglob("*"))
    line = refused("run", "rest_em", *SMALL, *settings)
    assert sorted(Path().rglob("*")) == before
    return line


def test_the_small_run_of_these_tests_is_right_otherwise() -> None:
    assert call("run", "rest_em", *SMALL, "--dry-run").code == 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("verifier=numbr", "did you mean number"),
        ("verify.by=numbr", "did you mean number"),
        ("evaluate.by=numbr", "did you mean number"),
        ("verifier=./mine.py", "there is no file"),
        ('verifier={"name": "number", "tolerence": 1}', "tolerance"),
        ("data=sumz", "did you mean sums?"),
        ("data=./mine.py", "there is no file ./mine.py"),
        ("data.max_term=4", "did you mean max_terms"),
        ("eval=sumz", "did you mean sums?"),
        ("sample=4", "did you mean samples"),
        ("generate.tempratur=1", "did you mean temperature"),
        ("genrate.n=4", "did you mean generate.n"),
        ("learning_rat=1", "did you mean learning_rate"),
        ("train.lora.lora_alfa=1", "did you mean lora_alpha"),
        ("trainer.learning=1", "did you mean learning_rate"),
        ("sampler.dtyp=x", "did you mean dtype"),
        ("sampler=vlm", "vllm"),
        ("seed=-1", "greater than or equal to 0"),
        ("pool=0", "greater than or equal to 1"),
        ("pool=-3", "greater than or equal to 1"),
        ("valid=-1", "greater than or equal to 0"),
        ("valid=0", "the valid split, which holds no problem"),
        ("draw=0", "greater than or equal to 1"),
        ("rounds=0", "rounds is 0: a run needs at least 1"),
        ("rounds=-2", "rounds is -2"),
        ("rounds=x", "rounds='x'"),
        ("rounds=1.5", "rounds=1.5"),
        ("samples=0", "n is 0"),
        ("keep=0", "AtMost(0)"),
        ("keep=-1", "AtMost(-1)"),
        ("temperature=-0.5", "temperature is -0.5"),
        ("temperature=hot", "temperature='hot'"),
        ("generate.top_p=1.5", "top_p is 1.5"),
        ("generate.top_k=-1", "top_k is -1"),
        ("max_new_tokens=0", "max_new_tokens is 0"),
        ("generate.template=hin", "did you mean hint?"),
        ("select.data=fresch", "'fresh', 'union' or 'replay'"),
        ("select.ratio=2", "between 0 and 1"),
        ("train.start=bes", "'base', 'latest' or 'best'"),
        ("evaluate.samples=-1", "samples is -1"),
        ("evaluate.combine=mode", "mean, vote or best_by"),
        ("gate.split=test", "a gate reads valid"),
        ("gate.patience=0", "patience is 0"),
        ("gate.metric=acuracy", "did you mean accuracy?"),
        ("gate.metric=pass@1", "(it measures accuracy)"),
        ("gate.evaluate=evalute", "did you mean evaluate?"),
        ("gate.split=train", "measures on valid, test, not on 'train'"),
        ("generate=3", "generate is a stage"),
        ("contamination=maybe", "'block' or 'warn'"),
        ("workers=0", "greater than or equal to 1"),
        ("time_limit=0", "greater than 0"),
        ("max_hours=0", "greater than 0"),
        ("--max-hours=0", "greater than 0"),
        ("--max-hours=-1", "greater than 0"),
        ("--max-tokens=0", "greater than or equal to 1"),
        ("--max-hours=soon", "--max-hours"),
        ("--preset=demoo", "did you mean demo?"),
        ("model.critic=nano", "the recipe has no model 'critic'"),
        ("model=nanno", "did you mean nano"),
        ("model=./nowhere", "model folder ./nowhere is not there"),
        ("rounds", "write key=value"),
        ("=3", "write key=value"),
        ("rounds=[1", "not YAML"),
        ("prompt=short", "prompt='short'"),
        ("samples=1000000000", "GB free"),
        ("--nosuch", "no such option: --nosuch"),
    ],
)
def test_a_wrong_setting(setting: str, said: str) -> None:
    assert said in rejected(setting)


def test_more_problems_than_there_are() -> None:
    assert "ask for fewer" in rejected("data.max_terms=2", "data.max_digits=1", "pool=1000")


def test_a_wrong_recipe() -> None:
    assert "did you mean rest_em" in refused("run", "rest_emm")
    assert "there is no file ./mine.py" in refused("run", "./mine.py")
    assert "there is no run file mine.yaml" in refused("run", "mine.yaml")
    assert "missing argument 'recipe'" in refused("run")
    assert "no such command 'rum'" in refused("rum")


def test_a_model_folder_that_holds_none() -> None:
    Path("model").mkdir()
    assert "has no config.json" in rejected("model=./model")
    Path("model/config.json").write_text("{}")
    assert "lacks weights" in rejected("model=./model")
    Path("file").touch()
    assert "model ./file is a file" in rejected("model=./file")


def test_an_argument_of_both_engines_must_be_placed() -> None:
    from selftrain.backends.arguments import trl_names, vllm_names

    try:
        both = sorted(trl_names() & vllm_names())
    except Exception:
        pytest.skip("vLLM is not installed")
    assert f"write sampler.{both[0]} or trainer.{both[0]}" in rejected(f"{both[0]}=1")


GOOD = '{"question": "what is 1+1?", "gold": "2"}\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (GOOD.encode() + b'{"question": "caf\xe9", "gold": "1"}\n', "line 2 is not UTF-8"),
        (GOOD.encode() * 3 + b'{"question": \n', "line 4 is not JSON"),
        (GOOD.encode() + b"[1]\n", "line 2 is not a JSON object"),
        (GOOD.encode() + b'{"qestion": "x", "gold": "1"}\n', "line 2 has no column 'question'; did you mean qestion?"),
        (GOOD.encode() + b'{"question": "x"}\n', "line 2 has no column 'gold'"),
        (GOOD.encode() + b'{"question": null, "gold": "1"}\n', "line 2: 'question' must be a text"),
        (GOOD.encode(), "too few"),
    ],
)
def test_a_data_file_with_a_fault(content: bytes | None, said: str) -> None:
    path = Path("mine.jsonl")
    if content is not None:
        path.write_bytes(content)
    assert said in rejected("data=./mine.jsonl", "data.prompt=question", "data.answer=gold")


def test_one_id_with_two_contents() -> None:
    rows = [{"id": "a", "prompt": f"what is {n}+{n}?", "answer": str(2 * n)} for n in range(2)]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = rejected("data=./mine.jsonl")
    assert "line 2: the id 'a' is that of another problem at" in line
    assert "line 1" in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- rest_em\n", "must be a mapping"),
        (b"model: nano\n", "recipe"),
        (b"recipe: [\n", "not YAML"),
        (b"recipe: 3\n", "recipe must be a name"),
        (b"recipe: rest_em\nsample: 4\n", "did you mean samples"),
        (b"recipe: rest_em\nout: [1]\n", "out"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"", "must be a mapping"),
    ],
)
def test_a_run_file_with_a_fault(content: bytes, said: str) -> None:
    Path("run.yaml").write_bytes(content)
    assert said in refused("run", "run.yaml")


def test_a_run_file_that_is_a_folder() -> None:
    Path("run.yaml").mkdir()
    assert "cannot be read" in refused("run", "run.yaml")


RECIPE = """
from selftrain.recipe import Recipe
from selftrain.stages import Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify
from selftrain.rules import passed

def recipe(*, rounds: int = 1) -> Recipe:
    return Recipe(paper="none", rounds=rounds, each_round=[{stages}])
"""


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ("Generate(), Train()", "stage 'train' reads Row records, but no earlier stage of the round writes any"),
        ("Generate(), Select(), Verify()", "stage 'select' reads Verdict"),
        ("Verify(), Generate()", "stage 'verify' reads Sample"),
        ("Generate(), Generate()", "two stages are named 'generate'"),
        ("Generate(), Verify(of=('genrate',))", "did you mean generate?"),
        ("Generate(model='critic')", "uses model 'critic'"),
        ("Generate(n=0)", "n is 0"),
        ("Generat()", "mine.py line 7: NameError: name 'Generat' is not defined"),
        ("Generate(temprature=1)", "unexpected keyword argument 'temprature'"),
    ],
)
def test_a_recipe_that_does_not_fit_together(stages: str, said: str) -> None:
    Path("mine.py").write_text(RECIPE.replace("{stages}", stages))
    line = refused("run", "./mine.py", "model=nano", "data=sums", "pool=4", "valid=2", "test=2")
    assert said in line


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def recipe(:\n", "does not load: SyntaxError"),
        ("import nowhere_at_all\n", "does not load: ModuleNotFoundError"),
        ("x = 1\n", "must define recipe"),
        ("def recipe():\n    return []\n", "must return a Recipe, not list"),
    ],
)
def test_a_recipe_file_that_does_not_load(source: str, said: str) -> None:
    Path("mine.py").write_text(source)
    assert said in refused("run", "./mine.py")


def begun(out: Path, *settings: object) -> None:
    """A run folder as a first stage boundary leaves it, made by the front door itself."""
    answer = call("run", "rest_em", *SMALL, "rounds=1", "max_tokens=1", "--out", out, *settings)
    assert answer.code == 0, answer
    assert "stopped: --max-tokens 1 reached" in answer.out


def test_a_recipe_that_plans_by_its_history_names_what_has_changed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = (*SMALL, "rounds=1", "--out", out)
    assert call("run", "star", *small).code in (0, 3)
    plan = (out / "round-01" / "plan.json").read_bytes()
    asked = (out / "run.yaml").read_bytes()
    assert "samples was 1, is 2" in refused("run", "star", *small, "samples=2")
    assert "recipe was" in refused("run", "rest_em", *small)
    assert (out / "round-01" / "plan.json").read_bytes() == plan
    assert (out / "run.yaml").read_bytes() == asked
    assert call("run", "star", *small).code in (0, 3)


def test_a_hint_needs_a_problem_with_an_answer(tmp_path: Path) -> None:
    said = refused("run", "star", "--preset", "nano-programs", "--out", tmp_path / "run")
    assert "gives the answer as a hint, but no train problem has one" in said
    assert not (tmp_path / "run").exists()


def test_an_answer_that_was_mended_under_the_same_id_is_noticed(tmp_path: Path) -> None:
    rows = [{"id": f"p{n}", "prompt": f"{n}+1=", "answer": str(n + 1)} for n in range(12)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "run"
    begun(out, f"data={data}")
    rows = [{**row, "answer": "7"} for row in rows]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "texts was" in refused("run", "rest_em", *SMALL, "rounds=1", f"data={data}", "--out", out)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "one"
    begun(out)
    return out


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("evaluate.max_new_tokens=9", "max_new_tokens was 8, is 9"),
        ("pool=5", "pool was 4, is 5"),
        ("seed=3", "seed was 0, is 3"),
        ("verifier=exact", 'verifier was not set, is "exact"'),
        ("prompt.suffix= now", "suffix was"),
    ],
)
def test_a_changed_setting_on_resume_is_named(stopped: Path, setting: str, said: str) -> None:
    before = (stopped / "run.yaml").read_bytes()
    line = refused("run", "rest_em", *SMALL, "rounds=1", "max_tokens=1", "--out", stopped, setting)
    assert said in line
    assert "was made with other settings" in line
    assert (stopped / "run.yaml").read_bytes() == before


def test_two_runs_on_one_folder(stopped: Path) -> None:
    holder = (
        "import fcntl,sys; f=open(sys.argv[1],'a+'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(stopped / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        line = refused("run", "rest_em", *SMALL, "rounds=1", "max_tokens=1", "--out", stopped)
        assert "is in use by another run" in line
        other.communicate(b"\n")
    # The lock is the process's, not the file's: once it is gone, the run goes on.
    with (stopped / ".lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_of_something_else() -> None:
    Path("full").mkdir()
    Path("full/thesis.tex").touch()
    assert "is not a run of selftrain (found thesis.tex)" in rejected("--out=full")


def test_a_folder_of_another_recipe(stopped: Path) -> None:
    line = refused("run", "expert_iteration", *SMALL, "rounds=1", "evaluate.max_new_tokens=9", "--out", stopped)
    assert "round-00" in line
    assert "was made with other settings" in line


def test_a_folder_of_a_newer_format() -> None:
    Path("new").mkdir()
    Path("new/run.yaml").write_text("format: 99\nrecipe: rest_em\n")
    assert "newer selftrain (folder format 99" in rejected("--out=new")


def test_a_run_folder_below_a_file() -> None:
    Path("file").touch()
    assert "is a file; choose another --out" in rejected("--out=file/run")
    assert "is a file; choose another --out" in rejected("--out=file")


def test_a_read_only_folder_for_a_user_whom_permissions_bind(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o555)
    code = "import os,sys; os.setgid(65534); os.setuid(65534); print(os.access(sys.argv[1], os.W_OK))"
    if os.getuid() == 0:
        # Root may write anywhere; another uid shows what the check sees, and a read-only mount what the command says.
        seen = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "locked")], capture_output=True, text=True, check=True
        )
        assert seen.stdout == "False\n"
        mounted = tmp_path / "mounted"
        mounted.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(mounted)], check=False).returncode:
            pytest.skip("no right to mount")
        try:
            assert "is read-only; choose another --out" in rejected(f"--out={mounted}/run")
        finally:
            subprocess.run(["umount", str(mounted)], check=True)
    else:
        assert "is read-only; choose another --out" in rejected("--out=locked/run")


def test_too_little_disk_for_the_estimate() -> None:
    line = rejected("samples=1000000000")
    assert "the run needs about" in line
    assert "ask for fewer rounds" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("verify", "numbr", "--in", "in.jsonl"), "did you mean number"),
        (("verify", "number", "--in", "nowhere.jsonl"), "there is no such file"),
        (("verify", "number"), "say either --in FILE"),
        (("verify", "number", "--in", "in.jsonl", "--out", "in.jsonl/x"), "can't be written"),
        (("status", "nowhere"), "is no run of selftrain"),
        (("status", "in.jsonl"), "is no run of selftrain"),
        (("export", "nowhere", "--to", "x"), "is no run of selftrain"),
        (("export", "nowhere", "--to", "x", "--round", "last"), "it can be best or a number"),
        (("export", "nowhere"), "missing option '--to'"),
        (("list", "models"), "it can be recipes, verifiers, data or monitors"),
        (("eval", "nanno"), "did you mean nano"),
        (("eval", "nano", "--data", "sumz"), "did you mean sums?"),
        (("eval", "nano", "--split", "train"), "it can be valid or test"),
        (("eval", "nano", "--like", "nowhere"), "is no run of selftrain"),
    ],
)
def test_other_commands(arguments: tuple[str, ...], said: str) -> None:
    Path("in.jsonl").write_text('{"id": "1", "response": "2", "answer": "2"}\n')
    assert said in refused(*arguments)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b'{"id": "1", "response": "\xff"}\n', "line 1 is not UTF-8"),
        (b'{"id": "1", "response": "2"}\n{"id": \n', "line 2 is not JSON"),
        (b'{"id": "1", "respons": "2"}\n', "line 1 has no 'response'; did you mean respons?"),
        (b'{"id": "1", "response": "2"}\n' * 2, "line 2: the id '1' is that of"),
    ],
)
def test_a_file_to_verify_with_a_fault(content: bytes, said: str) -> None:
    Path("in.jsonl").write_bytes(content)
    assert said in refused("verify", "number", "--in", "in.jsonl", "--out", "out.jsonl")
    assert not Path("out.jsonl").exists()


def test_a_wrong_round_to_export(stopped: Path) -> None:
    assert "has no round 7" in refused("export", stopped, "--to", "x", "--round", "7")
