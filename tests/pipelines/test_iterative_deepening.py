"""Iterative deepening: cues stand in the response at growing intervals, and what comes after the last is learned."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftrain.proposals import GoOn
from selftrain.recipe import Stage
from selftrain.records import Row, Verdict
from selftrain.testing import FakeBackends, FakeTokens, adds, fake_run
from tests.pipelines.stored import made, problems, read, samples

CUE = "\nThat is wrong. Try again.\n"
SMALL: dict[str, Any] = {"rounds": 1, "samples": 3, "max_new_tokens": 20}


def cued(root: Path, turns: int = 2) -> bool:
    """Whether each row is what was sampled at each turn, with the cue between, and the last turn alone is learned."""
    names = ["generate", *(f"deepened-{turn}" for turn in range(1, turns)), "deepened"]
    all, adopted = samples(root, *names), samples(root, "adopt")
    said = {v.sample: v.status for v in read(root, Verdict, "verify")}
    prompts = {f"user: {p.text}\n" for p in problems(root).values()}
    rows = read(root, Row, "build")
    assert rows
    for row in rows:
        assert said[row.sources[0]] == "pass"
        asked, own = (FakeTokens().decode(part.ids) for part in row.segments)
        (prompt,) = [each for each in prompts if asked.startswith(each)]
        if not asked.endswith(CUE) or CUE in own:
            return False
        response = asked.removeprefix(prompt) + own
        whole = all[adopted[row.sources[0]].parents[0]]
        for _ in range(turns):
            before = all[whole.parents[0]]
            if not response.startswith(before.text + CUE):
                return False
            whole = before
    return True


@pytest.mark.parametrize("turns", [1, 2])
def test_cues_stand_between_ever_longer_parts(tmp_path: Path, turns: int) -> None:
    backends = FakeBackends(adds)
    history = fake_run(made("iterative_deepening", turns=turns, **SMALL), tmp_path, backends=backends)
    assert cued(tmp_path, turns)
    budgets = {request.sampling.max_tokens for sampler in backends.samplers for request in sampler.requests}
    assert budgets == {20 * 2**turn for turn in range(turns + 1)}
    assert history.metric("deepened/accuracy", round=1) is not None


def test_without_the_cue_it_is_seen(tmp_path: Path) -> None:
    def silent(stage: Stage) -> Stage:
        return replace(stage, make=GoOn(1.0, " ")) if stage.name == "cue-2" else stage  # type: ignore[call-arg]

    fake_run(made("iterative_deepening", **SMALL).changed(silent), tmp_path, backends=FakeBackends(adds))
    assert not cued(tmp_path)


def test_learned_whole_it_is_seen(tmp_path: Path) -> None:
    def whole(stage: Stage) -> Stage:
        return replace(stage, learn="all") if stage.name == "build" else stage  # type: ignore[call-arg]

    fake_run(made("iterative_deepening", **SMALL).changed(whole), tmp_path, backends=FakeBackends(adds))
    assert not cued(tmp_path)
