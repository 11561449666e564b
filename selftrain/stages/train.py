"""Train: fine-tune a model on the round's rows."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from selftrain.errors import RecipeError
from selftrain.lab import Lab, TrainJob
from selftrain.recipe import Cost, Resource, Stage
from selftrain.records import Checkpoint, Json, Metric, Row, seed_of
from selftrain.round import Part


@dataclass(frozen=True, slots=True)
class SFT:
    """Cross-entropy on the completion's tokens, weighted by row."""

    name: ClassVar[str] = "sft"


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward model by pairs (Bradley-Terry, weighted by pair): rows of kind chosen and rejected with equal group.

    Begun from a language model, it gets a new head that scores the whole conversation; give it a model of its own:
    `models={"policy": Model(), "reward": Model()}, Train(name="train-reward", model="reward", loss=Reward())`.
    """

    name: ClassVar[str] = "reward"


@dataclass(frozen=True, slots=True)
class Steps:
    """A process model by labelled steps (cross-entropy, weighted by row): rows whose trained segments are steps."""

    name: ClassVar[str] = "steps"


@dataclass(frozen=True, kw_only=True)
class Train(Stage):
    """Fine-tune a model; every Train begins a fresh adapter and optimizer."""

    loss: SFT | Reward | Steps = SFT()
    model: str = "policy"
    start: Literal["base", "latest", "best"] = "base"
    """The weights it begins with."""
    adapter: Literal["lora", "full"] = "lora"
    settings: Json = field(default_factory=dict)
    """Arguments of TRL's config by name: learning_rate, num_train_epochs, per_device_train_batch_size, ..."""
    lora: Json = field(default_factory=dict)
    """Arguments of PEFT's LoraConfig by name: r, lora_alpha, ..."""

    scope: ClassVar[Literal["problem", "round"]] = "round"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start not in ("base", "latest", "best"):
            raise RecipeError(f"stage {self.name!r}: start is {self.start!r}; it can be base, latest or best")
        if self.adapter not in ("lora", "full"):
            raise RecipeError(f"stage {self.name!r}: adapter is {self.adapter!r}; it can be lora or full")

    @property
    def uses(self) -> tuple[Resource, ...]:
        """What it works with."""
        return ("trainer",)

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Rows."""
        return (Row,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """A checkpoint, and how the training went."""
        return (Checkpoint, Metric)

    @property
    def weights(self) -> tuple[tuple[str, str], ...]:
        """The weights it begins with."""
        return ((self.model, self.start),)

    def words(self) -> dict[str, str]:
        """What it trains, from where, with which loss."""
        return {"start": self.start, "model": self.model, "loss": self.loss.name, "adapter": self.adapter}

    def cost(self, problems: int) -> Cost:
        """Weights are stored; how many bytes is the model's matter."""
        return Cost()

    def run(self, part: Part, lab: Lab) -> Iterator[Checkpoint | Metric]:
        """Train, or keep the start's weights when no row was kept."""
        start = part.checkpoint(self.model, self.start)
        base = part.checkpoint(self.model, "base")
        rows = part.columns(Row, ["id"]).num_rows
        yield Metric(name=f"{self.name}/rows", value=rows, n=rows)
        if rows == 0:
            yield Checkpoint(
                id=start.id, path=start.path, role=self.model, parent=start.id, base=base.id, round=part.round.number
            )
            return
        job = TrainJob(
            rows=tuple(path.resolve() for path in part.files(Row)),
            start=(lab.root / start.path).resolve(),
            out=part.folder.resolve(),
            loss=self.loss.name,
            adapter=self.adapter,
            settings=self.settings,
            lora=self.lora,
            seed=seed_of(lab.seed, part.round.number, self.name),
        )
        with lab.device_free():
            trained = lab.trainer.train(job, part.progress)
        yield Checkpoint(
            id=trained.id,
            path=os.path.relpath(trained.path, lab.root.resolve()),
            role=self.model,
            parent=start.id,
            base=base.id,
            round=part.round.number,
        )
        for name, value in (("steps", trained.steps), ("tokens", trained.tokens), ("refused", rows - trained.rows)):
            yield Metric(name=f"{self.name}/{name}", value=value, n=rows)
        for step, loss in enumerate(trained.loss, 1):
            yield Metric(name=f"{self.name}/loss", value=loss, step=step)
