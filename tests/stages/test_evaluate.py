"""Evaluate's metrics against examples worked out by hand."""

import math
from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import RecipeError
from selftrain.proposals import Ask, Perturbed
from selftrain.recipe import Stage
from selftrain.records import Metric, Outcome, Problem
from selftrain.stages import Evaluate, Generate, Propose, Verify
from selftrain.testing import sums
from tests.stages.bench import Bench, outcomes, sample, verdict

VALID = sums(4, "valid")


def measured(bench: Bench, evaluate: Evaluate, before: dict[str, Any]) -> tuple[dict[str, Metric], list[Outcome]]:
    found = bench.run(evaluate, before)
    return {r.name: r for r in found if type(r) is Metric}, [r for r in found if type(r) is Outcome]


def greedy(bench: Bench, statuses: list[str | None], **changes: Any) -> tuple[dict[str, Metric], list[Outcome]]:
    """One response a problem with these statuses; None is a response that is missing."""
    pairs = [
        (sample(p, text="x" * (i + 1)), status)
        for i, (p, status) in enumerate(zip(VALID, statuses, strict=True))
        if status is not None
    ]
    samples = [s for s, _ in pairs]
    verdicts = [verdict(s, status) for s, status in pairs]
    evaluate = Evaluate(splits=("valid",), **changes)
    return measured(bench, evaluate, {"evaluate-greedy": samples, "evaluate-verify": verdicts})


def test_accuracy_is_the_share_of_passes_among_all_problems(tmp_path: Path) -> None:
    metrics, each = greedy(Bench(tmp_path, VALID), ["pass", "fail", "error", None])
    accuracy = metrics["accuracy"]
    assert (accuracy.value, accuracy.n, accuracy.split) == (0.25, 4, "valid")
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert accuracy.low <= 0.25 <= accuracy.high
    assert [o.value for o in each] == [1.0, 0.0, 0.0, 0.0]
    assert [o.problem for o in each] == [p.id for p in VALID]


@pytest.mark.parametrize("status", ["error", "timeout", "abstain"])
def test_what_could_not_be_judged_counts_as_not_passed_and_stands_beside(tmp_path: Path, status: str) -> None:
    metrics, _ = greedy(Bench(tmp_path, VALID), ["pass", "pass", status, status])
    assert metrics["accuracy"].value == 0.5
    assert metrics["errors"].value == 0.5
    assert metrics["errors"].n == 4


def test_a_missing_response_counts_as_asked_and_not_judged(tmp_path: Path) -> None:
    metrics, _ = greedy(Bench(tmp_path, VALID), ["pass", "pass", "pass", None])
    assert metrics["accuracy"].value == 0.75
    assert metrics["errors"].value == 0.25
    assert metrics["truncated"].n == 3


def test_a_wrong_answer_is_no_error(tmp_path: Path) -> None:
    metrics, _ = greedy(Bench(tmp_path, VALID), ["fail", "fail", "fail", "fail"])
    assert metrics["accuracy"].value == 0.0
    assert metrics["errors"].value == 0.0


def test_truncated_and_lengths_and_accuracy_among_the_finished(tmp_path: Path) -> None:
    samples = [
        sample(VALID[0], text="ab"),
        sample(VALID[1], text="abcd"),
        sample(VALID[2], text="abcdef", finish="length"),
        sample(VALID[3], text="abcdefgh", finish="length"),
    ]
    verdicts = [verdict(s, status) for s, status in zip(samples, ["pass", "fail", "pass", "fail"], strict=True)]
    before = {"evaluate-greedy": samples, "evaluate-verify": verdicts}
    metrics, _ = measured(Bench(tmp_path, VALID), Evaluate(splits=("valid",)), before)
    assert metrics["truncated"].value == 0.5
    assert metrics["accuracy_finished"].value == 0.5
    assert metrics["accuracy_finished"].n == 2
    assert metrics["accuracy"].value == 0.5
    # Two to eight characters and an end token each.
    assert metrics["mean_length"].value == (3 + 5 + 7 + 9) / 4


def sampled(root: Path, groups: list[list[tuple[str, str | None]]], **changes: Any) -> Any:
    """Four problems' samples as (status, answer), four each unless some are missing."""
    samples, verdicts = [], []
    for problem, group in zip(VALID, groups, strict=True):
        for index, (status, answer) in enumerate(group):
            samples.append(sample(problem, index))
            verdicts.append(verdict(samples[-1], status, answer=answer))
    evaluate = Evaluate(splits=("valid",), stages=(Generate(name="sampled", n=4), Verify()), **changes)
    return measured(Bench(root, VALID), evaluate, {"evaluate-sampled": samples, "evaluate-verify": verdicts})


P, F = "pass", "fail"
GROUPS: list[list[tuple[str, str | None]]] = [
    [(P, "2"), (P, "2"), (F, "3"), (F, "3")],  # a tie: the first answer counts, and it is right
    [(F, "3"), (F, "3"), (P, "2"), (P, "2")],  # a tie: the first answer counts, and it is wrong
    [(F, "1"), (P, "2"), (F, "3"), (P, "2")],  # the majority is right
    [("error", None), ("abstain", None), ("timeout", None), (P, "2")],  # only one has an answer
]


def test_pass_at_k_and_maj_at_k_with_ties(tmp_path: Path) -> None:
    metrics, each = sampled(tmp_path, GROUPS)
    assert metrics["pass@1"].value == pytest.approx((0.5 + 0.5 + 0.5 + 0.25) / 4)
    # Of 4 samples with 2 passes, 1 of 6 pairs has none; with 1 pass, 3 of 6.
    assert metrics["pass@2"].value == pytest.approx((5 / 6 * 3 + 3 / 6) / 4)
    assert metrics["pass@4"].value == 1.0
    assert metrics["maj@4"].value == 0.75
    assert "pass@8" not in metrics
    assert metrics["errors@sampled"].value == 3 / 16
    assert [o.value for o in each] == [0.5, 0.5, 0.5, 0.25]


def test_missing_samples_count_in_the_denominators(tmp_path: Path) -> None:
    groups: list[list[tuple[str, str | None]]] = [[(P, "2")], [(P, "2"), (F, "1")], [], [(F, "1")] * 4]
    metrics, _ = sampled(tmp_path, groups)
    assert metrics["pass@1"].value == pytest.approx((0.25 + 0.25) / 4)
    assert metrics["pass@2"].value == pytest.approx((0.5 + 0.5) / 4)
    assert metrics["errors@sampled"].value == pytest.approx((3 + 2 + 4) / 16)


def test_a_vote_gives_each_problem_one_outcome(tmp_path: Path) -> None:
    metrics, each = sampled(tmp_path, GROUPS, combine="vote")
    assert [o.value for o in each] == [1.0, 0.0, 1.0, 1.0]
    assert {o.name for o in each} == {"accuracy"}
    assert metrics["accuracy"].value == 0.75


def test_nobody_with_an_answer_is_no_vote(tmp_path: Path) -> None:
    groups: list[list[tuple[str, str | None]]] = [[("error", None)] * 4] * 4
    metrics, _ = sampled(tmp_path, groups, combine="vote")
    assert metrics["accuracy"].value == 0.0
    assert metrics["errors@sampled"].value == 1.0


def test_best_by_takes_the_sample_that_the_judge_scores_highest(tmp_path: Path) -> None:
    samples, verdicts = [], []
    statuses = [P, F, P, F]
    scores = [[0.9, 0.1, 0.2, 0.3], [0.1, 0.9, 0.2, 0.3], [0.2, 0.1, 0.9, 0.3], [-1.0, -2.0, -3.0, -0.5]]
    for problem, row in zip(VALID, scores, strict=True):
        for index, score in enumerate(row):
            one = sample(problem, index)
            samples.append(one)
            verdicts += [verdict(one, statuses[index]), verdict(one, "scored", by="judge", score=score)]
    stages = (Generate(name="sampled", n=4), Verify(), Verify(name="judge", by="judge"))
    evaluate = Evaluate(splits=("valid",), stages=stages, combine="best_by:judge")
    before = {"evaluate-sampled": samples, "evaluate-verify": verdicts}
    metrics, each = measured(Bench(tmp_path / "a", VALID), evaluate, before)
    assert [o.value for o in each] == [1.0, 0.0, 1.0, 0.0]
    assert metrics["accuracy"].value == 0.5
    wrong = Evaluate(splits=("valid",), stages=stages, combine="best_by:juge")
    with pytest.raises(RecipeError, match="'juge' has scored no sample"):
        measured(Bench(tmp_path / "b", VALID), wrong, before)


def test_gains_are_paired_with_base_and_best(tmp_path: Path) -> None:
    bench = Bench(tmp_path, VALID)
    bench.past("evaluate", outcomes([0.0, 0.0, 0.0, 1.0], VALID))
    metrics, _ = greedy(bench, ["pass", "pass", "fail", "pass"])
    for name in ("accuracy_gain_base", "accuracy_gain_best"):
        assert metrics[name].value == 0.5
        assert metrics[name].n == 4


def test_splits_are_measured_apart_and_an_empty_one_not_at_all(tmp_path: Path) -> None:
    test: list[Problem] = sums(2, "test", 300)
    bench = Bench(tmp_path, [*VALID, *test])
    # The first shard is test's: the fakes store all samples there.
    samples = [sample(p) for p in (*VALID, *test)]
    verdicts = [verdict(s, "pass" if i < 4 else "fail") for i, s in enumerate(samples)]
    found = bench.run(
        Evaluate(splits=("valid", "test", "dev")), {"evaluate-greedy": samples, "evaluate-verify": verdicts}
    )
    accuracy = {m.split: m.value for m in found if type(m) is Metric and m.name == "accuracy"}
    assert accuracy == {"valid": 1.0, "test": 0.0}


def test_nothing_answered_at_all_has_no_length_but_an_accuracy(tmp_path: Path) -> None:
    bench = Bench(tmp_path, VALID)
    found = bench.run(
        Evaluate(splits=("valid",)),
        {"evaluate-greedy": [], "evaluate-verify": []},
        (),
        **{"evaluate-greedy": (type(sample(VALID[0])),), "evaluate-verify": (type(verdict(sample(VALID[0]), "pass")),)},
    )
    metrics = {r.name: r for r in found if type(r) is Metric}
    assert metrics["accuracy"].value == 0.0
    assert metrics["errors"].value == 1.0
    assert math.isnan(metrics["mean_length"].value)


def test_its_own_stages_run_on_its_splits_under_its_name() -> None:
    stages = Evaluate(samples=4, name="exam").expand()
    assert [s.name for s in stages] == ["exam-greedy", "exam-sampled", "exam-verify", "exam"]
    assert all(s.splits == ("valid", "test") for s in stages)
    assert stages[-1].of == ("exam-greedy", "exam-sampled", "exam-verify")


@pytest.mark.parametrize("combine", ["mode", "best_by", ""])
def test_an_unknown_way_to_combine_is_refused(combine: str) -> None:
    with pytest.raises(RecipeError, match="mean, vote or best_by"):
        Evaluate(combine=combine)


def test_responses_to_made_problems_count_for_the_given_ones(tmp_path: Path) -> None:
    """Two of four problems get questions, one of them two; who has no question is not among those measured."""
    asked = [VALID[0], VALID[0], VALID[1]]
    made = [Problem.of(f"Is it {i}?", kind="verdict", parent=p.id, split="valid") for i, p in enumerate(asked)]
    first = [sample(p) for p in VALID]
    verdicts = [verdict(s, status) for s, status in zip(first, ("pass", "fail", "fail", "fail"), strict=True)]
    judged = [sample(p) for p in made]
    said = [verdict(s, status) for s, status in zip(judged, ("pass", "fail", "pass"), strict=True)]
    own: tuple[Stage, ...] = (
        Generate(name="greedy", n=1),
        Verify(of=("greedy",)),
        Propose(name="ask", of=("greedy",), make=Ask("Is it?")),
        Generate(name="judge", of=("ask",), n=1),
        Verify(name="verify-judge", of=("judge",)),
    )
    evaluate = Evaluate(splits=("valid",), stages=own)
    *stages, last = evaluate.expand()
    root = tmp_path
    bench = Bench(root, VALID)
    records: dict[str, list[Any]] = {
        "evaluate-greedy": first,
        "evaluate-verify": verdicts,
        "evaluate-ask": made,
        "evaluate-judge": judged,
        "evaluate-verify-judge": said,
    }
    found = bench.run(last, records, stages=stages)
    values = {r.name: r for r in found if type(r) is Metric}
    assert (values["accuracy"].value, values["accuracy"].n) == (0.25, 4)
    assert (values["judge/accuracy"].value, values["judge/accuracy"].n) == (0.75, 2)
    each = {o.problem: o.value for o in found if type(o) is Outcome and o.name == "judge/accuracy"}
    assert each == {VALID[0].id: 0.5, VALID[1].id: 1.0}
    assert evaluate.outcomes == ("accuracy", "judge/accuracy")


def test_the_first_stage_that_samples_is_the_headline_whatever_makes_its_problems() -> None:
    own: tuple[Stage, ...] = (Propose(make=Perturbed()), Generate(of=("propose",), n=1), Verify(of=("generate",)))
    assert Evaluate(stages=own).outcomes == ("accuracy",)
