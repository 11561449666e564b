"""Select: a pick for every attempt, with the rule that decided it."""

from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import RecipeError
from selftrain.pairings import GoldOwn
from selftrain.records import Pick, Sample, Verdict
from selftrain.rules import AtMost, distinct, failed, passed
from selftrain.stages import Pair, Select
from selftrain.testing import sums
from tests.stages.bench import Bench, sample, verdict

TRAIN = sums(2)
STATUSES = ["pass", "fail", "error", "pass", "pass", "timeout", "abstain"]
TEXTS = ["a", "b", "c", "A ", "d", "e", "f"]


def attempts() -> dict[str, Any]:
    samples = [sample(p, i, text) for p in TRAIN for i, text in enumerate(TEXTS)]
    verdicts = [verdict(s, STATUSES[s.index]) for s in samples]
    return {"generate": samples, "verify": verdicts}


def decided(root: Path, *rules: Any, before: dict[str, Any] | None = None) -> dict[int, tuple[str, str]]:
    """Index of a sample of the first problem -> its side and rule."""
    before = before or attempts()
    found = Bench(root, TRAIN).run(Select(rules=rules), before)
    assert sorted(p.sample for p in found) == sorted(s.id for s in before["generate"])
    return {int(p.sample.rpartition("-")[2]): (p.side, p.rule) for p in found if p.problem == TRAIN[0].id}


def test_every_attempt_has_a_pick_that_names_the_rule(tmp_path: Path) -> None:
    assert decided(tmp_path, passed, distinct, AtMost(1)) == {
        0: ("kept", "AtMost(1)"),
        1: ("dropped", "passed"),
        2: ("dropped", "passed"),
        3: ("dropped", "distinct"),
        4: ("dropped", "AtMost(1)"),
        5: ("dropped", "passed"),
        6: ("dropped", "passed"),
    }


def test_caps_are_for_each_problem(tmp_path: Path) -> None:
    found = Bench(tmp_path, TRAIN).run(Select(rules=(passed, AtMost(2))), attempts())
    kept = [p.problem for p in found if p.side == "kept"]
    assert kept == [TRAIN[0].id] * 2 + [TRAIN[1].id] * 2


def test_errors_timeouts_and_abstentions_are_neither_kept_nor_wrong(tmp_path: Path) -> None:
    for name, rule in (("right", passed), ("wrong", failed)):
        kept = {index for index, (side, _) in decided(tmp_path / name, rule).items() if side == "kept"}
        assert kept == ({0, 3, 4} if rule is passed else {1})


def test_no_rule_keeps_all(tmp_path: Path) -> None:
    assert set(decided(tmp_path).values()) == {("kept", "all")}


def test_nothing_kept_is_an_outcome_not_a_crash(tmp_path: Path) -> None:
    samples = [sample(p) for p in TRAIN]
    before = {"generate": samples, "verify": [verdict(s, "fail") for s in samples]}
    assert decided(tmp_path, passed, distinct, before=before) == {0: ("dropped", "passed")}


@pytest.mark.parametrize(("sabotaged", "kept"), [(False, {0, 4}), (True, {0, 3, 4})])
def test_copies_are_left_out_and_without_distinct_they_are_not(tmp_path: Path, sabotaged: bool, kept: set[int]) -> None:
    rules = (passed,) if sabotaged else (passed, distinct)
    assert {i for i, (side, _) in decided(tmp_path, *rules).items() if side == "kept"} == kept


def test_a_cap_that_does_nothing_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def most(root: Path) -> int:
        found = Bench(root, TRAIN).run(Select(rules=(passed, AtMost(1))), attempts())
        counts = [sum(1 for p in found if p.problem == problem.id and p.side == "kept") for problem in TRAIN]
        return max(counts)

    assert most(tmp_path / "sound") == 1
    monkeypatch.setattr(AtMost, "__call__", lambda self, attempts: attempts)
    assert most(tmp_path / "sabotaged") == 3


def test_verdicts_are_read_only_where_a_rule_needs_them() -> None:
    assert Select(rules=(passed,)).reads == (Sample, Verdict)
    assert Select(rules=(distinct,)).reads == (Sample,)


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_a_share_is_between_0_and_1(ratio: float) -> None:
    with pytest.raises(RecipeError, match="between 0 and 1"):
        Select(ratio=ratio)


def test_every_attempt_is_in_a_pair_or_dropped(tmp_path: Path) -> None:
    before = attempts()
    found: list[Pick] = Bench(tmp_path, TRAIN).run(Pair(), before)
    assert {p.sample for p in found} == {s.id for s in before["generate"]}
    groups: dict[str, dict[str, str]] = {}
    for pick in found:
        if pick.group:
            groups.setdefault(pick.group, {})[pick.side] = pick.sample.rpartition("-")[2]
    # Attempt 1 is the one that was found wrong; 3 says the same as 0.
    assert sorted(tuple(sides.items()) for sides in groups.values()) == [
        (("chosen", right), ("rejected", "1")) for right in ("0", "0", "4", "4")
    ]
    dropped = {p.sample.rpartition("-")[2] for p in found if p.side == "dropped"}
    assert dropped == {"2", "3", "5", "6"}


def test_what_cites_a_hint_is_in_no_pair(tmp_path: Path) -> None:
    (problem, *_) = TRAIN
    hinted = sample(problem, 0, "The given answer is 2.", template="hint")
    others = [sample(problem, 1, "2"), sample(problem, 2, "3")]
    said = [verdict(hinted, "pass"), verdict(others[0], "pass"), verdict(others[1], "fail")]
    found = Bench(tmp_path, TRAIN).run(Pair(), {"generate": [hinted, *others], "verify": said})
    assert {p.sample: p.side for p in found} == {hinted.id: "dropped", others[0].id: "chosen", others[1].id: "rejected"}


def test_a_pairing_without_verdicts_needs_none(tmp_path: Path) -> None:
    gold = [sample(p, 9, "1+1=2", finish="gold") for p in TRAIN]
    own = [sample(p, 0) for p in TRAIN]
    stage = Pair(pairing=GoldOwn())
    assert stage.reads == (Sample,)
    found = Bench(tmp_path, TRAIN).run(stage, {"gold": gold, "generate": own})
    assert [p.side for p in found] == ["chosen", "rejected"] * len(TRAIN)


def test_earlier_rounds_join_with_their_attempts_as_far_back_as_asked(tmp_path: Path) -> None:
    bench = Bench(tmp_path, TRAIN[:1])
    own = [sample(TRAIN[0], at, f"round {at}", id=f"own{at}") for at in range(4)]
    bench.past("nothing", [])
    for each in own[1:3]:
        bench.past("generate", [each])
    gold = sample(TRAIN[0], 9, "1+1=2", finish="gold")
    for back, wanted in ((0, {"own3"}), (1, {"own2", "own3"}), (9, {"own1", "own2", "own3"})):
        stage = Pair(name=f"pair{back}", pairing=GoldOwn(9), earlier=back)
        found = bench.run(stage, {f"gold{back}": [gold], f"generate{back}": own[3:]})
        assert {pick.sample for pick in found if pick.side == "rejected"} == wanted
    with pytest.raises(RecipeError, match="earlier is -1"):
        Pair(earlier=-1)
