from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import PluginError
from selftrain.records import Problem, Sample, Score
from selftrain.verification.verify import load_verifier, parse_spec

PROBLEM = Problem.of("?", answer="7")


def written(folder: Path, source: str, name: str = "mine.py") -> str:
    (folder / name).write_text(source)
    return str(folder / name)


def test_a_spec_is_a_name_a_path_or_json() -> None:
    assert parse_spec("number") == ("number", {})
    assert parse_spec("./mine.py") == ("./mine.py", {})
    assert parse_spec(' {"name": "number", "tolerance": 1e-6}') == ("number", {"tolerance": 1e-6})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nummber", "unknown verifier 'nummber'; did you mean number"),
        ("./nowhere.py", "there is no file"),
        ('{"name": "number"', "is not JSON"),
        ('{"tolerance": 1}', 'has no "name"'),
        ('{"name": "number", "tolerence": 1}', "no setting 'tolerence'; did you mean tolerance"),
        ('{"name": "number", "tolerance": "much"}', "tolerance: Input should be a valid number"),
        ('{"name": "choice", "letters": "AB"}', "no setting 'letters' .it has none"),
    ],
)
def test_a_wrong_spec_is_one_clear_line(spec: str, message: str) -> None:
    with pytest.raises(PluginError, match=message) as raised:
        load_verifier(spec)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "must define Verifier or verify or verify_group"),
        ("class Verifier:\n    def verify(self, *, problem, response): return True", "must be a dataclass"),
        ("from dataclasses import dataclass\n@dataclass\nclass Verifier:\n    a: int = 1", "it defines neither"),
        (
            "from dataclasses import dataclass\n@dataclass\nclass Verifier:\n    a: int\n"
            "    def verify(self, *, problem, response): return True",
            "needs settings",
        ),
        ("def verify(*, problem, response, gpu): return True", "'gpu'; it can ask for sandbox, model, scorer, judge"),
        ("parts = [3]\ndef verify(*, problem, response, judge): return True", "must be specs of verifiers"),
        ("parts = ['nombre']\ndef verify(*, problem, response, judge): return True", "part 'nombre': unknown verifier"),
        ("parts = [__file__]\ndef verify(*, problem, response, judge): return True", "is a part of itself"),
        ("time_limit = 0\ndef verify(*, problem, response): return True", "seconds above 0"),
        (
            "def verify(*, problem, response): return True\ndef verify_group(*, problem, attempts, model): return []",
            "its verify and verify_group must ask for the same resources",
        ),
        ("import nonsense_module", "ModuleNotFoundError"),
    ],
)
def test_a_file_that_is_no_verifier_is_the_users_error(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        load_verifier(written(tmp_path, source))


def test_a_functions_file_takes_no_settings(tmp_path: Path) -> None:
    path = written(tmp_path, "def verify(*, problem, response): return True")
    with pytest.raises(PluginError, match="has no settings; it was given tolerance"):
        load_verifier(f'{{"name": "{path}", "tolerance": 1}}')


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("True", Score(status="pass")),
        ("False", Score(status="fail")),
        ("0.5", Score(status="scored", score=0.5)),
        ("3", Score(status="scored", score=3.0)),
        ("numpy.bool_(True)", Score(status="pass")),
        ("numpy.float32(0.5)", Score(status="scored", score=0.5)),
        ("Score(status='abstain', why='x' * 5000)", Score(status="abstain", why="x" * 1000)),
        ("Score(status='scored', step_scores=(1, 0))", Score(status="scored", step_scores=(1.0, 0.0))),
    ],
)
def test_what_a_verifier_returns_becomes_a_score(tmp_path: Path, returned: str, expected: Score) -> None:
    source = f"import numpy\nfrom selftrain.records import Score\ndef verify(*, problem, response): return {returned}"
    assert load_verifier(written(tmp_path, source)).judge(problem=PROBLEM, response="") == expected


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", "must return a bool, a float or a Score; it returned None"),
        ("'pass'", "it returned a str"),
        ("float('nan')", "not a finite number"),
        ("Score(status='passed')", "returned the status 'passed'; one of pass, fail"),
        ("Score(status='scored')", "'scored' without a score"),
    ],
)
def test_what_no_verifier_may_return(tmp_path: Path, returned: str, message: str) -> None:
    source = f"from selftrain.records import Score\ndef verify(*, problem, response): return {returned}"
    verifier = load_verifier(written(tmp_path, source))
    with pytest.raises((TypeError, ValueError), match=message):
        verifier.judge(problem=PROBLEM, response="")


def test_settings_reach_a_dataclass_and_what_it_declares_is_read(tmp_path: Path) -> None:
    source = (
        "from dataclasses import dataclass\nfrom selftrain.records import Case\n"
        "cases = [Case(response='abc', expect='pass'), Case(response='', expect='fail')]\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Verifier:\n    least: int = 1\n    time_limit = 2\n"
        "    def verify(self, *, problem, response): return len(response) >= self.least\n"
    )
    path = written(tmp_path, source)
    verifier = load_verifier(f'{{"name": "{path}", "least": "3"}}')
    assert (verifier.name, verifier.asks, verifier.time_limit, verifier.group) == (path, frozenset(), 2.0, False)
    assert len(verifier.cases) == 2
    assert [verifier.judge(problem=PROBLEM, response=text).status for text in ("ab", "abc")] == ["fail", "pass"]


def test_a_group_verifier_must_answer_for_each(tmp_path: Path) -> None:
    def sample(index: int) -> Sample:
        nothing: dict[str, Any] = {"prompt_ids": (), "completion_ids": (), "tokenizer": "", "model": ""}
        return Sample(id=f"{index}", problem=PROBLEM.id, index=index, text="a", finish="stop", **nothing)

    path = written(tmp_path, "def verify_group(*, problem, attempts): return [a.index > 0 for a in attempts][:2]")
    verifier = load_verifier(path)
    assert verifier.group
    scores = verifier.judge_group(problem=PROBLEM, attempts=[sample(0), sample(1)])
    assert [score.status for score in scores] == ["fail", "pass"]
    with pytest.raises(TypeError, match="one Score for each of 3 samples, not 2"):
        verifier.judge_group(problem=PROBLEM, attempts=[sample(n) for n in range(3)])


@pytest.mark.parametrize("name", ["number", "expression", "exact", "choice"])
def test_gold_and_response_cannot_be_swapped(name: str) -> None:
    with pytest.raises(TypeError, match="positional"):
        load_verifier(name).call(PROBLEM, "7")


def test_a_verifier_calls_others_and_asks_for_what_they_ask_for(tmp_path: Path) -> None:
    short = tmp_path / "short.py"
    short.write_text("time_limit = 2\ndef verify(*, problem, response, sandbox): return sandbox == response")
    source = (
        f"parts = ['number', {str(short)!r}]\n"
        "def verify(*, problem, response, judge):\n"
        "    said = [judge(spec, problem=problem, response=response).status for spec in (*parts, '')]\n"
        "    return said == ['pass', 'pass', 'error']\n"
    )
    gave: list[str] = []

    def give(resource: str) -> object:
        gave.append(resource)
        return "7"

    verifier = load_verifier(written(tmp_path, source), give)
    assert (verifier.asks, verifier.time_limit) == (frozenset({"sandbox"}), 12.0)
    # '' is the problem's own verifier, which finds no such option here.
    problem = Problem.of("?", answer="7", verifier='{"name": "choice"}')
    assert verifier.judge(problem=problem, response="7").status == "pass"
    assert gave == ["sandbox"]


def test_a_part_judges_one_response_at_a_time(tmp_path: Path) -> None:
    group = tmp_path / "group.py"
    group.write_text("def verify_group(*, problem, attempts): return [True for _ in attempts]")
    source = f"parts = [{str(group)!r}]\ndef verify(*, problem, response, judge): return True"
    with pytest.raises(PluginError, match="all of a problem's samples, not one response"):
        load_verifier(written(tmp_path, source))


def test_a_resource_that_nobody_gives_is_an_error_of_the_call(tmp_path: Path) -> None:
    verifier = load_verifier(written(tmp_path, "def verify(*, problem, response, model): return True"))
    with pytest.raises(PluginError, match="no model is there"):
        verifier.judge(problem=PROBLEM, response="")
