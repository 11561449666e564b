"""Self-Refine: own feedback decides whether an attempt is revised, and what the loop ends with is learned."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from selftrain.recipe import Stage
from selftrain.testing import FakeBackends, adds, fake_run
from tests.pipelines.stored import made, samples, trained_on, unlabelled

SMALL: dict[str, Any] = {"rounds": 1, "samples": 3, "max_new_tokens": 60}


def answer(text: str, skill: float, draw: Random) -> str:
    """Finds fault with every other attempt; a revision is right."""
    if text.rstrip().endswith("Which step is wrong first?"):
        return draw.choice(["Step 1 is wrong.", "No step is wrong."])
    return adds(text, 1.0 if "Try again." in text else skill, draw)


def settled_by_its_feedback(root: Path, turns: int = 1) -> bool:
    """Whether each row's response is the attempt after the first feedback that finds nothing, or the last revision."""
    names = [f"{what}-{turn}" for turn in range(1, turns + 1) for what in ("feedback", "revise")]
    all = samples(root, "generate", "settle", *names)
    said = {s.parents[0]: s.text for name in names if "feedback" in name for s in samples(root, name).values()}
    rows = trained_on(root)
    assert rows
    for id in rows:
        last = all[all[id].parents[0]]
        before = all[last.parents[0]] if last.parents else None
        if all[id].text != last.text or (before and said[before.id] == "No step is wrong."):
            return False
        if said.get(last.id, "No step is wrong.") != "No step is wrong.":
            return False
    return True


def test_own_feedback_ends_the_loop(tmp_path: Path) -> None:
    history = fake_run(made("self_refine", **SMALL), tmp_path, backends=FakeBackends(answer))
    assert settled_by_its_feedback(tmp_path)
    revised = {s.parents[0] for s in samples(tmp_path, "revise-1").values()}
    assert 0 < len(revised) < len(samples(tmp_path, "generate"))
    # Turn 1 against the loop, on held-out problems, before and after training.
    for round in (0, 1):
        first, last = (history.metric(name, round=round) for name in ("accuracy", "settle/accuracy"))
        assert first is not None
        assert last is not None
        assert last.n == first.n
        assert last.value >= first.value
    assert history.metric("feedback-1/accuracy", round=1) is None


def test_a_revision_is_revised_again(tmp_path: Path) -> None:
    fake_run(made("self_refine", turns=2, **SMALL), tmp_path, backends=FakeBackends(answer))
    assert settled_by_its_feedback(tmp_path, turns=2)
    second = samples(tmp_path, "revise-2")
    assert second
    assert {s.parents[0] for s in second.values()} <= set(samples(tmp_path, "revise-1"))


def test_a_loop_that_does_not_listen_is_seen(tmp_path: Path) -> None:
    def deaf(stage: Stage) -> Stage:
        return replace(stage, rules=()) if stage.name == "ask-again-1" else stage  # type: ignore[call-arg]

    fake_run(made("self_refine", **SMALL).changed(deaf), tmp_path, backends=FakeBackends(answer))
    assert not settled_by_its_feedback(tmp_path)


def test_gold_answers_change_nothing(tmp_path: Path) -> None:
    assert made("self_refine").labels == "none"
    assert unlabelled("self_refine", tmp_path, **SMALL)
