"""The verifiers that run what they judge: stdin_stdout, program_answer, sql, gym."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from selftrain import plugins
from selftrain.backends.sandbox import BoxedSandbox, open_sandbox
from selftrain.records import JsonValue, Problem, Score
from selftrain.verification.verify import load_verifier

COUNTDOWN = {"numbers": [4, 6, 2], "target": 26, "gym": {"task": "countdown", "settings": {}}}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BoxedSandbox]:
    with open_sandbox() as opened:
        yield opened


def judged(sandbox: BoxedSandbox, spec: str, problem: Problem, response: str) -> Score:
    return load_verifier(spec, lambda _: sandbox).judge(problem=problem, response=response)


def test_stdin_stdout_scores_the_share_that_is_right(sandbox: BoxedSandbox) -> None:
    tests = json.dumps({"inputs": ["1", "2", "3", "4"], "outputs": ["1\n", "4\n", "9\n", "16\n"]})
    problem = Problem.of("Square it.", tests=tests)
    score = judged(sandbox, "stdin_stdout", problem, "n = int(input())\nprint(n * n if n < 4 else 0)")
    assert (score.status, score.score) == ("fail", 0.75)
    assert score.why == "test 4: word 1 is '0', not '16'"
    assert judged(sandbox, "stdin_stdout", problem, "print(int(input()) ** 2)").score == 1.0


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("while True: pass", "over its time limit of 1 s"),
        ("print(1)\nraise ValueError('x')", "exit status 1: ValueError: x"),
        ("print(1, 2)", "2 words printed, 1 expected"),
        ("pass", "0 words printed, 1 expected"),
    ],
)
def test_stdin_stdout_says_what_is_wrong(sandbox: BoxedSandbox, program: str, why: str) -> None:
    problem = Problem.of("?", tests='[{"input": "", "output": "1"}]')
    score = judged(sandbox, '{"name": "stdin_stdout", "seconds": 1}', problem, program)
    assert (score.status, score.why) == ("fail", f"test 1: {why}")


def test_stdin_stdout_never_gives_a_program_what_is_expected(sandbox: BoxedSandbox) -> None:
    program = "import gc\nfor o in gc.get_objects():\n    if isinstance(o, dict) and '4242' in o.values(): print(4242)"
    problem = Problem.of("?", tests='[{"input": "", "output": "4242"}]')
    assert judged(sandbox, "stdin_stdout", problem, program).status == "fail"


def test_stdin_stdout_allows_for_rounding_where_it_is_asked_to(sandbox: BoxedSandbox) -> None:
    problem = Problem.of("?", tests='[{"input": "", "output": "0.333333 x"}]')
    assert judged(sandbox, "stdin_stdout", problem, "print(1 / 3, 'x')").status == "fail"
    tolerant = '{"name": "stdin_stdout", "tolerance": 1e-5}'
    assert judged(sandbox, tolerant, problem, "print(1 / 3, 'x')").status == "pass"
    assert judged(sandbox, tolerant, problem, "print(1 / 3, 'y')").status == "fail"
    assert judged(sandbox, tolerant, problem, "print(float('nan'), 'x')").status == "fail"


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        ("answer = 3\nprint(4)", "3"),
        ("print(1)\n5 + 1", "6"),
        ("def solution():\n    return 7\nprint(solution())", "7"),
        ("def solution():\n    return 7", "7"),
        ("def answer(): return 8\nprint(answer())", "8"),
        ("print('x')\nprint('Tom  has\\t12 eggs')", "12"),
        ("from fractions import Fraction\nFraction(1, 3)", "1/3"),
        ("print('yes')", "yes"),
        ("x = 1", None),
    ],
)
def test_program_answer_takes_a_programs_result(sandbox: BoxedSandbox, program: str, answer: str | None) -> None:
    for gold in ("12", "yes", None):
        problem = Problem.of("?", answer=gold)
        assert judged(sandbox, "program_answer", problem, program).answer == answer


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELECT 1; SELECT 1", "You can only execute one statement at a time."),
        ("ATTACH '/tmp/x' AS y", "not authorized"),
        ("PRAGMA query_only = OFF", "not authorized"),
        ("DROP TABLE t", "not authorized"),
        ("SELECT load_extension('x')", "not authorized"),
        ("SELECT writefile('/tmp/x', 'y')", "no such function: writefile"),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
            "over its time limit of 1 s",
        ),
    ],
)
def test_sql_only_reads(sandbox: BoxedSandbox, query: str, why: str) -> None:
    problem = Problem.of("?", answer="SELECT 1", tests='{"schema": "CREATE TABLE t (a)"}')
    score = judged(sandbox, '{"name": "sql", "seconds": 1}', problem, query)
    assert (score.status, score.why) == ("fail", why)


def test_sql_compares_rows_by_value(sandbox: BoxedSandbox) -> None:
    problem = Problem.of("?", answer="SELECT 1.0, 'a', NULL, x'00ff'", tests='{"schema": ""}')
    for query, status in {
        "SELECT 1, 'a', NULL, x'00FF'": "pass",
        "SELECT 1.0000000001, 'a', NULL, x'00ff'": "pass",
        "SELECT '1', 'a', NULL, x'00ff'": "fail",
        "SELECT 1, 'A', NULL, x'00ff'": "fail",
        "SELECT 1, 'a', 0, x'00ff'": "fail",
        "SELECT 1, 'a', NULL": "fail",
    }.items():
        assert judged(sandbox, "sql", problem, query).status == status, query


GYM_SPOOFS = (
    "__import__('os')._exit(0)",
    "exec('raise SystemExit(0)')",
    "(lambda: 26)()",
    "eval('26') + 0*(4*6*2)",
    "[c for c in ().__class__.__base__.__subclasses__()]",
    "S('26') + 4*6 + 2",
    "print('{\"score\": 1.0}') or 4*6+2",
    "(exec)('print(1)')",
    "getattr(E, 'x') + 4*6 + 2",
    "4*6 + 2 .__class__",
    "sin.__call__(4*6*2)",
    "Symbol('x')",
    "type (4*6+2)",
    "N(open)(4, 6, 2)",
)


@pytest.mark.parametrize("answer", GYM_SPOOFS)
def test_gym_evaluates_nothing_but_formulas(sandbox: BoxedSandbox, answer: str) -> None:
    score = judged(sandbox, "gym", Problem.of("?", answer="4*6 + 2", meta=COUNTDOWN), f"<answer>{answer}</answer>")
    assert (score.status, score.why) == ("fail", "it is neither a formula nor a literal")


@pytest.mark.parametrize("answer", ["9**9**9**9**9", "factorial(10**9) + 4*6*2"])
def test_gym_does_not_wait_for_what_never_ends(sandbox: BoxedSandbox, answer: str) -> None:
    spec = '{"name": "gym", "seconds": 2}'
    score = judged(sandbox, spec, Problem.of("?", answer="4*6 + 2", meta=COUNTDOWN), f"#### {answer}")
    assert score.status == "fail"


def test_gym_asks_the_scorer_of_problems_it_drew(sandbox: BoxedSandbox) -> None:
    settings: Mapping[str, JsonValue] = {"min_numbers": 3, "max_numbers": 3}
    drawn = plugins.load("data", "gym").load(
        train=3, valid=0, test=0, seed=1, what="countdown", verifier="gym", **settings
    )
    for problem in drawn["train"]:
        assert problem.meta["gym"]["settings"] == settings
        right = judged(sandbox, problem.verifier, problem, f"<answer>{problem.meta['expression']}</answer>")
        assert right.status == "pass", right
        wrong = judged(sandbox, problem.verifier, problem, f"<answer>{problem.meta['expression']} + 1</answer>")
        assert wrong.status == "fail", wrong
        assert wrong.score is not None
        assert 0 < wrong.score < 1


UNANSWERED = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
"""Tasks that give no answer of their own, so there is none to score here."""
COMPOSED = {"composite"}
"""Tasks that need settings to draw anything."""


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
DRAW = f"""
import json, reasoning_gym
from reasoning_gym.factory import DATASETS
from selftrain.backends.gym import _item
tasks = sorted(set(DATASETS) - {UNANSWERED | COMPOSED!r})
items = {{task: _item(reasoning_gym.create_dataset(task, seed=7, size=2)[0]) for task in tasks}}
# Some tasks print dots while they draw.
print()
print(json.dumps(items))
"""


@pytest.mark.slow
def test_gym_gives_full_marks_to_the_answers_of_every_task(sandbox: BoxedSandbox) -> None:
    drawn = subprocess.run(
        [sys.executable, "-P", "-c", DRAW], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    items = json.loads(drawn.stdout.splitlines()[-1])
    assert len(items) >= 100
    missed = {}
    for task, (question, answer, metadata, packed) in items.items():
        about = {"task": task, "settings": {}} | ({} if packed is None else {"packed": packed})
        problem = Problem.of(question, answer=answer, meta={**metadata, "gym": about})
        score = judged(sandbox, "gym", problem, f"<answer>{answer}</answer>")
        if score.status != "pass":
            missed[task] = score
    assert missed == {}
