"""Recipes: whether their stages fit together, and who sees gold."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from selftrain.errors import RecipeError
from selftrain.lab import Lab
from selftrain.recipe import FromData, Model, Recipe, Stage, check_stages
from selftrain.records import Sample, Setting
from selftrain.round import History, Part
from selftrain.rules import AtLeast, AtMost, distinct, passed
from selftrain.stages import Evaluate, Gate, Generate, Gold, MakeExamples, Select, Train, Verify

LOOP: list[Stage] = [Generate(), Verify(), Select(), MakeExamples(), Train(), Evaluate(), Gate()]


def recipe(stages: list[Stage] | Any, **changes: Any) -> Recipe:
    return Recipe(paper="none", each_round=stages, **changes)


def test_a_whole_loop_fits_together() -> None:
    recipe(LOOP).check()


@pytest.mark.parametrize("missing", range(4))
def test_without_one_of_its_stages_it_does_not(missing: int) -> None:
    # Without Generate, Verify, Select or MakeExamples the next one reads what nobody writes.
    with pytest.raises(RecipeError, match=r"reads \w+ records, but no earlier stage"):
        recipe(LOOP[:missing] + LOOP[missing + 1 : -2]).check()


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([Generate(), Generate()], "two stages are named 'generate'; give one of them another name="),
        ([Generate(), Verify(of=("genrate",))], "'genrate', which is no earlier stage; did you mean generate?"),
        ([Verify(of=("generate",)), Generate()], "'generate', which is no earlier stage"),
        ([Generate(), Verify(), Select(of=("verify",)), Verify(name="v2", of=("select",))], "select writes none"),
        ([Generate(model="polcy")], "not one of the recipe's; did you mean policy?"),
        ([*LOOP[:4], Train(model="critic")], "uses model 'critic'"),
        ([*LOOP[:6], Evaluate()], "two stages are named"),
    ],
)
def test_what_does_not_fit_is_said(stages: list[Stage], said: str) -> None:
    with pytest.raises(RecipeError, match=said.replace("?", r"\?")):
        check_stages([each for stage in stages for each in stage.expand()], {"policy": Model()})


def test_what_comes_before_and_after_is_checked_too() -> None:
    for phase in ("before", "after"):
        with pytest.raises(RecipeError, match="reads Row"):
            recipe(LOOP, **{phase: [Train(name="warm")]}).check()


@pytest.mark.parametrize(("changes", "said"), [({"rounds": 0}, "rounds is 0"), ({"draw": 0}, "draw is 0")])
def test_counts_are_at_least_one(changes: dict[str, int], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(LOOP, **changes).check()


@pytest.mark.parametrize(
    ("stages", "labels"),
    [
        ([Generate()], "none"),
        ([Generate(), Verify(by="vote", blind=True)], "none"),
        ([Generate(), Evaluate()], "none"),
        ([Generate(), Verify()], "gold"),
        ([Generate(template="hint")], "gold"),
        ([Gold()], "gold"),
        ([Generate(), Evaluate(), Gate()], "gold"),
    ],
)
def test_labels_are_what_the_stages_see(stages: list[Stage], labels: str) -> None:
    assert recipe(stages).labels == labels


def test_a_change_reaches_every_stage_also_those_made_from_history() -> None:
    def change(stage: Stage) -> Stage:
        return replace(stage, n=2) if isinstance(stage, Generate) else stage

    for stages in (LOOP, lambda history: LOOP):
        made = recipe(stages, before=[Generate()], after=[Generate()]).changed(change)
        assert [s.n for s in (*made.before, *made.given(), *made.after) if isinstance(s, Generate)] == [2, 2, 2]


def test_a_round_may_depend_on_the_rounds_before() -> None:
    made = recipe(lambda history: [Generate(n=1 + history.number)])
    assert [s.n for s in made.stages(History()) if isinstance(s, Generate)] == [1]


def test_a_stage_is_named_after_its_kind_and_stays_as_it_is() -> None:
    assert [s.name for s in LOOP] == ["generate", "verify", "select", "build", "train", "evaluate", "gate"]
    with pytest.raises(AttributeError):
        LOOP[0].name = "other"  # type: ignore[misc]


def test_a_field_from_the_data_is_put_in() -> None:
    stage = Generate(n=FromData("count"), temperature=FromData("heat"))
    assert stage.resolved({"count": 3, "heat": 0.5}) == Generate(n=3, temperature=0.5)
    with pytest.raises(RecipeError, match="needs heat from the data"):
        stage.resolved({"count": 3})


def test_a_part_of_a_field_from_the_data_is_put_in_however_deep() -> None:
    rules = (passed, AtLeast(FromData("line"), by="vote"), AtMost(2))
    stage = Select(rules=rules)
    assert stage.resolved({"line": 0.5}) == Select(rules=(passed, AtLeast(0.5, by="vote"), AtMost(2)))
    train = Train(settings={"learning_rate": FromData("rate"), "betas": (FromData("rate"), 1)})
    assert train.resolved({"rate": 0.1}).settings == {"learning_rate": 0.1, "betas": (0.1, 1)}
    with pytest.raises(RecipeError, match="needs line from the data"):
        stage.resolved({})
    plain = Select()
    assert plain.resolved({"line": 0.5}) is plain


def test_a_stage_says_what_it_will_cost() -> None:
    cost = Generate(n=4, max_new_tokens=10).cost(5)
    assert (cost.samples, cost.tokens) == (20, 200)


@dataclass(frozen=True, kw_only=True)
class Quota(Stage):
    """Needs all shards."""

    @property
    def reads(self) -> tuple[type[Any], ...]:
        return (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        return ()

    def reduce(self, part: Part) -> Iterator[Setting]:
        return iter(())

    def run(self, part: Part, lab: Lab) -> Iterator[Any]:
        return iter(())


def test_a_reduce_is_seen() -> None:
    assert Quota().reduces
    assert not Generate().reduces
    assert Select(rules=(passed, distinct, AtMost(4))) == Select()
