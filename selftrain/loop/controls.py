"""Controls of a recipe at its own budget, made of its own stages: what would have come out without the point of it.

A control is a function of the recipe and of what the recipe's run has come to (`Figures`); it returns another recipe,
or raises `LeftOut` with the reason why the recipe can't have it. It goes by what stages read and write, never by names.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, NamedTuple

from selftrain import pairings
from selftrain.errors import ConfigError, RecipeError, near
from selftrain.recipe import FromData, Recipe, Stage, Stages
from selftrain.records import Decision, Json, Pick, Sample, Verdict
from selftrain.round import History
from selftrain.rules import judging
from selftrain.stages import SFT, Evaluate, Generate, Gold, MakeExamples, Pair, Select, Train, Verify
from selftrain.stages.at_random import PairAtRandom, SelectAtRandom
from selftrain.verification.verify import load_verifier

MOST = 64
"""Samples a problem that best-of-n takes at most."""


class LeftOut(RecipeError):
    """A recipe can't have this control, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a run has spent and chosen; of a run that is still to come, estimates."""

    rounds: int
    sampled: int = 0
    """Tokens, on train problems."""
    trained: int = 0
    """Tokens in the loss, over all epochs."""
    kept: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Select stage -> how many samples it kept, or pairs it made, in each round."""
    steps: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Train stage -> its optimizer steps in each round."""
    row: float = 0.0
    """Mean tokens in the loss of a training row."""
    gold: float = 0.0
    """The same of a gold solution; 0 where the problems have none."""
    held_out: int = 1
    """Held-out problems."""
    response: float = 0.0
    """Mean tokens of a held-out response."""
    answers: bool = True
    """Whether the problems' own verifiers read an answer, which votes need."""
    pool: int = 0
    """Train problems."""


class Control(NamedTuple):
    """A kind of control."""

    make: Callable[[Recipe, Figures], Recipe]
    headline: str
    evaluate: str = ""
    """The stage that measures it; '' is the recipe's own."""


def transformed(recipe: Recipe, spec: Json) -> Recipe:
    """Return the control that a run file's `control` describes: {"name": ..., "figures": {...}}."""
    name = str(spec.get("name", ""))
    if name not in CONTROLS:
        raise ConfigError(f"there is no control {name!r}{near(name, CONTROLS)}; there are {', '.join(CONTROLS)}")
    try:
        figures = Figures(**spec.get("figures", {}))
    except TypeError as error:
        raise ConfigError(f"the figures of control {name!r} are not such: {error}") from error
    return CONTROLS[name].make(recipe, figures)


def spec(name: str, figures: Figures) -> dict[str, Any]:
    """Return what a run file says of a control."""
    return {"name": name, "figures": {key: _plain(value) for key, value in asdict(figures).items()}}


def verifier_off(recipe: Recipe, figures: Figures) -> Recipe:
    """As many rows as the recipe kept in each round, drawn at random: rules that read verdicts are taken out."""
    stages = [stage for stage in recipe.given() if _on_train(stage)]
    choosing = [stage for stage in stages if _chooses(stage)]
    if not choosing:
        raise LeftOut("no stage of it chooses by verdicts")
    for stage in stages:
        if Verdict in stage.reads and not _chooses(stage) and not stage.hidden and not stage.baseline:
            raise LeftOut(f"stage {stage.name!r} goes by verdicts too, and has no meaning without them")

    def change(stage: Stage, at: int) -> Stage:
        if not _chooses(stage):
            return stage
        kept = figures.kept.get(stage.name, ())
        given = {f.name: getattr(stage, f.name) for f in fields(stage)}
        given["rules"] = tuple(rule for rule in given["rules"] if not judging(rule))
        given["count"] = kept[min(at, len(kept) - 1)] if kept else 0
        if "pairing" in given:
            del given["pairing"]
            return PairAtRandom(**given)
        return SelectAtRandom(**given)

    return _by_round(replace(recipe, rounds=figures.rounds), change)


def shuffled(recipe: Recipe, figures: Figures) -> Recipe:
    """The verdicts of each problem's samples dealt out anew: as many pass, but which ones is chance."""
    stages = [stage for stage in recipe.given() if _on_train(stage)]
    judges = [stage for stage in stages if _judges(stage)]
    if not judges:
        raise LeftOut("no stage of it judges samples")
    if all(getattr(stage, "n", 1) == 1 for stage in stages if Sample in stage.writes):
        raise LeftOut("with one sample a problem there is nothing to shuffle")
    renamed: dict[str, str] = {}
    for stage in judges:
        by = str(getattr(stage, "by", ""))
        if by:
            verifier = load_verifier(by)
            if verifier.group:
                raise LeftOut(f"verifier {by!r} judges all samples of a problem together, not one by one")
            if "model" in verifier.asks:
                raise LeftOut(f"verifier {by!r} asks a model, which the shuffled one has none of")
        renamed[by] = json.dumps({"by": _part(by), "name": "shuffled"}, sort_keys=True)

    def change(stage: Stage, at: int) -> Stage:
        if not _on_train(stage):
            return stage
        steps = figures.steps.get(stage.name, ())
        if "trainer" in stage.uses and any(steps):
            # Chance passes other texts, of which more may be distinct: the budget is the recipe's all the same.
            most = max(1, steps[min(at, len(steps) - 1)])
            return _set(stage, settings={**getattr(stage, "settings", {}), "max_steps": most})
        if _judges(stage):
            return _set(stage, by=renamed[str(getattr(stage, "by", ""))])
        names = {name: new for name, new in renamed.items() if name}
        return replace(stage, **{f.name: _renamed(f.name, getattr(stage, f.name), names) for f in fields(stage)})

    return _by_round(replace(recipe, rounds=figures.rounds), change)


def gold_only(recipe: Recipe, figures: Figures) -> Recipe:
    """Fine-tuning on the problems' gold solutions alone, with as many trained tokens."""
    if not figures.gold:
        raise LeftOut("its problems have no gold solutions")
    trains = [stage for stage in recipe.given() if _trains(stage)]
    if not trains:
        raise LeftOut("it trains no policy")
    own = trains[-1]
    steps = sum(map(sum, figures.steps.values()))
    settings = {**getattr(own, "settings", {})}
    if steps and figures.row:
        rows_a_step = figures.trained / steps / figures.row
        settings["max_steps"] = max(1, round(figures.trained / (figures.gold * rows_a_step)))
    train = Train(
        loss=SFT(),
        start="base",
        adapter=getattr(own, "adapter", "lora"),
        settings=settings,
        lora=getattr(own, "lora", {}),
    )
    stages = [Gold(), Select(rules=()), MakeExamples(), train, *_measuring(recipe)]
    return replace(recipe, rounds=1, each_round=stages, after=(), draw=None)


def best_of_n(recipe: Recipe, figures: Figures) -> Recipe:
    """No training: the base model answers each held-out problem n times, as many tokens as the recipe has sampled.

    The answer is chosen by the recipe's own blind verifier where it has one, else by vote: never by gold.
    """
    stages = [stage for stage in recipe.given() if _on_train(stage)]
    blind = [
        stage for stage in stages if _judges(stage) and getattr(stage, "blind", False) and getattr(stage, "by", "")
    ]
    if not blind and not figures.answers:
        raise LeftOut("nothing can choose among n without gold: its verifier reads no answers to vote on")
    sampling = [stage for stage in stages if _samples(stage)]
    if not sampling:
        raise LeftOut("it samples nothing on its own budget")
    n = round(figures.sampled / (figures.held_out * figures.response)) if figures.response else MOST
    temperature = getattr(sampling[0], "temperature", 1.0)
    generate = Generate(
        name="sampled",
        n=min(MOST, max(2, n)),
        temperature=1.0 if isinstance(temperature, FromData) or not temperature else temperature,
        max_new_tokens=getattr(sampling[0], "max_new_tokens", 256),
        which="base",
    )
    own: list[Stage] = [generate, Verify(of=("sampled",))]
    combine = "vote"
    if blind:
        judge = blind[-1]
        own.append(replace(judge, name="judge", of=("sampled",)))
        combine = f"best_by:{getattr(judge, 'by', '')}"
    evaluate = Evaluate(name="best-of-n", stages=tuple(own), measure=("sampled",), combine=combine)
    return replace(recipe, rounds=1, each_round=[evaluate], after=(), before=())


def one_round(recipe: Recipe, figures: Figures) -> Recipe:
    """One round with as many samples and training steps as all the recipe's rounds had."""
    if figures.rounds < 2:
        raise LeftOut("it has one round itself")
    stages = [stage for stage in recipe.given() if _samples(stage)]
    if not stages:
        raise LeftOut("no stage of it samples a number of responses that can be raised")
    # A run that draws other problems in each round sees as many in one.
    draw = min(figures.pool, recipe.draw * figures.rounds) if recipe.draw else None
    more = figures.rounds * recipe.draw / draw if draw and recipe.draw else figures.rounds

    def change(stage: Stage, at: int) -> Stage:
        if _samples(stage):
            return _set(stage, n=max(1, round(getattr(stage, "n", 1) * more)))
        steps = sum(figures.steps.get(stage.name, ()))
        if "trainer" in stage.uses and steps:
            return _set(stage, settings={**getattr(stage, "settings", {}), "max_steps": steps})
        return stage

    return _by_round(replace(recipe, rounds=1, draw=draw), change)


CONTROLS: Mapping[str, Control] = {
    "verifier-off": Control(verifier_off, "as many rows, drawn at random"),
    "shuffled": Control(shuffled, "each problem's verdicts dealt out anew"),
    "gold-only": Control(gold_only, "fine-tuned on gold solutions alone"),
    "best-of-n": Control(best_of_n, "no training: chosen among n samples of the base model", "best-of-n"),
    "one-round": Control(one_round, "all samples and steps in one round"),
}
"""Name -> control, in the order in which they run."""


def _by_round(recipe: Recipe, change: Callable[[Stage, int], Stage]) -> Recipe:
    """Change every stage of every round, by the round's place; a gate stops no control before its budget is spent.

    Nor does a control sample in waves, by which verdicts would steer it.
    """
    given = recipe.each_round

    def each_round(history: History) -> Stages:
        stages = given(history) if callable(given) else given
        return [change(_at_once(_patient(stage)), max(0, history.number - 1)) for stage in stages]

    return replace(recipe, each_round=each_round)


def _patient(stage: Stage) -> Stage:
    return _set(stage, patience=1_000) if Decision in stage.writes and hasattr(stage, "patience") else stage


def _at_once(stage: Stage) -> Stage:
    return _set(stage, waves=1, most=0, coolest=None) if getattr(stage, "waves", 1) > 1 else stage


def _set(stage: Stage, **values: Any) -> Stage:
    """Return a stage with fields changed that not every stage has."""
    return replace(stage, **values)


def _on_train(stage: Stage) -> bool:
    return "train" in stage.splits and not stage.baseline


def _chooses(stage: Stage) -> bool:
    """Whether it is a Select or a Pair as they are, and goes by verdicts."""
    if Pick not in stage.writes or type(stage).run not in (Select.run, Pair.run):
        return False
    known = {f.name for kind in (Select, Pair) for f in fields(kind)}
    by_rules = any(map(judging, getattr(stage, "rules", ())))
    by_pairing = hasattr(stage, "pairing") and pairings.judging(stage.pairing)
    return (by_rules or by_pairing) and {f.name for f in fields(stage)} <= known


def _judges(stage: Stage) -> bool:
    return Verdict in stage.writes and not stage.hidden and isinstance(getattr(stage, "by", None), str)


def _samples(stage: Stage) -> bool:
    return _on_train(stage) and "sampler" in stage.uses and isinstance(getattr(stage, "n", None), int)


def _trains(stage: Stage) -> bool:
    return "trainer" in stage.uses and getattr(stage, "model", "") == "policy"


def _measuring(recipe: Recipe) -> list[Stage]:
    """The stages that measure a round, and those that decide about it."""
    given = list(recipe.given())
    read = {name for stage in given if stage.baseline for name in stage.of}
    return [_patient(s) for s in given if s.baseline or s.name in read or Decision in s.writes]


def _part(by: str) -> Any:
    """A verifier's spec as a combinator's part has it."""
    return json.loads(by) if by.startswith("{") else by


def _renamed(name: str, value: Any, names: Mapping[str, str]) -> Any:
    """Return a setting with verifiers that are meant by `by` renamed, however deep it lies."""
    if name == "by" and isinstance(value, str):
        short = {(json.loads(old)["name"] if old.startswith("{") else old): new for old, new in names.items()}
        return names.get(value, short.get(value, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _renamed(f.name, getattr(value, f.name), names) for f in fields(value)})
    if isinstance(value, tuple):
        return tuple(_renamed("", each, names) for each in value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return list(value) if isinstance(value, (list, tuple)) else value
