"""Evaluate: measure a model on the held-out splits, by stages of its own."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

from selftrain import statistics
from selftrain.errors import RecipeError, near
from selftrain.lab import Lab
from selftrain.recipe import Stage
from selftrain.records import Metric, Outcome, Problem, Sample, Verdict
from selftrain.round import Part, judged_by
from selftrain.stages.generate import Generate
from selftrain.stages.verify import Verify


class Response(NamedTuple):
    """What of a held-out sample the metrics need."""

    status: str
    finished: bool
    tokens: int
    answer: str | None
    scores: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """Only a pass counts; error, timeout, abstain and a missing sample do not."""
        return self.status == "pass"

    def score(self, by: str) -> float | None:
        """The score that a verifier gave it, by the verifier's name or spec."""
        return next((score for spec, score in self.scores.items() if judged_by(spec, by)), None)


@dataclass(frozen=True, kw_only=True)
class Evaluate(Stage):
    """Accuracy on valid (read by the Gate) and test (read by report and card only), with intervals.

    By default one greedy response a problem, and `samples` more at `temperature` for pass@k and maj@k. Other `stages`
    replace those: any Generate with n=1 gives an accuracy, with more samples a pass@1, pass@k and maj@k; `combine`
    says how a problem's samples become its outcome. Where a stage of its own makes problems (a judge's questions), what
    is measured of whoever answers them counts for the problem they were made from.
    """

    splits: tuple[str, ...] = ("valid", "test")
    samples: int = 0
    temperature: float = 1.0
    max_new_tokens: int = 256
    by: str = ""
    model: str = "policy"
    which: str = "latest"
    stages: tuple[Stage, ...] = ()
    measure: tuple[str, ...] = ()
    """Those of `stages` whose samples are measured, the headline first; by default all that sample, in their order."""
    combine: str = "mean"
    """mean; vote: the commonest answer; best_by:NAME: the sample that verifier NAME scores highest."""

    scope: ClassVar[Literal["problem", "round"]] = "round"
    baseline: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 0:
            raise RecipeError(f"stage {self.name!r}: samples is {self.samples}, but must be 0 or more")
        if self.combine not in ("mean", "vote") and not self.combine.startswith("best_by:"):
            raise RecipeError(
                f"stage {self.name!r}: combine is {self.combine!r}; it can be mean, vote or best_by:VERIFIER"
            )
        sampling = [stage.name for stage in self.stages or self._usual() if _samples(stage)]
        for name in self.measure:
            if name not in sampling:
                raise RecipeError(
                    f"stage {self.name!r}: measure names {name!r}, no stage of its own that samples"
                    f"{near(name, sampling)} (there are {', '.join(sampling) or 'none'})"
                )

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Samples and verdicts of its own stages."""
        return (Sample, Verdict)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Metrics, and each problem's outcome."""
        return (Metric, Outcome)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """An accuracy or a pass@1 for each stage of its own that samples."""
        own = [self._mine(stage) for stage in self.stages or self._usual()]
        return tuple(self._prefix(stage, at) + self._headline(stage) for at, stage in enumerate(self._examined(own)))

    def expand(self) -> tuple[Stage, ...]:
        """Its own stages on its splits, then itself."""
        own = tuple(self._mine(stage) for stage in self.stages or self._usual())
        return (*own, replace(self, of=tuple(stage.name for stage in own)))

    def _usual(self) -> tuple[Stage, ...]:
        one = Generate(
            name="greedy",
            n=1,
            temperature=0.0,
            max_new_tokens=self.max_new_tokens,
            model=self.model,
            which=self.which,
        )
        more = replace(one, name="sampled", n=max(1, self.samples), temperature=self.temperature)
        return (one, *((more,) if self.samples else ()), Verify(by=self.by))

    def _mine(self, stage: Stage) -> Stage:
        of = tuple(f"{self.name}-{name}" for name in stage.of)
        return replace(stage, name=f"{self.name}-{stage.name}", splits=self.splits, of=of)

    def run(self, part: Part, lab: Lab) -> Iterator[Metric | Outcome]:
        """Measure each generating stage on each split."""
        splits = part.split_of()
        responses = _responses(part)
        for place, stage in enumerate(self._examined(part.round.sources(self))):
            n, prefix, name = getattr(stage, "n", 1), self._prefix(stage, place), self._headline(stage)
            mine, made = responses[stage.name], _made(part, stage)
            for split in self.splits:
                problems = [id for id, where in splits.items() if where == split and (made is None or id in made)]
                if problems:
                    groups = {id: mine.get(id, []) for id in problems}
                    asked = {id: n * made[id] if made else n for id in problems}
                    yield from self._measured(groups, asked, prefix, name, split, part)

    def _examined(self, own: Sequence[Stage]) -> list[Stage]:
        sampling = {stage.name.removeprefix(f"{self.name}-"): stage for stage in own if _samples(stage)}
        return [sampling[name] for name in self.measure or sampling]

    def _prefix(self, stage: Stage, place: int) -> str:
        """The first stage that is measured is the headline; the metrics of the others carry their name."""
        usual = not self.stages and getattr(stage, "n", 1) > 1
        return "" if place == 0 or usual else f"{stage.name.removeprefix(self.name + '-')}/"

    def _headline(self, stage: Stage) -> str:
        return "accuracy" if getattr(stage, "n", 1) == 1 or self.combine != "mean" else "pass@1"

    def _measured(
        self,
        groups: Mapping[str, Sequence[Response]],
        asked: Mapping[str, int],
        prefix: str,
        headline: str,
        split: str,
        part: Part,
    ) -> Iterator[Metric | Outcome]:
        name = prefix + headline
        judge = self.combine.removeprefix("best_by:") if self.combine.startswith("best_by:") else ""
        if judge and all(each.score(judge) is None for group in groups.values() for each in group):
            raise RecipeError(f"stage {self.name!r}: combine is {self.combine!r}, but {judge!r} has scored no sample")
        outcomes = {id: self._outcome(group, asked[id]) for id, group in groups.items()}
        yield from (Outcome(problem=id, split=split, name=name, value=value) for id, value in outcomes.items())
        values = list(outcomes.values())
        yield _metric(name, statistics.mean(values), split)
        for label, round in (("base", 0), ("best", part.round.history.best)):
            if part.round.number > 0:
                before = {o.problem: o.value for o in part.outcomes(round, self.name) if o.name == name}
                both = [id for id in outcomes if id in before]
                gain = statistics.difference([outcomes[id] for id in both], [before[id] for id in both])
                yield _metric(f"{name}_gain_{label}", gain, split)
        n = min(asked.values())
        if n > 1 and n == max(asked.values()):
            for k in sorted({k for k in (2, 4, 8, 16, 32, 64, 128) if k <= n} | {n}):
                rates = [statistics.pass_at_k(n, sum(r.passed for r in group), k) for group in groups.values()]
                yield _metric(f"{prefix}pass@{k}", statistics.mean(rates), split)
            votes = [float(_vote(group)) for group in groups.values()]
            yield _metric(f"{prefix}maj@{n}", statistics.mean(votes), split)
        every = [r for group in groups.values() for r in group]
        yield from _described(every, sum(asked.values()), prefix, split, n)

    def _outcome(self, group: Sequence[Response], n: int) -> float:
        if self.combine == "vote":
            return float(_vote(group))
        if self.combine.startswith("best_by:"):
            judge = self.combine.removeprefix("best_by:")
            scored = [(score, r) for r in group if (score := r.score(judge)) is not None]
            return float(max(scored, key=lambda pair: pair[0])[1].passed) if scored else 0.0
        return sum(r.passed for r in group) / n


def _made(part: Part, stage: Stage) -> dict[str, int] | None:
    """Return how many problems were made of each given one, where a stage samples made problems."""
    makers = [each for each in part.round.stages if each.name in stage.of and Problem in each.writes]
    if not makers:
        return None
    tables = [part.round.folder(each.name).columns(Problem, ["parent"]) for each in makers]
    return Counter(str(parent) for table in tables for parent in table.column("parent").to_pylist())


def _samples(stage: Stage) -> bool:
    return Sample in stage.writes


def _described(responses: Sequence[Response], asked: int, prefix: str, split: str, n: int) -> Iterator[Metric]:
    """What stands beside an accuracy: how much of it could not be judged, was cut off, how long it was."""
    suffix = "" if n == 1 else "@sampled"
    done = [r for r in responses if r.finished]
    unjudged = asked - sum(r.status in ("pass", "fail", "scored") for r in responses)
    yield _metric(f"{prefix}accuracy_finished{suffix}", statistics.mean([float(r.passed) for r in done]), split)
    yield _metric(f"{prefix}mean_length{suffix}", statistics.mean([float(r.tokens) for r in responses]), split)
    yield Metric(
        name=f"{prefix}truncated{suffix}",
        value=(len(responses) - len(done)) / max(1, len(responses)),
        n=len(responses),
        split=split,
    )
    yield Metric(name=f"{prefix}errors{suffix}", value=unjudged / max(1, asked), n=asked, split=split)


def _metric(name: str, estimate: statistics.Estimate, split: str) -> Metric:
    return Metric(name=name, value=estimate.value, low=estimate.low, high=estimate.high, n=estimate.n, split=split)


def _vote(group: Sequence[Response]) -> bool:
    """Whether the commonest answer is right; of equally common ones the first counts."""
    answers = Counter(r.answer for r in group if r.answer is not None)
    if not answers:
        return False
    winner = answers.most_common(1)[0][0]
    return any(r.passed for r in group if r.answer == winner)


def _responses(part: Part) -> dict[str, dict[str, list[Response]]]:
    """Stage -> given problem -> its responses, those to problems made of it too, with what the verifiers said."""
    parents = {
        row["id"]: row["parent"]
        for stage in part.round.sources(part.stage)
        if Problem in stage.writes
        for row in part.round.folder(stage.name).columns(Problem, ["id", "parent"]).to_pylist()
    }
    statuses: dict[str, str] = {}
    answers: dict[str, str | None] = {}
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for row in part.columns(Verdict, ["sample", "by", "status", "score", "answer"]).to_pylist():
        if row["score"] is not None:
            scores[row["sample"]][row["by"]] = row["score"]
        # A second verifier's scores rank samples; whether one is right is said by pass and fail alone.
        if row["status"] != "scored" or row["sample"] not in statuses:
            statuses[row["sample"]] = row["status"]
            answers[row["sample"]] = row["answer"]
    found: dict[str, dict[str, list[Response]]] = defaultdict(lambda: defaultdict(list))
    for stage in part.round.sources(part.stage):
        if Sample not in stage.writes:
            continue
        table = part.round.folder(stage.name).columns(Sample, ["id", "problem", "finish", "completion_ids"])
        for row in table.to_pylist():
            found[stage.name][parents.get(row["problem"], row["problem"])].append(
                Response(
                    statuses.get(row["id"], "error"),
                    row["finish"] != "length",
                    len(row["completion_ids"]),
                    answers.get(row["id"]),
                    scores.get(row["id"], {}),
                )
            )
    return found
