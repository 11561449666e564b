"""The controller with fake resources: what is done once, what is skipped, what is refused."""

import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from selftrain import history as stored_history
from selftrain.errors import Blocked, RecipeError, StoreError
from selftrain.lab import Lab
from selftrain.loop import controller
from selftrain.loop.controller import Limits
from selftrain.loop.launch import Run
from selftrain.proposals import Perturbed
from selftrain.recipe import FromData, Model, Recipe, Stage
from selftrain.records import Checkpoint, Pick, Problem, Quarantined, Row, Sample, Setting, Verdict
from selftrain.round import History, Part, RoundResult
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import Audit, Evaluate, Gate, Generate, MakeExamples, Propose, Select, Train, Verify
from selftrain.store import Store
from selftrain.testing import FakeBackends, adds, fake_run, sums


def loop(*, rounds: int = 2, n: int = 4, **changes: Any) -> Recipe:
    stages: list[Stage] = [
        Generate(n=n, max_new_tokens=40),
        Verify(),
        Select(rules=(passed, finished, distinct, AtMost(2))),
        MakeExamples(),
        Train(),
        Evaluate(max_new_tokens=40),
        Gate(patience=9),
    ]
    return Recipe(paper="none", rounds=rounds, each_round=stages, **changes)


def everything(root: Path, kind: type[Any], stage: str) -> list[Any]:
    store = Store(root)
    found = []
    for number in store.rounds():
        folder = store.stages(number).get(stage)
        found += [row for shard in folder.shards() for row in folder.read(kind, shard)] if folder else []
    return found


def stored(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet"))}


def test_rounds_train_on_what_passed_and_on_nothing_else(tmp_path: Path) -> None:
    history = fake_run(loop(), tmp_path)
    assert [r.number for r in history.rounds] == [0, 1, 2]
    right = {v.sample for v in everything(tmp_path, Verdict, "verify") if v.status == "pass"}
    rows = everything(tmp_path, Row, "build")
    assert rows
    assert all(row.sources[0] in right for row in rows)
    kept = Counter(p.problem for p in everything(tmp_path, Pick, "select")[:48] if p.side == "kept")
    assert max(kept.values()) <= 2


def test_every_sample_exactly_once_and_ids_unique(tmp_path: Path) -> None:
    fake_run(loop(), tmp_path)
    samples = everything(tmp_path, Sample, "generate")
    assert len(samples) == 2 * 12 * 4
    assert len({s.id for s in samples}) == len(samples)


class Killed(Exception):
    """Stands for a kill at a stage."""


@dataclass(frozen=True, kw_only=True)
class Dying(Stage):
    """Passes through, but raises on a shard as long as a file is there."""

    trigger: str = ""

    @property
    def reads(self) -> tuple[type[Any], ...]:
        return (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        return ()

    def run(self, part: Part, lab: Lab) -> Iterator[Any]:
        if part.shard == 1 and Path(self.trigger).exists():
            raise Killed
        return iter(())


def test_a_broken_run_goes_on_and_keeps_every_stored_shard(tmp_path: Path) -> None:
    trigger = tmp_path / "trigger"
    trigger.touch()
    recipe = loop()
    assert not callable(recipe.each_round)
    stages = list(recipe.each_round)
    stages.insert(1, Dying(trigger=str(trigger)))
    broken = replace(recipe, each_round=stages)
    with pytest.raises(Killed):
        fake_run(broken, tmp_path / "run")
    before = stored(tmp_path / "run")
    assert any("generate" in name for name in before)
    trigger.unlink()
    backends = FakeBackends(adds)
    fake_run(broken, tmp_path / "run", backends=backends)
    after = stored(tmp_path / "run")
    assert {name: after[name] for name in before} == before
    done_before = {s.id for s in everything(tmp_path / "run", Sample, "generate")}
    assert len(done_before) == 2 * 12 * 4


def test_a_finished_run_does_nothing_twice(tmp_path: Path) -> None:
    fake_run(loop(), tmp_path)
    before = stored(tmp_path)
    backends = FakeBackends(adds)
    fake_run(loop(), tmp_path, backends=backends)
    assert backends.samplers == []
    assert stored(tmp_path) == before


def test_more_rounds_go_on_from_what_is_there(tmp_path: Path) -> None:
    fake_run(loop(rounds=1), tmp_path)
    before = stored(tmp_path)
    history = fake_run(loop(rounds=2), tmp_path)
    after = stored(tmp_path)
    assert len(history.rounds) == 3
    assert {name: after[name] for name in before} == before


def test_a_changed_setting_is_refused_by_name(tmp_path: Path) -> None:
    fake_run(loop(n=4), tmp_path)
    with pytest.raises(StoreError, match="n was 4, is 8"):
        fake_run(loop(n=8), tmp_path)


def test_another_recipe_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    fake_run(loop(), tmp_path)
    other = Recipe(paper="none", rounds=2, each_round=[Generate(n=4, max_new_tokens=40), Evaluate(max_new_tokens=40)])
    with pytest.raises(StoreError, match="no stage of this recipe"):
        fake_run(other, tmp_path)


def test_the_gate_rolls_back_a_worse_round_and_its_rows_leave_the_union(tmp_path: Path) -> None:
    stages: Callable[[str], list[Stage]] = lambda start: [  # noqa: E731
        Generate(n=4, max_new_tokens=40),
        Verify(),
        Select(rules=(passed,), data="union"),
        MakeExamples(),
        Train(start=start),  # type: ignore[arg-type]
        Evaluate(max_new_tokens=40),
        Gate(patience=9),
    ]
    problems = {"train": sums(12), "valid": sums(60, "valid", 200), "test": sums(8, "test", 400)}
    recipe = Recipe(paper="none", rounds=2, each_round=stages("latest"))

    def worse(prompt: str, skill: float, stream: Any) -> str:
        return adds(prompt, 0.9 if skill < 0.4 else 0.0, stream)

    history = fake_run(recipe, tmp_path, problems=problems, backends=FakeBackends(worse))
    assert history.rounds[1].decision is not None
    assert history.rounds[1].decision.outcome == "rolled_back"
    # Asked for by its number, it is its own weights that are given, as its figures are.
    assert Run.open(tmp_path).checkpoint(1) == history.rounds[1].checkpoints["policy"]
    base = history.rounds[0].checkpoints["policy"].id
    second = [s for s in everything(tmp_path, Sample, "generate") if s.model]
    assert {s.model for s in second} == {base}
    folder = Store(tmp_path).stages(2)["select"]
    picks = [pick for shard in folder.shards() for pick in folder.read(Pick, shard)]
    fresh = {s.id for s in everything(tmp_path, Sample, "generate")[48:]}
    assert {p.sample for p in picks} <= fresh


def test_union_keeps_the_cap_over_rounds(tmp_path: Path) -> None:
    recipe = loop(rounds=3)
    assert not callable(recipe.each_round)
    changed = [replace(s, data="union") if isinstance(s, Select) else s for s in recipe.each_round]
    fake_run(replace(recipe, each_round=changed), tmp_path)
    last = Store(tmp_path).stages(3)["select"]
    kept = Counter(p.problem for k in last.shards() for p in last.read(Pick, k) if p.side == "kept")
    judged = sum(1 for k in last.shards() for _ in last.read(Pick, k))
    assert max(kept.values()) <= 2
    assert judged == 3 * 12 * 4


def test_a_draw_takes_the_pool_in_turn(tmp_path: Path) -> None:
    fake_run(loop(rounds=3, draw=6), tmp_path)
    by_round = [
        {s.problem for k in folder.shards() for s in folder.read(Sample, k)}
        for number in (1, 2, 3)
        for folder in [Store(tmp_path).stages(number)["generate"]]
    ]
    assert [len(each) for each in by_round] == [6, 6, 6]
    assert not by_round[0] & by_round[1]
    assert by_round[0] == by_round[2]


def test_no_kept_row_leaves_the_model_as_it_is(tmp_path: Path) -> None:
    def wrong(prompt: str, skill: float, stream: Any) -> str:
        return "I cannot say"

    history = fake_run(loop(), tmp_path, backends=FakeBackends(wrong))
    ids = {r.checkpoints["policy"].id for r in history.rounds}
    assert len(ids) == 1


def test_the_gate_stops_after_patience(tmp_path: Path) -> None:
    recipe = loop(rounds=5)
    assert not callable(recipe.each_round)
    stages = [replace(s, patience=2) if isinstance(s, Gate) else s for s in recipe.each_round]
    history = fake_run(replace(recipe, each_round=stages), tmp_path, backends=FakeBackends(adds, gain=0.0))
    assert len(history.rounds) == 3
    assert history.rounds[-1].decision is not None
    assert history.rounds[-1].decision.stop


def test_limits_stop_at_a_stage_boundary_and_the_run_goes_on(tmp_path: Path) -> None:
    history = fake_run(loop(), tmp_path, limits=Limits(tokens=100))
    assert len(history.rounds) < 3
    finished_stages = [f for n in Store(tmp_path).rounds() for f in Store(tmp_path).stages(n).values()]
    assert all(folder.done() for folder in finished_stages)
    assert len(fake_run(loop(), tmp_path).rounds) == 3


def test_stages_see_gold_only_if_they_say_so(tmp_path: Path) -> None:
    seen: dict[str, set[str | None]] = {"blind": set(), "gold": set()}

    @dataclass(frozen=True, kw_only=True)
    class Look(Stage):
        see: bool = False

        @property
        def reads(self) -> tuple[type[Any], ...]:
            return (Problem, Sample)

        @property
        def writes(self) -> tuple[type[Any], ...]:
            return ()

        @property
        def gold(self) -> bool:
            return self.see

        def run(self, part: Part, lab: Lab) -> Iterator[Any]:
            texts = {p.answer for p in part.problems()} | {p.solution for p in part.problems()}
            texts |= {a.problem.answer for each in part.attempts().values() for a in each}
            seen[self.name] |= texts
            return iter(())

    recipe = Recipe(
        paper="none",
        rounds=1,
        each_round=[
            Generate(n=1, max_new_tokens=40),
            Look(name="blind"),
            Look(name="gold", see=True),
            Evaluate(max_new_tokens=40),
        ],
    )
    fake_run(recipe, tmp_path)
    assert seen["blind"] == {None}
    assert len(seen["gold"]) > 5
    assert recipe.labels == "gold"


def permuted(problems: list[Problem]) -> list[Problem]:
    answers = [p.answer for p in problems]
    moved = [*answers[1:], answers[0]]
    return [replace(p, answer=a, solution=f"x={a}") for p, a in zip(problems, moved, strict=True)]


@pytest.mark.parametrize("sabotaged", [False, True])
def test_permuted_gold_changes_nothing_in_a_recipe_without_labels(tmp_path: Path, sabotaged: bool) -> None:
    """The property, and that it is one: with a stage that looks at gold the rows differ."""
    stages: list[Stage] = [
        Generate(n=4, max_new_tokens=40),
        *([Verify()] if sabotaged else []),
        Select(rules=(passed, distinct) if sabotaged else (finished, distinct, AtMost(2))),
        MakeExamples(),
        Train(),
        Evaluate(max_new_tokens=40),
    ]
    recipe = Recipe(paper="none", rounds=2, each_round=stages)
    assert recipe.labels == ("gold" if sabotaged else "none")
    held_out = {"valid": sums(8, "valid", 200), "test": sums(8, "test", 400)}
    one = fake_run(recipe, tmp_path / "a", problems={"train": sums(12), **held_out})
    two = fake_run(recipe, tmp_path / "b", problems={"train": permuted(sums(12)), **held_out})
    rows = [{k: v for k, v in stored(tmp_path / r).items() if "rows" in k} for r in "ab"]
    same = rows[0] == rows[1] and [r.checkpoints for r in one.rounds] == [r.checkpoints for r in two.rounds]
    assert same is not sabotaged


def test_too_many_errors_stop_the_stage_and_name_the_first(tmp_path: Path) -> None:
    crashing = tmp_path / "crashing.py"
    crashing.write_text("def verify(*, problem, response):\n    raise RuntimeError('no such thing')\n")
    recipe = loop(n=32)
    assert not callable(recipe.each_round)
    stages = [replace(s, by=str(crashing)) if isinstance(s, Verify) else s for s in recipe.each_round]
    with pytest.raises((Blocked, RuntimeError), match="no such thing"):
        fake_run(replace(recipe, each_round=stages), tmp_path / "run")


@dataclass(frozen=True, kw_only=True)
class Quantile(Stage):
    """Finds a number over all shards and hands it on."""

    @property
    def reads(self) -> tuple[type[Any], ...]:
        return (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        return ()

    def reduce(self, part: Part) -> Iterator[Setting]:
        lengths = part.columns(Sample, ["text"]).num_rows
        yield Setting(name="count", value={"value": lengths})

    def run(self, part: Part, lab: Lab) -> Iterator[Any]:
        return iter(())


def test_a_reduce_sees_all_shards_and_later_stages_read_its_setting(tmp_path: Path) -> None:
    recipe = Recipe(
        paper="none",
        rounds=1,
        each_round=[
            Generate(n=2, max_new_tokens=40),
            Quantile(),
            Generate(name="more", n=FromData("count"), max_new_tokens=40),
            Evaluate(max_new_tokens=40),
        ],
    )
    fake_run(recipe, tmp_path)
    assert len(everything(tmp_path, Sample, "more")) == 12 * 24


def test_derived_problems_are_sampled_and_judged_in_their_parents_shard(tmp_path: Path) -> None:
    recipe = Recipe(
        paper="none",
        rounds=1,
        each_round=[
            Generate(n=1, max_new_tokens=40),
            Propose(make=Perturbed()),
            Generate(name="follow", of=("propose",), n=2, max_new_tokens=40),
            Verify(of=("follow",)),
            Select(rules=(), of=("follow", "verify")),
            MakeExamples(),
            Train(),
            Evaluate(max_new_tokens=40),
        ],
    )
    fake_run(recipe, tmp_path)
    follow = everything(tmp_path, Sample, "follow")
    made = {p.id for p in everything(tmp_path, Problem, "propose")}
    # One of them is a held-out problem, and is not asked.
    assert len(everything(tmp_path, Quarantined, "propose")) == 12 - len(made) == 1
    assert len(follow) == 2 * len(made)
    assert {s.problem for s in follow} == made
    assert len(everything(tmp_path, Row, "build")) == 2 * len(made)


def test_several_models_are_trained_and_sampled_by_name(tmp_path: Path) -> None:
    recipe = Recipe(
        paper="none",
        rounds=2,
        models={"policy": Model(), "critic": Model()},
        each_round=[
            Generate(n=1, max_new_tokens=40),
            Generate(name="criticise", model="critic", n=1, max_new_tokens=40),
            Select(rules=(), of=("criticise",)),
            MakeExamples(model="critic"),
            Train(model="critic"),
            Evaluate(max_new_tokens=40),
        ],
    )
    history = fake_run(recipe, tmp_path)
    assert set(history.rounds[0].checkpoints) == {"policy", "critic"}
    assert set(history.rounds[1].checkpoints) == {"critic"}
    asked = {s.model for s in everything(tmp_path, Sample, "generate")}
    assert asked == {history.rounds[0].checkpoints["policy"].id}


def test_a_model_with_its_own_engine_is_never_swapped_out(tmp_path: Path) -> None:
    def engines(critic: Model, root: Path) -> int:
        recipe = Recipe(
            paper="none",
            rounds=1,
            models={"policy": Model(), "critic": critic},
            each_round=[
                Generate(n=1, max_new_tokens=40),
                Generate(name="criticise", model="critic", n=1, max_new_tokens=40),
                Evaluate(max_new_tokens=40),
            ],
        )
        backends = FakeBackends(adds)
        fake_run(recipe, root, backends=backends)
        return len(backends.samplers)

    assert engines(Model(), tmp_path / "shared") == 1
    assert engines(Model(engine="own"), tmp_path / "own") == 2


def test_a_plan_made_from_history_is_stored_and_read_back(tmp_path: Path) -> None:
    calls: list[int] = []

    def each_round(history: History) -> list[Stage]:
        calls.append(history.number)
        return [Generate(n=1 + len(calls), max_new_tokens=40), Evaluate(max_new_tokens=40)]

    recipe = Recipe(paper="none", rounds=2, each_round=each_round)
    fake_run(recipe, tmp_path)
    before = stored(tmp_path)
    # The function is not pure: asked again it would answer otherwise, so only the stored plan can give the same run.
    fake_run(recipe, tmp_path)
    assert stored(tmp_path) == before
    plan = json.loads((tmp_path / "round-01" / "plan.json").read_text())
    assert plan["stages"][0]["name"] == "generate"


def test_no_round_is_read_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[int] = Counter()
    real = stored_history.read_round

    def counted(store: Store, number: int, *more: Any, **named: Any) -> RoundResult:
        read[number] += 1
        return real(store, number, *more, **named)

    monkeypatch.setattr(controller, "read_round", counted)
    recipe = loop(rounds=5)
    for _ in range(2):
        read.clear()
        fake_run(recipe, tmp_path)
        assert set(read) == set(range(6))
        # However many rounds come after it.
        assert max(read.values()) <= 3
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert sorted({json.loads(line)["round"] for line in lines}) == list(range(6))


def test_a_round_that_is_not_finished_is_not_the_best(tmp_path: Path) -> None:
    given = loop(n=2)
    recipe = replace(given, each_round=[stage for stage in given.given() if stage.name != "gate"])
    fake_run(recipe, tmp_path / "whole")
    assert Run.open(tmp_path / "whole").best == 2
    events = [json.loads(line) for line in (tmp_path / "whole" / "events.jsonl").read_text().splitlines()]
    first = sum(each.get("tokens", 0) for each in events if each["round"] < 2)
    # It stops in round 2, once that has sampled.
    fake_run(recipe, tmp_path / "part", limits=Limits(tokens=first + 1))
    found = Run.open(tmp_path / "part")
    assert [each.number for each in found.history.rounds] == [0, 1, 2]
    assert found.best == 1
    assert found.checkpoint() == found.history.rounds[1].checkpoints["policy"]


def test_before_and_after_run_once(tmp_path: Path) -> None:
    recipe = replace(
        loop(rounds=2),
        before=[Generate(name="warm", n=1, max_new_tokens=40)],
        after=[Generate(name="last", n=1, max_new_tokens=40)],
    )
    fake_run(recipe, tmp_path)
    assert len(everything(tmp_path, Sample, "warm")) == 12
    assert len(everything(tmp_path, Sample, "last")) == 12
    assert "last" in Store(tmp_path).stages(2)
    before = stored(tmp_path)
    # Finished or not, the same command finds what came after the last round in its folder.
    fake_run(recipe, tmp_path)
    assert stored(tmp_path) == before
    (Store(tmp_path).stages(2)["last"].path / "stage.json").unlink()
    fake_run(recipe, tmp_path)
    assert stored(tmp_path) == before


def test_a_run_resumed_after_a_warm_up_that_trains_sees_round_0_as_it_was(tmp_path: Path) -> None:
    warm = [
        Generate(name="warm", n=4, max_new_tokens=40),
        Verify(name="warm-verify"),
        Select(name="warm-select", rules=(passed,)),
        MakeExamples(name="warm-build"),
        Train(name="warm-up"),
    ]
    fake_run(replace(loop(rounds=1), before=warm), tmp_path)
    before = stored(tmp_path)
    history = fake_run(replace(loop(rounds=2), before=warm), tmp_path)
    assert {name: content for name, content in stored(tmp_path).items() if name in before} == before
    assert len(history.rounds) == 3
    # What earlier rounds left, and what round 0 left itself, is met once.
    picks = [p.sample for p in everything(tmp_path, Pick, "warm-select")]
    assert len(picks) == len(set(picks)) == 12 * 4


def test_records_of_an_undeclared_type_are_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Liar(Quantile):
        def reduce(self, part: Part) -> Iterator[Setting]:
            return iter(())

        def run(self, part: Part, lab: Lab) -> Iterator[Any]:
            yield Checkpoint(id="x", path="x")

    recipe = Recipe(paper="none", rounds=1, each_round=[Generate(n=1, max_new_tokens=40), Liar()])
    with pytest.raises(RecipeError, match="not among its writes"):
        fake_run(recipe, tmp_path)


def test_the_audit_runs_beside_a_recipe_without_verifier_and_no_stage_reads_it(tmp_path: Path) -> None:
    seen: list[Verdict] = []

    @dataclass(frozen=True, kw_only=True)
    class Peek(Stage):
        @property
        def reads(self) -> tuple[type[Any], ...]:
            return (Sample, Verdict)

        @property
        def writes(self) -> tuple[type[Any], ...]:
            return ()

        def run(self, part: Part, lab: Lab) -> Iterator[Any]:
            seen.extend([*part.read(Verdict, earlier=True), *part.judged()])
            seen.extend(v for each in part.attempts(earlier=True).values() for a in each for v in a.verdicts)
            return iter(())

    recipe = Recipe(
        paper="none",
        rounds=2,
        audit=Audit(),
        each_round=[Generate(n=2, max_new_tokens=40), Peek(), Evaluate(max_new_tokens=40)],
    )
    fake_run(recipe, tmp_path)
    assert len(everything(tmp_path, Verdict, "audit")) == 2 * 12 * 2
    assert seen == []
    assert recipe.labels == "none"
    assert "audit" not in [stage.name for stage in replace(loop(), audit=Audit()).stages(History())]


def test_so_many_shards_are_open_that_the_engine_has_enough_to_do_where_each_asks_for_little(tmp_path: Path) -> None:
    met, here = threading.Barrier(8, timeout=20), threading.local()

    def answer(prompt: str, skill: float, stream: random.Random) -> str:
        if re.findall(r"(\d+)\+\d+=", prompt)[-1] == "0" and not hasattr(here, "been"):
            here.been = True
            met.wait()
        return adds(prompt, skill, stream)

    recipe = loop(rounds=1)
    waves = replace(recipe.each_round[0], waves=4)  # type: ignore[index]
    parts = {"train": sums(16), "valid": sums(2, "valid", 200), "test": sums(2, "test", 400)}
    backends = FakeBackends(answer)
    # A wave of a shard is two samples: four shards would leave half of the engine idle.
    assert backends.concurrency == 8
    fake_run(
        replace(recipe, each_round=[waves, *recipe.each_round[1:]]),  # type: ignore[index]
        tmp_path, problems=parts, backends=backends, shard=2,
    )  # fmt: skip
    assert len(everything(tmp_path, Sample, "generate")) > 16
