"""Recipes that make their own data by guidance: ReGenesis, SOFT, SGEAT, self-rewarding; each property, and its loss."""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest

from selftrain import plugins
from selftrain.lab import Scored
from selftrain.pairings import ByScore, Paired
from selftrain.recipe import Recipe, Stage
from selftrain.records import Checkpoint, Metric, Row, Verdict
from selftrain.rules import AtMost, Attempts, distinct, finished, passed
from selftrain.stages import Generate, Pair, Select
from selftrain.testing import FakeBackends, FakeSampler, FakeTokens, adds, fake_run
from tests.pipelines.stored import kept, made, problems, read, samples, settings, trained_on, unlabelled

LONG: dict[str, Any] = {"samples": 4, "max_new_tokens": 80}
SMALL: dict[str, Any] = {"samples": 6, "max_new_tokens": 40}


def planning(text: str, skill: float, draw: Random) -> str:
    """Advises and plans where asked to, else adds."""
    last = text.rstrip().splitlines()[-1]
    if last.startswith("Make this advice fit"):
        return "Here: " + last.rpartition(": ")[2]
    if last.startswith("Turn this into a plan"):
        return "First this, then that."
    return adds(text, skill, draw)


class Longer(FakeBackends):
    """With room for long prompts."""

    def sampler(self, checkpoint: Path) -> FakeSampler:
        found = Scoring(checkpoint, self.answer)
        self.samplers.append(found)
        return found


class Scoring(FakeSampler):
    """Finds some texts likelier than others."""

    def score(self, sequences: Any) -> list[tuple[float, ...]]:
        given: list[Scored] = list(sequences)
        return [(-0.5 - sum(each.completion_ids) % 7,) * len(each.completion_ids) for each in given]


def run(root: Path, recipe: Recipe, answer: Any = adds) -> Path:
    fake_run(recipe, root, backends=Longer(answer))
    return root


def right_under_bare_problems(root: Path) -> bool:
    """Whether rows hold right paths alone, and nothing of the guidance is in a prompt."""
    said = {v.sample: v.status for v in read(root, Verdict, "verify")}
    prompts = {FakeTokens().decode(row.segments[0].ids) for row in read(root, Row, "build")}
    bare = {f"user: {p.text}\n" for p in problems(root).values()}
    return {said.get(id) for id in trained_on(root)} == {"pass"} and bool(prompts) and prompts <= bare


def test_regenesis_goes_from_guideline_to_structure_to_path_and_keeps_the_path_alone(tmp_path: Path) -> None:
    root = run(tmp_path, made("regenesis", **LONG), planning)
    assert right_under_bare_problems(root)
    guidelines, structures = samples(root, "adapt"), samples(root, "structure")
    paths, adopted = samples(root, "generate"), samples(root, "adopt")
    assert len(guidelines) == len(structures) == len(paths) == 48
    for sample in adopted.values():
        path, structure = sample.parents
        assert paths[path].parents == (structure,)
        assert set(structures[structure].parents) <= set(guidelines)
    asked = FakeTokens().decode(next(iter(paths.values())).prompt_ids)
    assert "First this, then that." in asked
    advice = plugins.load("recipe", "regenesis").GUIDELINES
    assert len({s.text.removeprefix("Here: ") for s in guidelines.values()} & set(advice)) > 4


def test_regenesis_without_the_cascade_puts_a_guideline_into_the_problem(tmp_path: Path) -> None:
    root = run(tmp_path, made("regenesis", cascade=False, **LONG), planning)
    assert right_under_bare_problems(root)
    advice = plugins.load("recipe", "regenesis").GUIDELINES
    for sample in samples(root, "generate").values():
        assert any(f"({each})" in FakeTokens().decode(sample.prompt_ids) for each in advice)


def as_asked(stage: Stage) -> Stage:
    """Trains on the prompts with the guidance in them."""
    if isinstance(stage, Select):
        return replace(stage, of=("generate",), rules=(distinct, AtMost(4)))
    return stage


def unchecked(stage: Stage) -> Stage:
    return replace(stage, rules=(finished, distinct)) if isinstance(stage, Select) else stage


@pytest.mark.parametrize("change", [as_asked, unchecked])
def test_that_test_finds_guidance_left_in_and_wrong_paths(tmp_path: Path, change: Any) -> None:
    assert not right_under_bare_problems(run(tmp_path, made("regenesis", **LONG).changed(change), planning))


def from_easy_to_hard(root: Path, rounds: int) -> bool:
    """Whether each round trains on its slice of the responses by their likelihood, the likeliest in the first."""
    for step in range(1, rounds + 1):
        scores = {v.sample: v.score or 0.0 for v in read(root, Verdict, "verify", step)}
        order = sorted(scores.values())
        low = order[int((1 - step / rounds) * len(order))]
        high = order[int((1 - (step - 1) / rounds) * len(order))] if step > 1 else float("inf")
        chosen = kept(root, round=step)
        if not chosen or not all(low <= scores[id] < high for id in chosen):
            return False
    return True


def test_soft_trains_without_the_examples_from_easy_to_hard_and_goes_on(tmp_path: Path) -> None:
    root = run(tmp_path, made("soft", rounds=2, **SMALL))
    assert from_easy_to_hard(root, 2)
    (first,), (second,) = (read(root, Checkpoint, "train", round) for round in (1, 2))
    assert second.parent == first.id
    shots = [settings(root, "drawshots", round)["shots"] for round in (1, 2)]
    assert shots[0]
    gold = {s.text for s in samples(root, "gold").values()}
    assert {shot["response"] for part in shots for shot in part} <= gold
    for row in read(root, Row, "build"):
        assert FakeTokens().decode(row.segments[0].ids).count("user:") == 1
    asked = [FakeTokens().decode(s.prompt_ids).count("user:") for s in samples(root, "generate").values()]
    assert max(asked) == 1 + len(shots[0])
    assert not from_easy_to_hard(run(tmp_path / "all", made("soft", rounds=2, easy=False, **SMALL)), 2)


def clean(root: Path, unwanted: str) -> bool:
    """Whether no row's response holds what is unwanted, though some samples do."""
    sampled = samples(root, "generate")
    assert any(re.search(unwanted, s.text) for s in sampled.values())
    return bool(trained_on(root)) and not any(re.search(unwanted, sampled[id].text) for id in trained_on(root))


def anything(stage: Stage) -> Stage:
    if isinstance(stage, Select):
        return replace(stage, rules=tuple(rule for rule in stage.rules if rule is not passed))
    return stage


def test_sgeat_keeps_what_is_clean_right_or_wrong(tmp_path: Path) -> None:
    recipe = made("sgeat", avoid="[37]", **SMALL)
    root = run(tmp_path / "a", recipe)
    assert clean(root, "[37]")
    answers = {p.id: p.answer for p in problems(root).values()}
    sampled = samples(root, "generate")
    assert any(sampled[id].text.split()[-1] != answers[sampled[id].problem] for id in trained_on(root))
    metrics = {m.name for m in read(root, Metric, "evaluate")}
    assert {"accuracy", "clean/pass@1"} <= metrics
    assert not clean(run(tmp_path / "b", recipe.changed(anything)), "[37]")


def test_sgeat_keeps_a_share_by_a_verifier_that_scores(tmp_path: Path) -> None:
    root = run(tmp_path, made("sgeat", by="mbr", share=0.5, **SMALL))
    scores = {v.sample: v.score or 0.0 for v in read(root, Verdict, "verify")}
    threshold = settings(root, "find")["threshold"]
    assert min(scores[id] for id in kept(root)) >= threshold > min(scores.values())


def judging(text: str, skill: float, draw: Random) -> str:
    """Says yes or no by chance where asked for a verdict, else adds."""
    if text.rstrip().endswith("Answer yes or no."):
        return draw.choice(["Yes.", "no"])
    return adds(text, skill, draw)


def judged_by_itself(root: Path, round: int = 1) -> bool:
    """Whether the chosen response has the greatest share of yes of the policy that gave it, the rejected the least."""
    responses, verdicts = samples(root, "generate", round=round), samples(root, "judge", round=round)
    if {s.model for s in responses.values()} != {s.model for s in verdicts.values()}:
        return False
    votes: dict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts.values():
        votes[verdict.parents[0]].append(verdict.text.startswith("Yes"))
    shares = {id: fmean(each) for id, each in votes.items()}
    ends: dict[str, list[float]] = defaultdict(list)
    for id, share in shares.items():
        ends[responses[id].problem].append(share)
    wanted = {"chosen": max, "rejected": min}
    rows = read(root, Row, "build", round)
    return bool(rows) and all(
        shares[row.sources[0]] == wanted[row.kind](ends[responses[row.sources[0]].problem]) for row in rows
    )


def another_judge(stage: Stage) -> Stage:
    return replace(stage, which="base") if isinstance(stage, Generate) and stage.name == "judge" else stage


def turned(attempts: Attempts) -> list[Paired]:
    return [Paired(pair.rejected, pair.chosen) for pair in ByScore()(attempts)]


def worst_first(stage: Stage) -> Stage:
    return replace(stage, pairing=turned) if isinstance(stage, Pair) else stage


def test_self_rewarding_prefers_what_it_judges_best_itself(tmp_path: Path) -> None:
    recipe = made("self_rewarding", rounds=2, **SMALL)
    root = run(tmp_path / "a", recipe, judging)
    assert judged_by_itself(root)
    assert judged_by_itself(root, 2)
    assert not judged_by_itself(run(tmp_path / "b", recipe.changed(another_judge), judging), 2)
    assert not judged_by_itself(run(tmp_path / "c", recipe.changed(worst_first), judging))


@pytest.mark.parametrize("name", ["sgeat", "self_rewarding"])
def test_gold_answers_change_nothing(tmp_path: Path, name: str) -> None:
    assert made(name).labels == "none"
    assert made(name, gate=True).labels == "gold"
    answer = judging if name == "self_rewarding" else adds
    assert unlabelled(name, tmp_path, answer=answer, rounds=1, **SMALL)
