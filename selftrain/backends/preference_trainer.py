"""The trainer of preference losses on rows of token ids; imported by the training process only.

An item holds two token sequences: a pair's chosen and rejected one; for KTO a row, and its prompt with another row's
response, by which the distance to the reference is told.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from trl import SFTTrainer
from trl.trainer.utils import disable_dropout_in_model

from selftrain.backends.log_probs import IGNORED, token_log_probs
from selftrain.backends.preference import Judged, Labelled, Pairs, Preference, measures
from selftrain.backends.row_trainer import RowTrainer, padded

MEASURED = 512
"""Items, at most, on which a training is measured before its first and after its last step."""


@dataclass(frozen=True)
class TwoCollator:
    """Pads items on the right: all first sequences, then all second ones."""

    pad: int

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return a batch of tensors."""
        ids = [item["ids"][side] for side in (0, 1) for item in items]
        return {
            "input_ids": padded(ids, self.pad),
            "attention_mask": padded([[1] * len(each) for each in ids], 0),
            "labels": padded([item["labels"][side] for side in (0, 1) for item in items], IGNORED),
            "reference": torch.tensor([item["reference"][side] for side in (0, 1) for item in items]),
            "weight": torch.tensor([item["weight"] for item in items], dtype=torch.float32),
            "good": torch.tensor([item["good"] for item in items]),
        }


class PreferenceTrainer(RowTrainer, SFTTrainer):  # type: ignore[misc]
    """Pairs of rows against a preference loss."""

    columns: ClassVar[tuple[str, ...]] = ("ids", "labels", "reference", "weight", "good")
    paired: ClassVar[bool] = True
    preference: Preference
    model_wrapped: Any
    data_collator: Any
    _metrics: Any

    def __init__(self, model: Any, **more: Any) -> None:
        # The reference has none either; an adapter's own dropout is the user's.
        disable_dropout_in_model(model)
        super().__init__(model=model, **more)
        # The loss is a mean over a batch's items, not a sum over the tokens of a whole optimizer step.
        self.model_accepts_loss_kwargs = False

    def lengths(self, rows: Dataset) -> list[int]:
        """Return how long each item is."""
        return [max(map(len, pair)) for pair in rows["ids"]]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the loss of a batch."""
        sums = self.log_probs(model, inputs)
        judged = self.judge(sums, inputs)
        first, second = sums.detach().chunk(2)
        sides = self._sides(first, second, inputs["good"])
        if all(map(len, sides)):
            for name, value in measures(judged, *sides, paired=self.paired).items():
                self._metrics["train"][name].append(value)
        return (judged.losses * inputs["weight"]).mean()

    def log_probs(self, model: torch.nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the log-probability of each sequence, summed over its trained tokens."""
        return token_log_probs(model, inputs["input_ids"], inputs["attention_mask"], inputs["labels"]).sum(1)

    def judge(self, sums: Tensor, inputs: Mapping[str, Tensor]) -> Judged:
        """Return what the loss makes of a batch with these log-probabilities."""
        lengths = inputs["labels"][:, 1:].ne(IGNORED).sum(1)
        return self.preference(Pairs(*sums.chunk(2), *inputs["reference"].chunk(2), *lengths.chunk(2)))

    def _sides(self, first: Tensor, second: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
        """The log-probabilities of the chosen and of the rejected responses."""
        return first, second

    def begin(self, work: Path, *, reference: str) -> dict[str, float]:
        """Take the start's log-probabilities, once: as the reference where it is `start`; return the figures before.

        They are kept in the folder of the work in progress, for a training that is resumed.
        """
        kept = work / "start.npy"
        if kept.exists():
            sums = np.load(kept)
        else:
            wanted = range(len(self.train_dataset)) if reference == "start" else self.measured
            with self._adapter_off():
                sums = self.look(wanted)
            if self.accelerator.is_main_process:
                partial = kept.with_suffix(".partial.npy")
                np.save(partial, sums)
                partial.replace(kept)
        if reference == "start":
            whole = self.train_dataset.remove_columns("reference")
            self.train_dataset = whole.add_column("reference", sums.tolist())
            sums = sums[list(self.measured)]
        return self.figures(sums)

    def finish(self) -> dict[str, float]:
        """Return the figures of the model as it is now."""
        return self.figures(self.look(self.measured))

    @property
    def measured(self) -> Sequence[int]:
        """Which items are measured: all, or so many at even distances."""
        count = len(self.train_dataset)
        return range(0, count, -(-count // MEASURED))

    def figures(self, sums: Any) -> dict[str, float]:
        """Return the figures of the measured items, given the log-probabilities of both sequences of each."""
        items = [self.train_dataset[at] for at in self.measured]
        inputs = self.data_collator(items)
        first, second = torch.tensor(sums, dtype=torch.float32).T
        judged = self.judge(torch.cat([first, second]), inputs)
        return measures(judged, *self._sides(first, second, inputs["good"]), paired=self.paired)

    def look(self, wanted: Sequence[int]) -> Any:
        """Return the log-probabilities of both sequences of the items, as an array of one line per item."""
        sizes = self.lengths(self.train_dataset)
        order = sorted(range(len(wanted)), key=lambda at: sizes[wanted[at]])
        found = np.zeros((len(wanted), 2), dtype=np.float32)
        width = self.args.per_device_train_batch_size
        with self._evaluating():
            for first in range(0, len(order), width):
                part = order[first : first + width]
                batch = self.data_collator([self.train_dataset[wanted[at]] for at in part])
                batch = {name: each.to(self.args.device) for name, each in batch.items()}
                sums = self.log_probs(self.model_wrapped, batch).float().cpu().numpy()
                found[part] = sums.reshape(2, -1).T
        return found

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.model_wrapped.training
        self.model_wrapped.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            yield
        self.model_wrapped.train(training)

    def _adapter_off(self) -> Any:
        model = self.model_wrapped
        return model.disable_adapter() if isinstance(model, PeftModel) else nullcontext()


class KtoTrainer(PreferenceTrainer):
    """Single rows, good or bad, against KTO's loss."""

    paired: ClassVar[bool] = False

    def log_probs(self, model: torch.nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the log-probability of each sequence; those that only tell a distance have no gradient."""
        own, other = ({name: inputs[name].chunk(2)[side] for name in SEQUENCES} for side in (0, 1))
        with torch.no_grad():
            distance = super().log_probs(model, other)
        return torch.cat([super().log_probs(model, own), distance])

    def judge(self, sums: Tensor, inputs: Mapping[str, Tensor]) -> Judged:
        """Return what the loss makes of a batch with these log-probabilities."""
        (own, other), (reference, other_reference) = sums.chunk(2), inputs["reference"].chunk(2)
        kl = (other - other_reference).mean().detach()
        if self.model_wrapped.training:
            kl = self.accelerator.gather_for_metrics(kl).mean()
        return self.preference(Labelled(own, reference, inputs["good"], kl.clamp(min=0)))

    def _sides(self, first: Tensor, second: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
        return first[good], first[~good]


SEQUENCES = ("input_ids", "attention_mask", "labels")
