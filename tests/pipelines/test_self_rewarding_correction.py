"""Self-rewarding correction: a trace's verdict is the checker's, its final answer is right, both kinds are as many."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from selftrain.recipe import Stage
from selftrain.records import Row, Verdict
from selftrain.testing import FakeBackends, FakeTokens, adds, fake_run
from tests.pipelines.stored import made, problems, read, samples, settings, trained_on

SMALL: dict[str, Any] = {"rounds": 1, "samples": 3, "tries": 2, "max_new_tokens": 60}


def answer(text: str, skill: float, draw: Random) -> str:
    """Says yes and no at random, and something else; a revision is right every other time."""
    if text.rstrip().endswith("Answer yes or no."):
        return draw.choice(["yes", "no", "who knows"])
    return f"{draw.randrange(99)}: {adds(text, 0.5 if 'Try again.' in text else skill, draw)}"


def kinds(root: Path) -> Counter[str]:
    """How many rows there are of each kind of trace."""
    traces = samples(root, "trace")
    return Counter(traces[id].template for id in trained_on(root))


def checked_out(root: Path) -> bool:
    """Whether every row's verdict is what the checker said of its attempt, and its last answer the right one."""
    tried = {v.sample: v.status for v in read(root, Verdict, "verify")}
    traces, given = samples(root, "trace"), problems(root)
    rows = read(root, Row, "build")
    assert rows
    for row in rows:
        trace = traces[row.sources[0]]
        text = FakeTokens().decode(row.segments[1].ids)
        attempt, said, revision = text.partition("[VERIFY] ")
        assert said
        if revision.startswith("correct") is not (tried[trace.parents[0]] == "pass"):
            return False
        last = revision.removeprefix("wrong\n") if revision.startswith("wrong") else attempt
        if last.split()[-1] != given[trace.problem].answer:
            return False
    return True


def test_verdict_and_final_answer_check_out_and_kinds_are_balanced(tmp_path: Path) -> None:
    fake_run(made("self_rewarding_correction", **SMALL), tmp_path, backends=FakeBackends(answer))
    assert checked_out(tmp_path)
    found = kinds(tmp_path)
    assert found["confirmed"] == found["corrected"] > 0
    # More of one kind were there to be had.
    assert max(Counter(s.template for s in samples(tmp_path, "trace").values()).values()) > found["confirmed"]
    assert set(settings(tmp_path, "select")["below"]) == {"confirmed", "corrected"}
    rows = read(tmp_path, Row, "build")
    prompts = {FakeTokens().decode(row.segments[0].ids) for row in rows}
    assert prompts <= {f"user: {p.text}\n" for p in problems(tmp_path).values()}


def test_a_trace_with_the_wrong_verdict_is_seen(tmp_path: Path) -> None:
    def harsh(stage: Stage) -> Stage:
        return replace(stage, right="\n[VERIFY] wrong") if stage.name == "trace" else stage  # type: ignore[call-arg]

    recipe = made("self_rewarding_correction", **SMALL).changed(harsh)
    fake_run(recipe, tmp_path, backends=FakeBackends(answer))
    assert not checked_out(tmp_path)


def test_without_a_correction_nothing_is_left_to_balance(tmp_path: Path) -> None:
    def stubborn(text: str, skill: float, draw: Random) -> str:
        return adds(text, 0.0, draw) if "Try again." in text else answer(text, skill, draw)

    fake_run(made("self_rewarding_correction", **SMALL), tmp_path, backends=FakeBackends(stubborn))
    assert samples(tmp_path, "trace")
    assert trained_on(tmp_path) == set()
