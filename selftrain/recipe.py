"""Stage: a piece of work of a round. Recipe: their order. And the check that every stage's inputs exist."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, Self

from selftrain.errors import RecipeError, near
from selftrain.lab import Lab
from selftrain.records import Checkpoint, JsonValue, Problem, Sample, Setting
from selftrain.round import History, Part

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}"
"""What stages and models may be named: their folders are called so."""
WHICH = ("base", "best", "latest", "previous")
"""The weights of a model that a stage can read."""
SPLITS = ("train", "valid", "test")
Resource = Literal["sampler", "trainer", "verifiers", "tokens"]


@dataclass(frozen=True, slots=True)
class FromData:
    """A value that a stage of this round finds in the data: `temperature=FromData("temperature")`.

    It stands for a field, or for a part of one: `rules=(AtLeast(FromData("threshold")),)`.
    """

    name: str

    def __str__(self) -> str:
        return f"{self.name} from data"


class Cost(NamedTuple):
    """What a stage will take at most: sampled tokens and stored bytes."""

    samples: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """A piece of work; its fields are its settings."""

    name: str = ""
    """Unique in the recipe; by default the class's name."""
    of: tuple[str, ...] = ()
    """The stages it reads; by default all earlier ones of the round that write what it reads."""
    splits: tuple[str, ...] = ("train",)
    """The problems it works on."""

    scope: ClassVar[Literal["problem", "round"]] = "problem"
    """problem: a function of one shard, run as a pipeline with its neighbours; round: sees all shards at once."""
    version: ClassVar[int] = 1
    """Raised when the same settings give other records."""
    hidden: ClassVar[bool] = False
    """No other stage reads what it writes; its name begins with "audit"."""
    baseline: ClassVar[bool] = False
    """Run in round 0 too, on the base model."""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", type(self).__name__.lower())

    @property
    @abstractmethod
    def reads(self) -> tuple[type[Any], ...]:
        """The record types it needs."""

    @property
    @abstractmethod
    def writes(self) -> tuple[type[Any], ...]:
        """The record types it makes."""

    @abstractmethod
    def run(self, part: Part, lab: Lab) -> Iterable[Any]:
        """Do the work on one shard; return or yield the records."""

    @property
    def uses(self) -> tuple[Resource, ...]:
        """The resources of the lab that it works with."""
        return ()

    @property
    def gold(self) -> bool:
        """Whether it sees answers, solutions and tests."""
        return False

    @property
    def truthful(self) -> bool:
        """Whether it judges train samples by each problem's own verifier, so that no audit is needed beside it."""
        return False

    @property
    def reach(self) -> Literal["round", "run"]:
        """Whether it works on this round's shards or on all that the run has drawn so far."""
        return "round"

    @property
    def weights(self) -> tuple[tuple[str, str], ...]:
        """The models it reads, as (name, which); a change of what is sampled is a barrier."""
        return ()

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The metrics of which it stores every held-out problem's outcome."""
        return ()

    def fits(self, earlier: Sequence["Stage"]) -> None:
        """Raise RecipeError where its settings name what no earlier stage of the round makes."""
        return

    def expand(self) -> tuple["Stage", ...]:
        """The stages that run in its place, itself last."""
        return (self,)

    def reduce(self, part: Part) -> Iterable[Setting]:
        """Settings found over all shards of its sources before it runs; overriding it makes a barrier."""
        return ()

    def cost(self, problems: int) -> Cost:
        """What it takes at most for so many problems."""
        return Cost()

    @property
    def asks(self) -> int:
        """How many samples of a problem it asks the engine for before it waits for one; 0 if it asks for none."""
        return self.cost(1).samples

    def words(self) -> dict[str, str]:
        """What the plan says of it, beyond its name."""
        return {}

    def resolved(self, settings: Mapping[str, JsonValue]) -> Self:
        """Return it with the values that earlier stages of the round found in the data."""
        wanted = {each.name for f in fields(self) for each in _from_data(getattr(self, f.name))}
        if missing := sorted(wanted.difference(settings)):
            raise RecipeError(f"stage {self.name!r} needs {', '.join(missing)} from the data, but nothing has set it")
        if not wanted:
            return self
        return replace(self, **{f.name: _filled(getattr(self, f.name), settings) for f in fields(self)})

    @property
    def reduces(self) -> bool:
        """Whether it needs all shards of its sources before it can begin."""
        return type(self).reduce is not Stage.reduce


def _from_data(value: Any) -> list[FromData]:
    """Return what of a field's value is to be found in the data, however deep it lies."""
    if isinstance(value, FromData):
        return [value]
    if is_dataclass(value) and not isinstance(value, type):
        return [found for f in fields(value) for found in _from_data(getattr(value, f.name))]
    if isinstance(value, (tuple, list)):
        return [found for each in value for found in _from_data(each)]
    if isinstance(value, Mapping):
        return [found for each in value.values() for found in _from_data(each)]
    return []


def _filled(value: Any, settings: Mapping[str, JsonValue]) -> Any:
    """Return a field's value with what was found in the data put in."""
    if isinstance(value, FromData):
        return settings[value.name]
    if not _from_data(value):
        return value
    if isinstance(value, (tuple, list)):
        return tuple(_filled(each, settings) for each in value)
    if isinstance(value, Mapping):
        return {name: _filled(each, settings) for name, each in value.items()}
    return replace(value, **{f.name: _filled(getattr(value, f.name), settings) for f in fields(value)})


def later(make: Callable[[], Any]) -> Any:
    """A field that came after runs were made: while it is empty, as `make` makes it, it is no part of the key."""
    return field(default_factory=make, metadata={"later": True})


def free(default: Any) -> Any:
    """A stage's field that does not change the data it makes, and so is no part of its key."""
    return field(default=default, metadata={"free": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A named model of a run."""

    init: str = "base"
    """base: the run's model; or a model's name, folder or hub id."""
    engine: Literal["shared", "own"] = "shared"
    """own: it keeps an engine of its own and is never swapped out."""


Stages = Sequence[Stage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A method: which stages, in which order, for how many rounds."""

    paper: str
    each_round: Stages | Callable[[History], Stages]
    """The stages of a round, or a function of the rounds before."""
    rounds: int = 3
    before: Stages = ()
    """Run once, before round 1 (warm-up, a critic)."""
    after: Stages = ()
    """Run once, after the last round."""
    models: Mapping[str, Model] = field(default_factory=lambda: {"policy": Model()})
    draw: int | None = None
    """Problems a round, taken in turn from the train pool; None takes all."""
    control: str = ""
    """What it is compared with, as on the command line: another recipe with settings ("rest_em keep=1")."""
    claim: Literal["better", "worse"] = "better"
    """What its paper says of it beside that control."""
    audit: Stage | None = None
    """Put in after the last stage that samples, where no stage of the round is `truthful`."""

    def stages(self, history: History) -> tuple[Stage, ...]:
        """Return the stages of the next round, sub-stages in their places."""
        given = self.each_round(history) if callable(self.each_round) else self.each_round
        return self._audited(expanded(given))

    @property
    def labels(self) -> Literal["gold", "none"]:
        """gold: some stage of the loop sees gold answers, or is steered by a metric made from them."""
        loop = [*self.before, *self.given(), *self.after]
        return "gold" if any(stage.gold for stage in loop) else "none"

    @property
    def own(self) -> frozenset[str]:
        """The models that have engines of their own."""
        return frozenset(name for name, model in self.models.items() if model.engine == "own")

    def check(self) -> None:
        """Raise RecipeError if the stages do not fit together."""
        if self.rounds < 1:
            raise RecipeError(f"rounds is {self.rounds}: a run needs at least 1")
        if self.draw is not None and self.draw < 1:
            raise RecipeError(f"draw is {self.draw}: a round needs at least 1 problem")
        for name in self.models:
            if not re.fullmatch(NAME, name):
                raise RecipeError(
                    f"a model is named {name!r}; its name is a part of a folder's: letters, digits, - and _"
                )
        for stages in (expanded(self.before), self.stages(History()), expanded(self.after)):
            check_stages(stages, self.models)

    def changed(self, change: Callable[[Stage], Stage]) -> "Recipe":
        """Return the recipe with `change` applied to every stage, also to those it makes from the history."""
        given = self.each_round
        if callable(given):
            make = given
            each: Stages | Callable[[History], Stages] = lambda history: [change(s) for s in make(history)]  # noqa: E731
        else:
            each = [change(stage) for stage in given]
        return replace(
            self,
            each_round=each,
            before=[change(stage) for stage in self.before],
            after=[change(stage) for stage in self.after],
        )

    def _audited(self, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        sampling = [i for i, stage in enumerate(stages) if Sample in stage.writes and "train" in stage.splits]
        if self.audit is None or not sampling or any(stage.truthful for stage in stages):
            return stages
        return (*stages[: sampling[-1] + 1], self.audit, *stages[sampling[-1] + 1 :])

    def given(self) -> Stages:
        """Return the stages of a round as the recipe gives them; of the first one where the history decides."""
        return self.each_round(History()) if callable(self.each_round) else self.each_round


def expanded(stages: Stages) -> tuple[Stage, ...]:
    """Return stages with their sub-stages in their places."""
    return tuple(each for stage in stages for each in stage.expand())


def baseline(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages that run in round 0 too: those that say so, and those that they read."""
    read = {name for stage in stages if stage.baseline for name in stage.of}
    return tuple(stage for stage in stages if stage.baseline or stage.name in read)


def check_stages(stages: Sequence[Stage], models: Mapping[str, Model]) -> None:
    """Raise RecipeError unless names are unique, every `of` is an earlier stage, and every input has a writer."""
    seen: dict[str, Stage] = {}
    for stage in stages:
        if not re.fullmatch(NAME, stage.name):
            raise RecipeError(f"a stage is named {stage.name!r}; its name is a folder's: letters, digits, - and _")
        if stage.name in seen:
            raise RecipeError(f"two stages are named {stage.name!r}; give one of them another name=")
        for name in stage.of:
            if name not in seen:
                raise RecipeError(
                    f"stage {stage.name!r} reads of {name!r}, which is no earlier stage{near(name, seen)}"
                )
        sources = [seen[name] for name in stage.of] if stage.of else list(seen.values())
        # Problems and the base model's checkpoint are there from round 0.
        written = {Problem, Checkpoint}.union(*(set(each.writes) for each in seen.values()))
        for kind in stage.reads:
            if kind not in written:
                raise RecipeError(
                    f"stage {stage.name!r} reads {kind.__name__} records, but no earlier stage of the round writes any"
                )
        if stage.of and not any(set(each.writes) & (set(stage.reads) | {Problem}) for each in sources):
            wanted = " or ".join(kind.__name__ for kind in stage.reads)
            raise RecipeError(f"stage {stage.name!r} reads {wanted}, but {', '.join(stage.of)} writes none of them")
        _check_words(stage)
        for model, _ in stage.weights:
            if model not in models:
                raise RecipeError(
                    f"stage {stage.name!r} uses model {model!r}, not one of the recipe's{near(model, models)}"
                )
        stage.fits(tuple(seen.values()))
        seen[stage.name] = stage


def _check_words(stage: Stage) -> None:
    """Refuse words for weights and splits that mean nothing: no stage would find what they name."""
    told = [(which, WHICH) for _, which in stage.weights] + [(split, SPLITS) for split in stage.splits]
    for word, known in told:
        if word not in known:
            raise RecipeError(
                f"stage {stage.name!r} names {word!r}, which is none of {', '.join(known)}{near(word, known)}"
            )
