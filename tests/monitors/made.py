"""A run's folder with tables made up for a monitor: what was sampled, judged, chosen, trained and measured."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selftrain.monitors import Reading, measured
from selftrain.observed import Observed
from selftrain.records import (
    Checkpoint,
    Metric,
    Outcome,
    Pick,
    Problem,
    Row,
    Sample,
    Segment,
    Status,
    Verdict,
)
from selftrain.store import Store

PROBLEMS = 40
"""Problems of each split."""
SAMPLES = 4
"""Samples of a problem and round."""
Said = tuple[str, bool]
"""A response's text, and whether it is right."""


def sample(id: str, problem: str, text: str, *, tokens: int = 10, **fields: Any) -> Sample:
    given = {"index": 0, "finish": "stop", "model": "base", "prompt_ids": (), "tokenizer": "t", **fields}
    ids = given.pop("completion_ids", tuple(range(tokens)))
    return Sample(id=id, problem=problem, text=text, completion_ids=ids, **given)


def status(right: bool) -> Status:
    return "pass" if right else "fail"


@dataclass
class Made:
    """A run in a folder; `shuffle` is a seed for the order in which records lie in shards."""

    root: Path
    shuffle: int = 0

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "run.yaml").write_text("format: 1\n")
        self.store = Store(self.root)
        self.places: dict[int, int] = {}
        self.stage(0, "problems", {Problem: self.problems()})
        self.stage(0, "base", {Checkpoint: [Checkpoint(id="base", path="base", base="base")]})

    def problems(self) -> list[Problem]:
        return [
            Problem.of(f"{split} {n}?", answer="7", verifier="number", split=split, id=f"{split}{n:02d}")
            for split in ("train", "valid", "test")
            for n in range(PROBLEMS)
        ]

    def stage(self, round: int, name: str, records: Mapping[type[Any], Iterable[Any]], **settings: Any) -> None:
        """Store a finished stage, its records spread over two shards."""
        place = self.places.get(round, 0)
        self.places[round] = place + 1
        folder = self.store.stage(round, place, name)
        folder.begin({"stage": settings.pop("kind", "Generate"), "settings": settings})
        order = {kind: list(rows) for kind, rows in records.items()}
        if self.shuffle:
            for rows in order.values():
                random.Random(self.shuffle).shuffle(rows)
        for shard in range(2):
            folder.write(shard, {kind: rows[shard::2] for kind, rows in order.items()})
        folder.finish({})
        if round:
            plan = {"stages": [{"name": each} for each in self.store.stages(round)]}
            self.store.write_sealed(self.store.round(round) / "plan.json", plan)

    def sampled(
        self,
        round: int,
        say: Callable[[int, int], Said],
        *,
        split: str = "train",
        name: str = "generate",
        role: str = "",
        **fields: Any,
    ) -> list[str]:
        """Store samples of every problem of a split and the own verifier's verdicts; `say` takes problem and sample."""
        samples, verdicts = [], []
        count = SAMPLES if split == "train" else 1
        for n in range(PROBLEMS):
            for at in range(count):
                text, right = say(n, at)
                id = f"{name}-{round}-{n:02d}-{at}"
                samples.append(sample(id, f"{split}{n:02d}", text, index=at, **fields))
                verdicts.append(Verdict(sample=id, by="number", status=status(right), answer=text))
        self.stage(round, name, {Sample: samples}, **({"model": role} if role else {}))
        self.stage(round, f"verify-{name}", {Verdict: verdicts}, kind="Verify")
        return [each.id for each in samples]

    def judged(self, round: int, name: str, ids: Sequence[str], say: Callable[[str], Verdict]) -> None:
        """Store what another verifier says."""
        self.stage(round, name, {Verdict: [say(id) for id in ids]}, kind="Verify")

    def trained(
        self, round: int, ids: Sequence[str], kind: str = "example", weight: Callable[[int], float] = lambda at: 1.0
    ) -> None:
        """Store picks and rows of samples."""
        picks = [Pick(sample=id, problem="", side="kept", rule="passed") for id in ids]
        rows = [
            Row(
                id=f"{kind}-{round}-{id}",
                kind=kind,  # type: ignore[arg-type]
                segments=(Segment(ids=(1,), train=True),),
                weight=weight(at),
                sources=(id,),
            )
            for at, id in enumerate(ids)
        ]
        self.stage(round, f"select-{kind}", {Pick: picks}, kind="Select")
        self.stage(round, f"build-{kind}", {Row: rows}, kind="MakeExamples")

    def measured(self, round: int, solved: Callable[[int], bool], name: str = "accuracy") -> None:
        """Store held-out outcomes."""
        outcomes = [
            Outcome(problem=f"valid{n:02d}", split="valid", name=name, value=float(solved(n))) for n in range(PROBLEMS)
        ]
        self.stage(round, "evaluate", {Outcome: outcomes}, kind="Evaluate")

    def metric(self, round: int, name: str, value: float) -> None:
        """Store a metric of a training."""
        self.stage(
            round,
            f"train-{len(self.places)}-{self.places.get(round, 0)}",
            {Metric: [Metric(name=name, value=value, n=100)]},
        )

    def checkpoint(self, round: int, id: str) -> None:
        """Store the policy's checkpoint."""
        self.stage(round, "train", {Checkpoint: [Checkpoint(id=id, path="x", base="base")]}, kind="Train")

    def read(self, monitor: str) -> list[Reading]:
        """What a monitor measures in it."""
        return measured(Observed(self.store), [monitor])
