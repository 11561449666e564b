"""What `selftrain verify --check` finds in verifiers that break the contract, one way each."""

import json
from pathlib import Path

import pytest

from selftrain.plugins import available
from selftrain.verification.awkward import AWKWARD
from selftrain.verification.conformance import Report, check
from tests.front_door import call, refused

HEAD = """
from selftrain import Case, Score
cases = [Case(answer="4", response="so 4", expect="pass"), Case(answer="4", response="5", expect="fail")]
"""
GOOD = "def verify(*, problem, response): return response.endswith(problem.answer)"


def checked(folder: Path, source: str, head: str = HEAD) -> Report:
    path = folder / "mine.py"
    path.write_text(head + source)
    return check(str(path))


def states(report: Report) -> dict[str, str]:
    return {finding.name: finding.state for finding in report.findings if finding.state != "ok"}


def test_a_verifier_that_keeps_the_contract_passes_each_check(tmp_path: Path) -> None:
    report = checked(tmp_path, GOOD)
    assert report.passed, str(report)
    assert not states(report)
    names = [
        "signature",
        "settings",
        "cases",
        "own cases",
        "no gold",
        "answer",
        "awkward",
        "repeats",
        "time",
        "verdicts",
    ]
    assert [finding.name for finding in report.findings] == names


def test_the_command_prints_a_line_a_check_and_its_exit_code_says_whether_it_passed(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(HEAD + GOOD)
    bad.write_text(HEAD + "def verify(problem, response): return True")
    answer = call("verify", good, "--check")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == f"{good}: 10 ok, 0 warn, 0 fail"
    assert all(line.startswith("ok ") for line in answer.out.splitlines()[:-1])
    answer = call("verify", bad, "--check", "--json")
    assert answer.code == 1
    told = json.loads(answer.out)
    assert told["passed"] is False
    assert told["findings"][0]["do"] == "write def verify(*, problem, response)"
    assert "either --in FILE" in refused("verify", good)
    assert "either --in FILE" in refused("verify", good, "--check", "--in", good)
    assert "did you mean number" in refused("verify", "nummber", "--check")


@pytest.mark.parametrize(
    ("source", "name", "state", "what"),
    [
        (
            "def verify(problem, response): return True",
            "signature",
            "fail",
            "problem, response can be given by position",
        ),
        ("def verify(*, problem, answer='x'): return True", "signature", "fail", "it has no parameter response"),
        ("def verify(*, problem, response): return True", "own cases", "fail", "'5' is pass, not fail"),
        (
            "def verify(*, problem, response): return response.endswith(problem.answer or 'none')",
            "no gold",
            "warn",
            "what is right turns wrong where the problem has no answer and no tests: 'so 4'",
        ),
        (
            "def verify(*, problem, response):\n"
            "    if problem.answer is None: return Score(status='error')\n"
            "    found = problem.answer in response\n"
            "    return Score(status='pass' if found else 'fail', answer=problem.answer if found else response)",
            "answer",
            "fail",
            "'so 4' reads as '4' or 'so 4'",
        ),
        (
            "import os\n"
            "def verify(*, problem, response):\n"
            "    if not response: os._exit(3)\n"
            "    return response.endswith(problem.answer)",
            "awkward",
            "fail",
            "empty: the verifier's process ended: exit status 3",
        ),
        (
            "import time\n"
            "time_limit = 0.3\n"
            "def verify(*, problem, response):\n"
            "    time.sleep(len(response) / 1e6)\n"
            "    return response.endswith(problem.answer)",
            "awkward",
            "fail",
            "a megabyte of one letter: the verifier took longer than its limit of 0.3 s",
        ),
        (
            "def verify(*, problem, response):\n    response.encode()\n    return response.endswith(problem.answer)",
            "awkward",
            "warn",
            "lone surrogates: \"UnicodeEncodeError: 'utf-8' codec can't encode",
        ),
        (
            "def verify(*, problem, response): return not response or response.endswith(problem.answer)",
            "awkward",
            "warn",
            "it passes a response that is empty",
        ),
        (
            "seen = set()\n"
            "def verify(*, problem, response):\n"
            "    new = (problem.id, response) not in seen\n"
            "    seen.add((problem.id, response))\n"
            "    return new and response.endswith(problem.answer)",
            "repeats",
            "fail",
            "judged a second time, verdicts change: case 0 was pass, is fail",
        ),
        (
            "import os\n"
            "def verify(*, problem, response):\n"
            "    right = response.endswith(problem.answer)\n"
            "    return Score(status='pass' if right else 'fail', score=os.getpid())",
            "repeats",
            "fail",
            "judged in another process and order, verdicts change",
        ),
        (
            "import time\n"
            "time_limit = 0.4\n"
            "def verify(*, problem, response):\n"
            "    time.sleep(0.25 if response == '5' else 0)\n"
            "    return response.endswith(problem.answer)",
            "time",
            "warn",
            "the slowest case takes 0.25",
        ),
        (
            "import time\n"
            "time_limit = 0.4\n"
            "def verify(*, problem, response):\n"
            "    time.sleep(9 if response == '5' else 0)\n"
            "    return response.endswith(problem.answer)",
            "time",
            "fail",
            "s of 0.4 s",
        ),
    ],
)
def test_each_breach_is_found_and_says_what_to_do(
    source: str, name: str, state: str, what: str, tmp_path: Path
) -> None:
    report = checked(tmp_path, source)
    found = [finding for finding in report.findings if finding.name == name]
    assert [(each.state, what in each.what, bool(each.do)) for each in found] == [(state, True, True)], str(report)
    assert report.passed == ("fail" not in states(report).values())


@pytest.mark.parametrize(
    ("cases", "what"),
    [
        ("cases = []", "of its 0 cases none expects fail and none pass"),
        ("from selftrain import Case\ncases = [Case(response='', expect='fail')]", "of its 1 cases none expects pass"),
        ("cases = [('so 4', True)]", "they must be of selftrain.Case; one is ('so 4', True)"),
    ],
)
def test_without_cases_nothing_else_can_be_said(cases: str, what: str, tmp_path: Path) -> None:
    report = checked(tmp_path, GOOD, head=f"{cases}\n")
    assert states(report) == {"cases": "fail"}
    assert what in str(report)


SETTINGS = """
from dataclasses import dataclass
@dataclass({})
class Verifier:
    {}
    def verify(self, *, problem, response): return response.endswith(problem.answer)
"""


def test_settings_must_fit_into_a_run_file(tmp_path: Path) -> None:
    for field, options, state in (
        ("ends: tuple[str, ...] = ('a', 'b')", "frozen=True", {}),
        ("ends: bytes = b'\\xff'", "frozen=True", {"settings": "fail"}),
        ("ends: int = 3", "frozen=False", {"settings": "warn"}),
    ):
        (tmp_path / field[:10]).mkdir()
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        report = checked(folder, SETTINGS.format(options, field))
        assert states(report) == state, str(report)


def test_a_verifier_of_groups_is_checked_in_groups(tmp_path: Path) -> None:
    head = """
from collections import Counter
from selftrain import Case, Score
cases = [
    Case(prompt="a", response="4", expect="pass"),
    Case(prompt="a", response="4", expect="pass"),
    Case(prompt="a", response="5", expect="fail"),
]
"""
    vote = """
def verify_group(*, problem, attempts):
    votes = Counter(each.text for each in attempts)
    most = max(votes.values())
    return [Score(status="pass" if votes[each.text] == most else "fail", answer=each.text) for each in attempts]
"""
    assert not states(checked(tmp_path, vote, head))
    (tmp_path / "short").mkdir()
    short = checked(tmp_path / "short", "def verify_group(*, problem, attempts): return [True]", head)
    assert states(short)["own cases"] == "fail"
    assert "must return one Score for each of 3 samples, not 1" in str(short)


def test_cases_with_settings_are_judged_with_them(tmp_path: Path) -> None:
    source = SETTINGS.format("frozen=True", "end: str = ''").replace("problem.answer", "self.end or problem.answer")
    cases = "cases = [*cases, Case(answer='4', response='five', expect='pass', settings={'end': 'five'})]\n"
    assert not states(checked(tmp_path, cases + source))


def test_scores_alone_need_no_pass_and_fail(tmp_path: Path) -> None:
    head = "from selftrain import Case\ncases = [Case(response='long', expect='scored')]\n"
    report = checked(tmp_path, "def verify(*, problem, response): return float(len(response))", head)
    assert not states(report)


@pytest.mark.parametrize("resource", ["model", "scorer"])
def test_what_asks_a_model_is_looked_at_but_not_judged(resource: str, tmp_path: Path) -> None:
    report = checked(tmp_path, f"def verify(*, problem, response, {resource}): return 1.0", head="")
    assert report.passed
    assert states(report) == {"cases": "warn"}
    assert f"it asks a {resource}" in str(report)


def test_what_a_verifier_repeats_of_a_response_can_be_stored(tmp_path: Path) -> None:
    source = (
        "def verify(*, problem, response):\n"
        "    right = response.endswith(problem.answer or 'none')\n"
        "    status = 'error' if problem.answer is None else 'pass' if right else 'fail'\n"
        "    return Score(status=status, why=response, answer=response)"
    )
    assert not states(checked(tmp_path, source))


def test_awkward_responses_are_what_they_are_called() -> None:
    assert [name for name, text in AWKWARD.items() if len(text) > 1_000_000] == [
        name for name in AWKWARD if name.startswith("a megabyte")
    ]
    with pytest.raises(UnicodeEncodeError):
        AWKWARD["lone surrogates"].encode()
    assert "\x00" in AWKWARD["control characters"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(available("verifier")))
def test_the_built_in_verifiers_keep_the_contract(name: str) -> None:
    report = check(name)
    assert report.passed, str(report)
