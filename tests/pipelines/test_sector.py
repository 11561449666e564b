"""SECToR: a window of levels moves with the round; the majority's answer becomes a row without its steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from selftrain.records import Problem, Row
from selftrain.testing import FakeBackends, FakeTokens, adds, fake_run, sums
from tests.pipelines.stored import made, problems, read, samples, unlabelled

SMALL: dict[str, Any] = {"samples": 5, "first": 1, "width": 1, "max_new_tokens": 40}
LEVELS = [replace(p, meta={"digits": 1 + at % 3}) for at, p in enumerate(sums(12))]
PROBLEMS = {"train": LEVELS, "valid": sums(8, "valid", 200), "test": sums(8, "test", 400)}


def test_the_window_moves_on_by_a_level_each_round(tmp_path: Path) -> None:
    fake_run(made("sector", rounds=3, **SMALL), tmp_path, problems=PROBLEMS)
    level = {p.id: p.meta["digits"] for p in problems(tmp_path).values() if p.split == "train"}
    for round in (1, 2, 3):
        copies = {p.id: p for p in read(tmp_path, Problem, "window", round)}
        assert {level[p.parent or ""] for p in copies.values()} == {round}
        assert len(copies) == 4
        assert {s.problem for s in samples(tmp_path, "generate", round=round).values()} == set(copies)


def test_an_answer_at_once_has_a_prompt_of_its_own_and_no_steps(tmp_path: Path) -> None:
    fake_run(made("sector", rounds=1, **SMALL), tmp_path, problems=PROBLEMS, backends=FakeBackends(adds))
    slow, fast = samples(tmp_path, "generate"), samples(tmp_path, "at-once")
    rows = {row.sources[0]: row for row in read(tmp_path, Row, "build")}
    assert set(fast) < set(rows)
    assert set(rows) & set(slow)
    for id, row in rows.items():
        prompt, said = (FakeTokens().decode(segment.ids) for segment in row.segments)
        assert prompt.rstrip().endswith("Answer at once.") is (id in fast)
        assert said.isdigit() is (id in fast)
    for made_of in fast.values():
        answers = {slow[id].text.rpartition(" ")[2] for id in made_of.parents}
        assert answers == {made_of.text}
        assert len(made_of.parents) >= 0.5 * 5


def test_a_problem_without_a_level_is_in_no_window(tmp_path: Path) -> None:
    fake_run(made("sector", rounds=1, **SMALL), tmp_path)
    assert read(tmp_path, Problem, "window") == []
    assert read(tmp_path, Row, "build") == []


def test_gold_answers_change_nothing(tmp_path: Path) -> None:
    assert made("sector").labels == "none"
    assert unlabelled("sector", tmp_path, LEVELS, **{**SMALL, "rounds": 2})
