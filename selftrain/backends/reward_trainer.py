"""The trainers of reward and process models on rows of token ids; imported by the training process only.

The reward loss is TRL's: over the pairs of a batch the mean of weight x -log sigmoid(reward of the chosen - reward of
the rejected), plus `center_rewards_coefficient` x the mean squared sum of a pair's rewards where that is set. The steps
loss of an optimizer step is: sum over labelled steps of the row's weight x cross-entropy between the step's label and
the model's probability that it is right, divided by the number of labelled steps in the step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid
from transformers import Trainer
from trl import RewardTrainer
from trl.trainer.utils import disable_dropout_in_model

from selftrain.backends.log_probs import IGNORED
from selftrain.backends.row_trainer import RowCollator, RowTrainer, padded


def pair_loss(chosen: Tensor, rejected: Tensor, weights: Tensor, center: float | None = None) -> Tensor:
    """Weighted Bradley-Terry loss of a batch of pairs."""
    loss = -(weights * logsigmoid(chosen - rejected)).mean()
    return loss if center is None else loss + center * ((chosen + rejected) ** 2).mean()


def step_loss(logits: Tensor, marks: Tensor, targets: Tensor, weights: Tensor, items: Tensor) -> Tensor:
    """Weighted cross-entropy per labelled step; with two labels the second is "right", with one its sigmoid."""
    right = logits[..., 1] - logits[..., 0] if logits.shape[-1] == 2 else logits[..., 0]
    losses = binary_cross_entropy_with_logits(right.float(), targets, reduction="none")
    return (losses * marks.ne(IGNORED) * weights[:, None]).sum() / items.clamp(min=1)


@dataclass(frozen=True)
class PairCollator:
    """Pads pairs on the right: all chosen ones, then all rejected ones."""

    pad: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return a batch of tensors."""
        ids = [row[side] for side in ("chosen_ids", "rejected_ids") for row in rows]
        return {
            "input_ids": padded(ids, self.pad),
            "attention_mask": padded([[1] * len(each) for each in ids], 0),
            "weight": torch.tensor([row["weight"] for row in rows], dtype=torch.float32),
        }


@dataclass(frozen=True)
class StepCollator:
    """Pads labelled rows on the right."""

    pad: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return a batch of tensors."""
        return {**RowCollator(self.pad)(rows), "targets": padded([row["targets"] for row in rows], 0.0)}


class PairTrainer(RowTrainer, RewardTrainer):  # type: ignore[misc]
    """TRL's reward trainer on rows, with a weight per pair."""

    columns: ClassVar[tuple[str, ...]] = ("chosen_ids", "rejected_ids", "weight")

    def lengths(self, rows: Dataset) -> list[int]:
        """Return how long each pair is."""
        return [max(map(len, pair)) for pair in zip(rows["chosen_ids"], rows["rejected_ids"], strict=True)]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the loss of a batch; TRL's own logs the accuracy and the margin."""
        weights = inputs.pop("weight")
        _, outputs = RewardTrainer.compute_loss(self, model, inputs, return_outputs=True)
        chosen, rejected = outputs.logits.squeeze(-1).float().chunk(2)
        return pair_loss(chosen, rejected, weights, self.args.center_rewards_coefficient)


class StepTrainer(RowTrainer, Trainer):  # type: ignore[misc]
    """A trainer of process models: TRL has none."""

    columns: ClassVar[tuple[str, ...]] = ("input_ids", "labels", "targets", "weight")
    loss_is_scaled_for_ga = True

    def __init__(self, model: Any, *, args: Any, peft_config: LoraConfig | None = None, **more: Any) -> None:
        if peft_config is not None:
            model = get_peft_model(model, peft_config)
            if args.gradient_checkpointing:
                model.enable_input_require_grads()
        if args.disable_dropout:
            disable_dropout_in_model(model)
        super().__init__(model=model, args=args, **more)
        # So that the steps of a whole optimizer step are counted: the loss is per step, not per batch.
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the loss of a batch."""
        marks = inputs["labels"]
        items = marks.ne(IGNORED).sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        loss = step_loss(logits, marks, inputs["targets"], inputs["weight"], items.to(logits.device))
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            # `items` counts every device's steps, and the gradients are averaged over the devices.
            loss = loss * self.accelerator.num_processes
        return loss
