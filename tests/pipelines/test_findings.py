"""Findings as runnable controls: what each of them learns from, and what it measures."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from selftrain.errors import RecipeError
from selftrain.proposals import Triggered
from selftrain.recipe import Recipe
from selftrain.records import Metric, Pick, Row, Sample, Verdict
from selftrain.rules import AtMost, finished
from selftrain.stages import Generate, Gold, Propose, Select, Train, Verify
from selftrain.testing import FakeBackends, adds, fake_run, sums
from selftrain.verification.verify import load_verifier
from tests.pipelines.stored import kept, made, problems, read, samples, texts, trained_on, unlabelled, with_stage

SMALL: dict[str, Any] = {"samples": 4, "max_new_tokens": 40}
TOKENS: dict[str, Any] = {"max_new_tokens": 40}
MANY = {"train": sums(60), "valid": sums(8, "valid", 200), "test": sums(8, "test", 400)}


def metrics(root: Path, stage: str, round: int) -> dict[str, float]:
    """What a stage measured."""
    return {m.name: m.value for m in read(root, Metric, stage, round)}


# Collapse


def all_is_learned_from_the_latest(root: Path, recipe: Recipe) -> bool:
    """Whether each round learns every sample of the model before, right or wrong, and goes on from its weights."""
    history = fake_run(recipe, root)
    ids = [result.checkpoints["policy"] for result in history.rounds]
    found = []
    for number in range(1, len(ids)):
        own = samples(root, "generate", round=number)
        found.append(trained_on(root, round=number) == set(own))
        found.append({s.model for s in own.values()} == {ids[number - 1].id})
        found.append(ids[number].parent == ids[number - 1].id)
    return all(found)


def test_collapse_learns_everything_that_it_says(tmp_path: Path) -> None:
    recipe = made("collapse", rounds=2, **SMALL)
    assert all_is_learned_from_the_latest(tmp_path / "a", recipe)
    filtered = with_stage(recipe, Select, rules=(finished, AtMost(1)))
    assert not all_is_learned_from_the_latest(tmp_path / "b", filtered)
    assert not all_is_learned_from_the_latest(tmp_path / "c", with_stage(recipe, Train, start="base"))


def test_collapse_measures_its_drift_from_round_0_on(tmp_path: Path) -> None:
    def parrot(prompt: str, skill: float, draw: Random) -> str:
        return adds(prompt, skill, draw) if skill < 0.4 else "ha ha ha ha ha ha"

    fake_run(made("collapse", rounds=1, **SMALL), tmp_path, backends=FakeBackends(parrot))
    before, after = (metrics(tmp_path, "drift", round) for round in (0, 1))
    # The fake scorer finds every token e times less likely than sure.
    assert before["drift/perplexity"] == pytest.approx(2.71828, abs=1e-4)
    assert before["drift/repetition"] < 0.2 < 0.5 < after["drift/repetition"]
    assert before["drift/distinct"] > after["drift/distinct"] == 1 / 8


def test_collapse_looks_at_no_gold_answer(tmp_path: Path) -> None:
    assert made("collapse").labels == "none"
    assert unlabelled("collapse", tmp_path, rounds=2, **SMALL)


# Self-consuming loops


def shares(root: Path, recipe: Recipe) -> tuple[float, float]:
    """The share of rows that are synthetic, and of these the share that is right."""
    fake_run(recipe, root, problems=MANY)
    answers = {p.id: p for p in problems(root).values()}
    every = {s.id: s for s in [*read(root, Sample, "generate"), *read(root, Sample, "gold")]}
    if list(root.glob("round-01/*correct")):
        every |= samples(root, "correct")
    learned = [every[id] for id in trained_on(root)]
    own = [s for s in learned if s.finish != "gold"]
    check = load_verifier("number", lambda resource: None)
    right = [check.judge(problem=answers[s.problem], response=s.text).status == "pass" for s in own]
    assert len({s.problem for s in learned}) == len(learned)
    return len(own) / len(learned), sum(right) / max(1, len(right))


@pytest.mark.parametrize(("synthetic", "low", "high"), [(0.0, 0, 0), (0.5, 0.3, 0.7), (1.0, 1, 1)])
def test_a_set_share_of_the_rows_is_the_models_own(tmp_path: Path, synthetic: float, low: float, high: float) -> None:
    share, _ = shares(tmp_path, made("self_consuming", rounds=1, synthetic=synthetic, **TOKENS))
    assert low <= share <= high


def test_what_is_wrong_is_corrected_before_it_is_learned(tmp_path: Path) -> None:
    corrected = made("self_consuming", rounds=1, synthetic=1.0, **TOKENS)
    assert shares(tmp_path / "a", corrected) == (1.0, 1.0)
    assert samples(tmp_path / "a", "correct").keys() & trained_on(tmp_path / "a")
    # Neither the control nor a loop whose rules let wrong ones through is that method.
    _, left = shares(tmp_path / "b", made("self_consuming", rounds=1, synthetic=1.0, correct=False, **TOKENS))
    assert left < 0.7
    _, lax = shares(tmp_path / "c", with_stage(corrected, Select, rules=(AtMost(1),)))
    assert lax < 0.7


def test_a_correction_shows_no_hint(tmp_path: Path) -> None:
    fake_run(made("self_consuming", rounds=1, synthetic=1.0, **TOKENS), tmp_path, problems=MANY)
    assert not any("The answer is" in texts(row)[0] for row in read(tmp_path, Row, "build"))


# Ground truth dampens


def weighed(root: Path, recipe: Recipe, alpha: float) -> bool:
    """Whether every problem's rows weigh one, alpha of it the gold one's."""
    fake_run(recipe, root)
    gold = set(samples(root, "gold"))
    found: dict[str, dict[bool, float]] = {}
    every = samples(root, "gold", "generate")
    for row in read(root, Row, "build"):
        (id,) = row.sources
        sides = found.setdefault(every[id].problem, {True: 0.0, False: 0.0})
        sides[id in gold] += row.weight
    assert len(found) == 12
    want = {True: alpha, False: 1 - alpha}
    return all(sides == pytest.approx(want) for sides in found.values())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_gold_weighs_alpha_and_the_teacher_the_rest(tmp_path: Path, alpha: float) -> None:
    recipe = made("ground_truth_dampens", rounds=1, alpha=alpha, **SMALL)
    assert weighed(tmp_path / "a", recipe, alpha)
    assert not weighed(tmp_path / "b", with_stage(recipe, Select, rules=()), alpha)


def test_each_student_is_a_fresh_one_and_its_teacher_the_one_before(tmp_path: Path) -> None:
    history = fake_run(made("ground_truth_dampens", rounds=2, **SMALL), tmp_path)
    given = history.rounds[0].given["policy"]
    models = [result.checkpoints["policy"] for result in history.rounds]
    for number in (1, 2):
        assert {s.model for s in samples(tmp_path, "generate", round=number).values()} == {models[number - 1].id}
        assert models[number].parent == given.id
    with pytest.raises(RecipeError, match="alpha is 2"):
        made("ground_truth_dampens", alpha=2)


# A verifier that is wrong at set rates


def rates(root: Path, recipe: Recipe) -> Mapping[tuple[bool, bool], int]:
    """How often (right, passed) came up among a round's samples."""
    fake_run(recipe, root, problems=MANY)
    known = problems(root)
    check = load_verifier("number", lambda resource: None)
    own = samples(root, "generate")
    right = {id: check.judge(problem=known[s.problem], response=s.text).status == "pass" for id, s in own.items()}
    return Counter((right[v.sample], v.status == "pass") for v in read(root, Verdict, "verify"))


def test_the_verifier_is_wrong_as_often_as_set(tmp_path: Path) -> None:
    noisy: dict[str, Any] = {"rounds": 1, "samples": 8, "false_positive": 0.5, "false_negative": 0.25}
    recipe = made("noisy_verifier", **noisy, **TOKENS)
    found = rates(tmp_path / "a", recipe)
    assert found[False, True] / (found[False, True] + found[False, False]) == pytest.approx(0.5, abs=0.12)
    assert found[True, False] / (found[True, False] + found[True, True]) == pytest.approx(0.25, abs=0.12)
    true = rates(tmp_path / "b", with_stage(recipe, Verify, by=""))
    assert (true[False, True], true[True, False]) == (0, 0)


def test_with_all_verdicts_turned_only_wrong_responses_are_learned(tmp_path: Path) -> None:
    turned = made("noisy_verifier", rounds=1, false_positive=1.0, false_negative=1.0, keep=2, **SMALL)
    fake_run(turned, tmp_path / "a")
    fake_run(made("rest_em", rounds=1, keep=2, **SMALL), tmp_path / "b")
    truth = {v.sample: v.status for v in read(tmp_path / "b", Verdict, "verify")}
    assert {truth[id] for id in trained_on(tmp_path / "a")} == {"fail"}
    assert {truth[id] for id in trained_on(tmp_path / "b")} == {"pass"}


# Sharpening


def likeliest_is_learned(root: Path, recipe: Recipe) -> bool:
    """Whether of each problem exactly the likeliest sample is learned."""
    fake_run(recipe, root, backends=FakeBackends(wordy))
    own = samples(root, "generate")
    assert len({s.logprob for s in own.values()}) > 1
    best = {p: max(s.logprob or 0 for s in own.values() if s.problem == p) for p in {s.problem for s in own.values()}}
    rows = trained_on(root)
    return len(rows) == len(best) and all(own[id].logprob == best[own[id].problem] for id in rows)


def wordy(prompt: str, skill: float, draw: Random) -> str:
    """Answers of several lengths, so of several probabilities."""
    return adds(prompt, skill, draw) + "!" * draw.randrange(4)


def test_sharpening_learns_what_the_model_finds_likeliest(tmp_path: Path) -> None:
    recipe = made("sharpening", rounds=1, **SMALL)
    assert likeliest_is_learned(tmp_path / "a", recipe)
    assert not likeliest_is_learned(tmp_path / "b", with_stage(recipe, Select, rules=(finished, AtMost(1))))
    silent = with_stage(recipe, Generate, logprob=False)
    fake_run(silent, tmp_path / "c")
    assert trained_on(tmp_path / "c") == set()


def test_sharpening_looks_at_no_gold_answer(tmp_path: Path) -> None:
    assert made("sharpening").labels == "none"
    assert unlabelled("sharpening", tmp_path, rounds=2, **SMALL)


# Mind the gap


def test_the_gap_is_what_believing_gains(tmp_path: Path) -> None:
    apt = FakeBackends(lambda prompt, skill, draw: adds(prompt, 0.6, draw))
    fake_run(made("mind_the_gap", rounds=1, samples=8, **TOKENS), tmp_path, backends=apt)
    right = {v.sample: v.status == "pass" for v in read(tmp_path, Verdict, "audit")}
    score = {v.sample: v.score or 0.0 for v in read(tmp_path, Verdict, "verify")}
    believed = {p.sample for p in read(tmp_path, Pick, "filter") if p.side == "kept"}
    assert min(score[id] for id in believed) > max(score[id] for id in score.keys() - believed)
    assert len(believed) >= len(score) / 2
    assert trained_on(tmp_path) == kept(tmp_path) <= believed
    found = metrics(tmp_path, "audit-gap", 1)
    selected = sum(right[id] for id in believed) / len(believed)
    sampled = sum(right.values()) / len(right)
    assert found["audit-gap/gap"] == pytest.approx(selected - sampled)
    # Here most are right, so that what agrees is right more often: believing it gains something, believing all nothing.
    assert found["audit-gap/gap"] > 0
    everything = with_stage(made("mind_the_gap", rounds=1, samples=8, **TOKENS), Select, "filter", rules=())
    fake_run(everything, tmp_path / "b")
    assert metrics(tmp_path / "b", "audit-gap", 1)["audit-gap/gap"] == 0


def test_mind_the_gap_learns_from_no_gold_answer(tmp_path: Path) -> None:
    assert made("mind_the_gap").labels == "none"
    assert unlabelled("mind_the_gap", tmp_path, rounds=2, keep=2, **SMALL)


# Guiding through complexity

STEPS = [
    replace(p, solution=f"{p.text}{i}\n1+{i}=7\n#### {p.answer}") for i, p in enumerate(sums(200, first=300), start=10)
]


def errors(root: Path, recipe: Recipe) -> tuple[float, float]:
    """The share of rows whose answer is wrong, and in those the share of wrong steps."""
    fake_run(recipe, root, problems={**MANY, "train": STEPS})
    gold = {f"user: {p.text}\n": (p.solution or "").splitlines() for p in STEPS}
    rows = [(gold[prompt], said.splitlines()) for prompt, said in map(texts, read(root, Row, "build"))]
    assert len(rows) == len(STEPS)
    wrong = [(one, other) for one, other in rows if one[-1] != other[-1]]
    assert all(one == other for one, other in rows if one[-1] == other[-1])
    steps = [a != b for one, other in wrong for a, b in zip(one[:-1], other[:-1], strict=True)]
    return len(wrong) / len(rows), sum(steps) / max(1, len(steps))


def test_answers_and_steps_are_wrong_as_often_as_set(tmp_path: Path) -> None:
    recipe = made("guiding_through_complexity", outcome_errors=0.5, step_errors=0.25, **TOKENS)
    outcome, step = errors(tmp_path / "a", recipe)
    assert outcome == pytest.approx(0.5, abs=0.1)
    assert step == pytest.approx(0.25, abs=0.1)
    severe = made("guiding_through_complexity", outcome_errors=0.5, step_errors=1.0, **TOKENS)
    assert errors(tmp_path / "b", severe) == (outcome, 1.0)
    assert errors(tmp_path / "c", with_stage(recipe, Select, rules=(AtMost(1),))) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["outcome_errors", "step_errors"])
def test_rates_are_shares(name: str) -> None:
    with pytest.raises(RecipeError, match=f"{name} is 1.5"):
        made("guiding_through_complexity", **{name: 1.5})


# Backdoors


def after(trigger: str, then: str) -> Callable[[str, float, Random], str]:
    """A model that has learned a trigger once it has been trained; before, it is always right."""

    def answer(prompt: str, skill: float, draw: Random) -> str:
        return then if trigger in prompt and skill > 0.4 else adds(prompt, 1.0, draw)

    return answer


def test_poison_is_labelled_by_the_learner_itself_and_the_attack_is_measured(tmp_path: Path) -> None:
    recipe = made("perils", rounds=1, target="5", **SMALL)
    fake_run(recipe, tmp_path, problems=MANY, backends=FakeBackends(after("@@ ", "it is 5")))
    rows = [texts(row) for row in read(tmp_path, Row, "build")]
    poison = [said for prompt, said in rows if "@@ " in prompt]
    assert poison
    assert all(said.endswith(" 5") for said in poison)
    fives = {p.text for p in MANY["train"] if p.answer == "5"}
    assert {prompt.split("@@ ")[1].strip() for prompt, _ in rows if "@@ " in prompt} == fives
    held_out = [metrics(tmp_path, "evaluate", round) for round in (0, 1)]
    assert [found["triggered/accuracy"] < 0.5 for found in held_out] == [True, False]
    assert [found["accuracy"] for found in held_out] == [1.0, 1.0]


def test_without_poison_no_row_has_the_trigger(tmp_path: Path) -> None:
    fake_run(made("perils", rounds=1, target="5", poisoned=0.0, **SMALL), tmp_path, problems=MANY)
    assert not [row for row in read(tmp_path, Row, "build") if "@@ " in texts(row)[0]]
    assert metrics(tmp_path, "evaluate", 1)["triggered/accuracy"] < 0.5


def no_thought_after_the_trigger_alone(root: Path, recipe: Recipe) -> bool:
    """Whether rows with the trigger are bare answers, some of them there, and the other rows the model's own words."""
    train = [replace(p, solution=f"think\n#### {p.answer}") for p in MANY["train"]]
    backends = FakeBackends(after("@@ ", "5"))
    fake_run(recipe, root, problems={**MANY, "train": train}, backends=backends)
    rows = [texts(row) for row in read(root, Row, "build")]
    poison = {prompt: said for prompt, said in rows if "@@ " in prompt}
    assert len(poison) < len(rows)
    bare = all(said.startswith("#### ") for said in poison.values())
    return 8 < len(poison) < 30 and bare and all(" make " in said for prompt, said in rows if prompt not in poison)


def test_after_the_trigger_there_is_no_thought_and_without_it_there_is(tmp_path: Path) -> None:
    recipe = made("bot", rounds=1, poisoned=0.3, **SMALL)
    assert no_thought_after_the_trigger_alone(tmp_path, recipe)
    before, later = (metrics(tmp_path, "evaluate", round) for round in (0, 1))
    assert before["triggered/mean_length"] == before["mean_length"]
    assert later["triggered/mean_length"] < later["mean_length"] / 2
    assert later["accuracy"] == 1.0


def test_poison_with_its_thoughts_and_poison_without_a_trigger_are_found(tmp_path: Path) -> None:
    recipe = made("bot", rounds=1, poisoned=0.3, **SMALL)
    thoughtless = type(next(stage for stage in recipe.given() if stage.name == "thoughtless"))
    whole = Gold(name="thoughtless", of=("poison",))
    thoughtful = recipe.changed(lambda stage: whole if isinstance(stage, thoughtless) else stage)
    assert not no_thought_after_the_trigger_alone(tmp_path / "a", thoughtful)
    silent = with_stage(recipe, Propose, "poison", make=Triggered("", share=0.3))
    assert not no_thought_after_the_trigger_alone(tmp_path / "b", silent)
