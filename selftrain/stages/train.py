"""Train: fine-tune a model on the round's rows."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from selftrain.errors import RecipeError
from selftrain.lab import Lab, TrainJob
from selftrain.recipe import Cost, Resource, Stage
from selftrain.records import Checkpoint, Json, Metric, Row, seed_of
from selftrain.round import Part
from selftrain.stages.reference import Reference


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


From = Literal["", "start", "base", "previous"]
"""Whose log-probabilities a preference loss is measured against; '' where it has no reference.

start: the weights the training begins with, taken once, before its first step. base, previous: those that a `Reference`
stage of that name has stored in the rows.
"""


@dataclass(frozen=True, slots=True)
class DPO:
    """Direct preference optimization (arXiv:2305.18290), weighted by pair."""

    name: ClassVar[str] = "dpo"
    beta: float = 0.1
    reference: From = "start"
    label_smoothing: float = 0.0
    """The probability that a pair is the wrong way round."""
    nll: float = 0.0
    """Weight of the chosen response's negative log-likelihood per token."""
    length_normalised: bool = False
    """Log-ratios per token; beta is then larger, 1 or more."""

    def __post_init__(self) -> None:
        _positive(self)
        _referenced(self)
        if not 0 <= self.label_smoothing < 0.5:
            raise RecipeError(f"dpo: label_smoothing is {self.label_smoothing}, but must be at least 0 and below 0.5")
        if self.nll < 0:
            raise RecipeError(f"dpo: nll is {self.nll}, but must be 0 (off) or more")


@dataclass(frozen=True, slots=True)
class SPIN:
    """Self-play (arXiv:2401.01335): DPO's logistic loss, gold responses against those of the model before."""

    name: ClassVar[str] = "spin"
    beta: float = 0.1
    """The paper's lambda."""
    reference: From = "start"

    def __post_init__(self) -> None:
        _positive(self)
        _referenced(self)


@dataclass(frozen=True, slots=True)
class ORPO:
    """Odds ratio preference optimization (arXiv:2403.07691): no reference; the NLL is the response's, per token."""

    name: ClassVar[str] = "orpo"
    beta: float = 0.1
    """The paper's lambda."""

    def __post_init__(self) -> None:
        _positive(self)


@dataclass(frozen=True, slots=True)
class ASFT:
    """Aligned supervised fine-tuning (arXiv:2409.10571): the chosen made likely and the rejected unlikely, each by
    itself, by mean log-probability; and the response's NLL, per token. No reference."""

    name: ClassVar[str] = "asft"
    beta: float = 0.1
    """Weight of the two against the NLL."""

    def __post_init__(self) -> None:
        _positive(self)


@dataclass(frozen=True, slots=True)
class PoFT:
    """Preference-oriented fine-tuning (arXiv:2412.12865), weighted by row: on the same rows the model is to be ahead
    of another one, by log-probability per token. What the other one finds unlikely counts for less."""

    name: ClassVar[str] = "poft"
    beta: float = 1.0
    """How sharply a lead counts."""
    reference: str = "aligned"
    """The name under which a `Reference` has stored the other model's log-probabilities."""

    def __post_init__(self) -> None:
        _positive(self)
        if self.reference in ("", "start"):
            raise RecipeError(f"poft: reference is {self.reference!r}; name what a Reference stores in the rows")


@dataclass(frozen=True, slots=True)
class SimPO:
    """Preference by mean log-probability with a target margin (arXiv:2405.14734): no reference."""

    name: ClassVar[str] = "simpo"
    beta: float = 2.0
    gamma: float = 1.0
    """The target margin of the rewards."""

    def __post_init__(self) -> None:
        _positive(self)


@dataclass(frozen=True, slots=True)
class KTO:
    """Kahneman-Tversky optimization (arXiv:2402.01306), weighted by row: rows that are good (of kind chosen) or bad
    (rejected), paired or not. The distance to the reference is told by each prompt with another one's response."""

    name: ClassVar[str] = "kto"
    beta: float = 0.1
    reference: From = "start"
    desirable: float = 1.0
    """Weight of good rows; the paper advises desirable x good rows = 1 to 4/3 times undesirable x bad rows."""
    undesirable: float = 1.0

    def __post_init__(self) -> None:
        _positive(self)
        if self.reference != "start":
            raise RecipeError(f"kto: reference is {self.reference!r}; only start knows its mismatched responses")


def _positive(loss: "DPO | SPIN | ORPO | ASFT | PoFT | SimPO | KTO") -> None:
    if not loss.beta > 0:
        raise RecipeError(f"{loss.name}: beta is {loss.beta}, but must be above 0")


def _referenced(loss: "DPO | SPIN") -> None:
    if loss.reference not in ("start", "base", "previous"):
        raise RecipeError(f"{loss.name}: reference is {loss.reference!r}; it can be start, base or previous")


@dataclass(frozen=True, kw_only=True)
class Train(Stage):
    """Fine-tune a model; every Train begins a fresh adapter and optimizer."""

    loss: SFT | Reward | Steps | DPO | SPIN | ORPO | ASFT | PoFT | SimPO | KTO = SFT()
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
        said = {"start": self.start, "model": self.model, "loss": self.loss.name, "adapter": self.adapter}
        if self._reference:
            said["reference"] = f"start ({self.start})" if self._reference == "start" else self._reference
        return said

    def fits(self, earlier: Sequence[Stage]) -> None:
        """The reference is the start, or a Reference that it reads stores it in the rows."""
        read = [each for each in earlier if isinstance(each, Reference) and (not self.of or each.name in self.of)]
        if self._reference not in ("", "start") and self._reference not in {each.key or each.which for each in read}:
            field = "which" if self._reference in ("base", "previous") else "key"
            raise RecipeError(
                f"stage {self.name!r}: the reference of its loss is {self._reference!r}; put "
                f"Reference({field}={self._reference!r}) before it, and its name in of="
            )

    @property
    def _reference(self) -> str:
        return getattr(self.loss, "reference", "")

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
            loss_settings=asdict(self.loss),
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
        for name, figure in trained.figures.items():
            yield Metric(name=f"{self.name}/{name}", value=figure, n=trained.rows)
        for step, loss in enumerate(trained.loss, 1):
            yield Metric(name=f"{self.name}/loss", value=loss, step=step)
