"""TRL's trainers on rows of token ids, with a weight per row; imported by the training process only.

The sft loss of an optimizer step is: sum over rows of weight x negative log-likelihood of the row's trained tokens,
divided by the number of trained tokens in the step. With all weights one that is TRL's own loss; with all weights two
it is twice that, for the weights are not normalised.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import logsigmoid
from trl import SFTTrainer

from selftrain.backends.log_probs import IGNORED, token_log_probs
from selftrain.errors import EngineError

MEGABATCH = 32
"""Rows of so many batches are sorted by length together: little padding, and still an order by chance."""


class Scored(NamedTuple):
    """What a loss is made of: one line per row of the batch, one column per token."""

    policy: Tensor
    """Log-probabilities under the model in training; 0 where a token is not trained."""
    reference: Tensor
    """Each row's summed log-probability under another model; 0 for losses without one."""
    lengths: Tensor
    """Trained tokens of each row."""
    weights: Tensor
    items: Tensor
    """Trained tokens of the whole optimizer step, over all devices."""


Loss = Callable[[Scored], Tensor]


def sft(batch: Scored) -> Tensor:
    """Weighted negative log-likelihood per trained token."""
    return -(batch.policy.sum(1) * batch.weights).sum() / batch.items.clamp(min=1)


def poft(batch: Scored, *, beta: float) -> Tensor:
    """PoFT (arXiv:2412.12865): favour the model over another one on the same rows, by log-probability per token.

    A row counts by its tokens, as in sft: its gradient is that of sft, times the chance that the other model is ahead.
    """
    margins = beta * (batch.policy.sum(1) - batch.reference) / batch.lengths.clamp(min=1)
    return -(logsigmoid(margins) / beta * batch.lengths * batch.weights).sum() / batch.items.clamp(min=1)


LOSSES: Mapping[str, Callable[..., Tensor]] = {"sft": sft, "poft": poft}


@dataclass(frozen=True)
class RowCollator:
    """Pads rows on the right; tokens outside the trained segments get the label -100."""

    pad: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return a batch of tensors."""
        return {
            "input_ids": padded([row["input_ids"] for row in rows], self.pad),
            "attention_mask": padded([[1] * len(row["input_ids"]) for row in rows], 0),
            "labels": padded([row["labels"] for row in rows], IGNORED),
            "weight": torch.tensor([row["weight"] for row in rows], dtype=torch.float32),
            "reference": torch.tensor([row.get("reference", 0.0) for row in rows], dtype=torch.float32),
        }


def padded(values: Sequence[Sequence[float]], fill: float) -> Tensor:
    """Return rows of several lengths as a tensor, filled on the right."""
    longest = max(map(len, values))
    return torch.tensor([[*each, *[fill] * (longest - len(each))] for each in values])


class LengthGroups:
    """An order by chance in which batches hold rows of like length; the same for the same seed and epoch."""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of another epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.seed} {self.epoch}")
        order = list(range(len(self.lengths)))
        chance.shuffle(order)
        full: list[list[int]] = []
        rest: list[int] = []
        for first in range(0, len(order), MEGABATCH * self.batch):
            part = sorted(order[first : first + MEGABATCH * self.batch], key=lambda row: self.lengths[row])
            cut = len(part) - len(part) % self.batch
            full += [part[at : at + self.batch] for at in range(0, cut, self.batch)]
            rest += part[cut:]
        chance.shuffle(full)
        yield from (row for batch in full for row in batch)
        yield from rest


class RowTrainer:
    """Mix-in over a TRL trainer: rows go in as token ids, with weights, and are neither rendered nor cut."""

    columns: ClassVar[tuple[str, ...]] = ("input_ids", "labels", "weight")
    """What a row is, as the collator gets it."""
    loss: Loss
    train_dataset: Dataset
    args: Any
    accelerator: Any
    state: Any

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = list(self.columns)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> LengthGroups:
        rows = train_dataset or self.train_dataset
        batch = self.args.train_batch_size * self.accelerator.num_processes
        return LengthGroups(self.lengths(rows), batch, self.args.data_seed or self.args.seed)

    def lengths(self, rows: Dataset) -> list[int]:
        """Return how long each row is, by which batches are grouped."""
        return [len(ids) for ids in rows["input_ids"]]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the loss of a batch."""
        labels = inputs["labels"]
        lengths = labels[:, 1:].ne(IGNORED).sum(1)
        items = lengths.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        policy = token_log_probs(model, inputs["input_ids"], inputs["attention_mask"], labels)
        loss = self.loss(Scored(policy, inputs["reference"], lengths, inputs["weight"], items.to(policy.device)))
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            # `items` counts every device's tokens, and the gradients are averaged over the devices.
            loss = loss * self.accelerator.num_processes
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and end a training whose loss is no number any more."""
        for name in ("loss", "grad_norm"):
            value = float(logs.get(name, 0.0))
            if not abs(value) < float("inf"):
                raise EngineError(
                    f"the training diverged: {name} was {value} at step {self.state.global_step}; "
                    "lower learning_rate, or train in float32 (bf16=false)"
                )
        super().log(logs, start_time)  # type: ignore[misc]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: a checkpoint of the work in progress is nobody's model."""


class RowSFTTrainer(RowTrainer, SFTTrainer):  # type: ignore[misc]
    """SFT on rows."""


class ReferredTrainer(RowSFTTrainer):
    """A loss on rows that asks what another model thinks of them."""

    columns: ClassVar[tuple[str, ...]] = ("input_ids", "labels", "weight", "reference")
