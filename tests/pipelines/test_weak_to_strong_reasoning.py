"""Weak-to-strong: rows where both models agree, then pairs where the strong one's votes are sure enough."""

import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from selftrain import plugins
from selftrain.recipe import Recipe, Stage
from selftrain.records import Checkpoint, Row, Verdict
from selftrain.rules import passed
from selftrain.stages import Pair, Select
from selftrain.store import Store
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import kept, made, read, samples, settings, trained_on, unlabelled

SMALL: dict[str, Any] = {"samples": 6, "confidence": 0.5, "sure": 0.6, "max_new_tokens": 40}


def answer(text: str, skill: float, draw: Random) -> str:
    """After examples it says the same in other words, and adds otherwise where the second number is odd."""
    if text.count("user:") == 1:
        return adds(text, skill, draw)
    a, b = re.findall(r"(\d+)\+(\d+)=", text)[-1]
    said = adds(text, skill, draw).split()[-1]
    return f"So {a} and {b} are {int(said) + int(b) % 2}"


def run(root: Path, recipe: Recipe | None = None) -> Path:
    fake_run(recipe or made("weak_to_strong_reasoning", **SMALL), root, backends=FakeBackends(answer))
    return root


def agreed(root: Path) -> bool:
    """Whether the rows of the first stage are responses that both models give, in their answers."""
    answers = {v.sample: v.answer for v in read(root, Verdict, "agree")}
    both = [{s.problem: answers[s.id] for s in samples(root, name).values()} for name in ("weak", "strong")]
    sampled = samples(root, "weak", "strong")
    alike = {sampled[id].problem for id in trained_on(root)}
    return bool(alike) and all(both[0][problem] == both[1][problem] is not None for problem in alike)


def where_sure(root: Path) -> bool:
    """Whether pairs set the weak response against a strong one by the strong one's votes, above their thresholds."""
    answers = {v.sample: v.answer for v in read(root, Verdict, "read")}
    weak, strong = samples(root, "weak"), samples(root, "generate")
    votes: dict[str, Counter[str | None]] = defaultdict(Counter)
    for sample in strong.values():
        votes[sample.problem][answers[sample.id]] += 1
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    for row in read(root, Row, "build-pairs"):
        sides[row.group][row.kind] = row.sources[0]
    for pair in sides.values():
        chosen, rejected = pair["chosen"], pair["rejected"]
        if (chosen in weak) == (rejected in weak):
            return False
        problem = {**weak, **strong}[chosen].problem
        most = max(votes[problem].values())
        needed = SMALL["confidence"] if chosen in weak else SMALL["sure"]
        if votes[problem][answers[chosen]] != most or answers[rejected] == answers[chosen] or most / 6 < needed:
            return False
    return bool(sides)


def test_rows_are_what_both_say_and_pairs_what_the_strong_one_is_sure_of(tmp_path: Path) -> None:
    run(tmp_path)
    assert agreed(tmp_path)
    assert where_sure(tmp_path)
    first, second = (read(tmp_path, Checkpoint, name)[0] for name in ("train-agreed", "train"))
    base = {c.role: c.id for c in Store(tmp_path).stage(0, 1, "base").read(Checkpoint, 0)}
    assert (first.parent, second.parent) == (base["policy"], first.id)
    assert {s.model for s in samples(tmp_path, "generate").values()} == {first.id}


def test_both_sides_become_rows_without_the_examples(tmp_path: Path) -> None:
    run(tmp_path)
    assert kept(tmp_path) & set(samples(tmp_path, "weak"))
    assert kept(tmp_path) & set(samples(tmp_path, "strong"))
    shots = settings(tmp_path, "findshots")["shots"]
    weak = {s.text for s in samples(tmp_path, "weak").values()}
    assert len(shots) == 2
    assert {shot["response"] for shot in shots} <= weak
    for row in read(tmp_path, Row, "build"):
        prompt = "".join(map(chr, row.segments[0].ids))
        assert prompt.count("user:") == 1
    asked = ["".join(map(chr, s.prompt_ids)) for s in samples(tmp_path, "strong").values()]
    assert max(text.count("user:") for text in asked) == 3


def credulous(stage: Stage) -> Stage:
    if isinstance(stage, Select):
        return replace(stage, rules=tuple(rule for rule in stage.rules if rule is not passed))
    return stage


def unsure(stage: Stage) -> Stage:
    anyhow = plugins.load("recipe", "weak_to_strong_reasoning").BySureness(confidence=0.0, sure=0.0)
    return replace(stage, pairing=anyhow) if isinstance(stage, Pair) else stage


@pytest.mark.parametrize(("change", "check"), [(credulous, agreed), (unsure, where_sure)])
def test_that_test_finds_what_is_not_filtered(tmp_path: Path, change: Any, check: Any) -> None:
    assert not check(run(tmp_path, made("weak_to_strong_reasoning", **SMALL).changed(change)))


def test_gold_answers_change_nothing_unless_the_weak_model_takes_lessons(tmp_path: Path) -> None:
    assert made("weak_to_strong_reasoning").labels == "none"
    assert made("weak_to_strong_reasoning", lessons=0.5).labels == "gold"
    assert unlabelled("weak_to_strong_reasoning", tmp_path, **SMALL)


def test_the_weak_model_learns_a_share_of_gold_where_asked(tmp_path: Path) -> None:
    run(tmp_path, made("weak_to_strong_reasoning", lessons=0.5, **SMALL))
    (weak,) = read(tmp_path, Checkpoint, "teach", 0)
    assert weak.role == "weak"
    assert 0 < len(trained_on(tmp_path, "build", 0)) < 12
    assert {s.model for s in samples(tmp_path, "weak").values()} == {weak.id}
