"""A round laid out by hand: what stages before have stored, so that one stage can be tried on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from selftrain.lab import Lab
from selftrain.recipe import Stage
from selftrain.records import Checkpoint, Decision, Ids, Outcome, Problem, Sample, Verdict
from selftrain.round import PROBLEMS, History, Part, Round, RoundResult
from selftrain.store import Store
from selftrain.templates import Protocol
from selftrain.testing import FakeBackends, adds


def answers(prompt: str, skill: float, stream: Random) -> str:
    """As the fake model does, without the protocol's suffix."""
    return adds(prompt.replace("!", ""), skill, stream)


BASE = Checkpoint(id="base", path="round-00/01-base/policy", base="base")


@dataclass(frozen=True, kw_only=True)
class Stored(Stage):
    """Stands for an earlier stage whose records are there already."""

    kinds: tuple[type[Any], ...] = ()
    n: int = 1

    @property
    def reads(self) -> tuple[type[Any], ...]:
        return ()

    @property
    def writes(self) -> tuple[type[Any], ...]:
        return self.kinds

    def run(self, part: Part, lab: Lab) -> Sequence[Any]:
        raise AssertionError("it has run")


class Bench:
    """One shard of problems, a lab of fakes, and rounds of stored records."""

    def __init__(self, root: Path, problems: Sequence[Problem], backends: FakeBackends | None = None) -> None:
        self.root = root
        self.store = Store(root)
        self.backends = backends or FakeBackends(answers)
        self.lab = Lab(self.backends, root=root, seed=0, protocol=Protocol(suffix="!"))
        self.rounds = [RoundResult(number=0, checkpoints={"policy": BASE})]
        self.stored = 0
        self.splits: dict[int, str] = {}
        folder = self.store.stage(0, 0, PROBLEMS)
        folder.begin({})
        for shard, split in enumerate(sorted({p.split for p in problems})):
            folder.write(shard, {Problem: [p for p in problems if p.split == split]})
            self.splits[shard] = split
        self.counts = {shard: folder.count(Problem, shard) for shard in self.splits}
        self.backends.made.prepare(root, root / BASE.path)

    def past(self, stage: str, records: Sequence[Any], decision: Decision | None = None) -> None:
        """Store the next finished round, round 0 first, of one stage."""
        number, self.stored = self.stored, self.stored + 1
        folder = self.store.stage(number, 5, stage)
        folder.begin({})
        folder.write(0, {kind: [r for r in records if type(r) is kind] for kind in {type(r) for r in records}})
        folder.finish({})
        result = RoundResult(number=number, decision=decision, checkpoints={"policy": BASE} if number == 0 else {})
        self.rounds[number:] = [result]

    def run(
        self,
        stage: Stage,
        before: Mapping[str, Sequence[Any]] | None = None,
        stages: Sequence[Stage] = (),
        **kinds: Any,
    ) -> list[Any]:
        """Run a stage on what `before` says earlier stages of the round wrote; `stages` are those that are real."""
        earlier: list[Stage] = []
        for name, records in (before or {}).items():
            if real := [each for each in stages if each.name == name]:
                earlier += real
                continue
            found = tuple(dict.fromkeys(type(r) for r in records)) or kinds[name]
            samples = [r.index for r in records if type(r) is Sample]
            n = max(samples, default=0) + 1
            splits = stage.splits
            earlier.append(Stored(name=name, kinds=found, n=n, splits=splits))
        history = History(tuple(self.rounds))
        round = Round(
            number=max(1, history.number),
            store=self.store,
            history=history,
            stages=(*earlier, stage),
            drawn={k: tuple(range(self.counts[k])) for k, split in self.splits.items() if split == "train"},
            splits=self.splits,
        )
        for name, records in (before or {}).items():
            folder = round.folder(name)
            folder.begin({})
            folder.write(0, {kind: [r for r in records if type(r) is kind] for kind in {type(r) for r in records}})
        return list(stage.run(round.part(stage, 0), self.lab))


def sample(problem: Problem, index: int = 0, text: str = "2", **changes: Any) -> Sample:
    """A sample of a problem, as FakeSampler would have made it."""
    ids: Ids = (*map(ord, text), 0)
    made = Sample(
        id=f"{problem.id}-{index}",
        problem=problem.id,
        index=index,
        text=text,
        prompt_ids=tuple(map(ord, f"user: {problem.text}!\n")),
        completion_ids=ids,
        tokenizer="fake-tokens",
        finish="stop",
        model="base",
    )
    return replace(made, **changes)


def verdict(of: Sample, status: Any, *, by: str = "number", **changes: Any) -> Verdict:
    """What a verifier said of a sample."""
    return Verdict(sample=of.id, by=by, status=status, **changes)


def outcomes(values: Sequence[float], problems: Sequence[Problem], name: str = "accuracy") -> list[Outcome]:
    """How problems came out."""
    return [Outcome(problem=p.id, split=p.split, name=name, value=v) for p, v in zip(problems, values, strict=True)]
