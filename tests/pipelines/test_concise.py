"""FS-BoN: of each problem the shortest right response is kept; the examples are terse and never reach a row."""

from pathlib import Path
from random import Random
from typing import Any

from selftrain.recipe import Recipe
from selftrain.records import Row, Verdict
from selftrain.rules import AtMost, finished, passed
from selftrain.stages import Select
from selftrain.templates import Shot
from selftrain.testing import FakeBackends, FakeTokens, adds, fake_run
from tests.pipelines.stored import as_asked, kept, made, problems, read, samples, settings, with_stage, without

SMALL: dict[str, Any] = {"samples": 4, "examples": 3, "max_new_tokens": 80}


def wordy(prompt: str, skill: float, stream: Random) -> str:
    """Longer where the prompt shows no examples."""
    words = "well " * stream.randrange(1, 3 if "assistant:" in prompt else 9)
    last = "user: " + prompt.rpartition("user: ")[2]
    return words + adds(last, skill, stream)


def keeps_the_shortest(root: Path, recipe: Recipe) -> bool:
    """Whether of each problem that has a right response exactly one of the shortest of these is kept."""
    fake_run(recipe, root, backends=FakeBackends(wordy))
    sampled = samples(root, "generate", "terse")
    said = {v.sample: v.status for stage in ("verify", "verify-terse") for v in read(root, Verdict, stage)}
    right: dict[str, list[int]] = {}
    for s in sampled.values():
        if said[s.id] == "pass" and s.finish == "stop":
            right.setdefault(s.problem, []).append(len(s.completion_ids))
    assert any(len(set(lengths)) > 1 for lengths in right.values())
    found = sorted((sampled[id].problem, len(sampled[id].completion_ids)) for id in kept(root))
    return found == sorted((problem, min(lengths)) for problem, lengths in right.items())


def test_the_shortest_right_response_of_each_problem_is_kept(tmp_path: Path) -> None:
    recipe = made("concise", **SMALL)
    assert keeps_the_shortest(tmp_path / "a", recipe)
    sampled = samples(tmp_path / "a", "terse")
    assert kept(tmp_path / "a") & set(sampled)
    assert not keeps_the_shortest(tmp_path / "b", without(recipe, "Shortest"))
    assert not keeps_the_shortest(tmp_path / "c", with_stage(recipe, Select, rules=(passed, finished, AtMost(1))))


def shows_no_example(root: Path) -> bool:
    """Whether no row's prompt has a turn of the assistant."""
    rows = read(root, Row, "build")
    assert {id for row in rows for id in row.sources} & set(samples(root, "terse"))
    return not any("assistant" in FakeTokens().decode(row.segments[0].ids) for row in rows)


def test_the_examples_are_the_shortest_right_ones_and_stand_in_no_row(tmp_path: Path) -> None:
    fake_run(made("concise", **SMALL), tmp_path, backends=FakeBackends(wordy))
    shots = settings(tmp_path, "findshots")["shots"]
    said = {v.sample: v.status for v in read(tmp_path, Verdict, "verify")}
    plain = [s for s in samples(tmp_path, "generate").values() if said[s.id] == "pass"]
    shortest = [min(len(s.text) for s in plain if s.problem == id) for id in {s.problem for s in plain}]
    assert sorted(len(shot["response"]) for shot in shots) == sorted(shortest)[:3]
    given = problems(tmp_path)
    for sample in samples(tmp_path, "terse").values():
        prompt = FakeTokens().decode(sample.prompt_ids)
        # An example that is the problem itself would give its answer away.
        others = [shot for shot in shots if shot["prompt"] != given[sample.problem].text]
        assert all(shot["response"] in prompt for shot in others)
        assert prompt.count("user:") == 1 + len(others)
    assert shows_no_example(tmp_path)


def test_examples_in_rows_are_found(tmp_path: Path) -> None:
    fake_run(as_asked(made("concise", **SMALL)), tmp_path, backends=FakeBackends(wordy))
    assert not shows_no_example(tmp_path)


def test_given_examples_are_used_as_they_are(tmp_path: Path) -> None:
    given = (Shot(prompt="1+2=", response="3"),)
    fake_run(made("concise", shots=given, **SMALL), tmp_path, backends=FakeBackends(wordy))
    first = next(iter(samples(tmp_path, "terse").values()))
    assert FakeTokens().decode(first.prompt_ids).startswith("user: 1+2=\nassistant: 3\n")


def test_without_a_right_response_the_prompt_is_the_plain_one(tmp_path: Path) -> None:
    fake_run(made("concise", **SMALL), tmp_path, backends=FakeBackends(lambda *_: "I cannot say"))
    assert settings(tmp_path, "findshots")["shots"] == []
    assert {s.prompt_ids for s in samples(tmp_path, "terse").values()} == {
        s.prompt_ids for s in samples(tmp_path, "generate").values()
    }
