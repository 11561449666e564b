"""The row trainer's loss against TRL's own, and what a batch looks like."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from selftrain.backends import rows as rows_module
from selftrain.backends import trainer as trainer_module
from selftrain.records import Row
from tests.backends import tiny


def first_loss(model: Path, rows: Sequence[Row], out: Path, *, plain: bool = False, **settings: Any) -> float:
    """The loss that the trainer logs for its first step over these rows."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from selftrain.backends.row_trainer import LOSSES, RowCollator, RowSFTTrainer

    columns = rows_module.columns([tiny.write(rows, out / "rows.parquet")])
    names = ("input_ids", "labels") if plain else ("input_ids", "labels", "weight")
    arguments: dict[str, Any] = {
        "output_dir": str(out), "max_steps": 1, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "use_cpu": True, "bf16": False, "disable_tqdm": True, "gradient_checkpointing": False, "max_length": None,
        "per_device_train_batch_size": len(rows), "average_tokens_across_devices": True, **settings,
    }  # fmt: skip
    kind, collator = (SFTTrainer, None) if plain else (RowSFTTrainer, RowCollator(0))
    trainer = kind(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=SFTConfig(**arguments),
        train_dataset=Dataset.from_dict({name: columns[name] for name in names}),
        data_collator=collator,
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    if not plain:
        trainer.loss = LOSSES["sft"]
    trainer.train()
    return float(trainer.state.log_history[0]["loss"])


@pytest.mark.parametrize("settings", [{}, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}])
def test_weights_of_one_are_trls_own_loss(tiny_model: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    rows = tiny.sums(16)
    ours = first_loss(tiny_model, rows, tmp_path / "ours", **settings)
    assert ours == pytest.approx(first_loss(tiny_model, rows, tmp_path / "plain", plain=True), abs=1e-5)


@pytest.mark.parametrize("settings", [{}, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}])
def test_weights_of_two_are_twice_the_loss(tiny_model: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    one = first_loss(tiny_model, tiny.sums(16), tmp_path / "one", **settings)
    two = first_loss(tiny_model, tiny.sums(16, weight=2.0), tmp_path / "two", **settings)
    assert two == pytest.approx(2 * one, rel=1e-6)


def test_a_row_of_weight_zero_only_counts_its_tokens(tiny_model: Path, tmp_path: Path) -> None:
    kept = tiny.row("kept", [5, 6, 7], [8, 9])
    silent = tiny.row("silent", [5, 6], [30, 31, 32, 33], weight=0.0)
    alone = first_loss(tiny_model, [kept], tmp_path / "alone")
    both = first_loss(tiny_model, [kept, silent], tmp_path / "both")
    assert both == pytest.approx(alone * 2 / 6, rel=1e-5)


def test_log_probs_are_those_of_the_whole_logits(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from selftrain.backends.row_trainer import RowCollator, token_log_probs

    batch = RowCollator(0)(
        [
            {"input_ids": [5, 6, 7, 8], "labels": [-100, 6, -100, 8], "weight": 1.0},
            {"input_ids": [9, 10], "labels": [-100, 10], "weight": 0.5},
        ]
    )
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, -100, 8], [-100, 10, -100, -100]]
    assert batch["weight"].tolist() == [1.0, 0.5]
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model.requires_grad_(False)
    found = token_log_probs(model, batch["input_ids"], batch["attention_mask"], batch["labels"])
    whole = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(-1)
    expected = [[whole[0, 0, 6], 0, whole[0, 2, 8]], [whole[1, 0, 10], 0, 0]]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)


def test_batches_hold_rows_of_like_length_in_an_order_of_the_seed() -> None:
    from selftrain.backends.row_trainer import LengthGroups

    lengths = [n * 37 % 101 for n in range(250)]
    order = list(LengthGroups(lengths, 8, seed=1))
    assert sorted(order) == list(range(250))
    assert order == list(LengthGroups(lengths, 8, seed=1))
    assert order != list(LengthGroups(lengths, 8, seed=2))
    again = LengthGroups(lengths, 8, seed=1)
    again.set_epoch(1)
    assert list(again) != order

    def padding(rows: list[int]) -> int:
        parts = [[lengths[row] for row in rows[at : at + 8]] for at in range(0, 248, 8)]
        return sum(max(part) * len(part) - sum(part) for part in parts)

    assert padding(order) < padding(list(range(250))) / 4


def test_the_table_of_losses_is_the_one_that_is_checked_without_torch() -> None:
    from selftrain.backends.finetune import METHODS

    assert set(METHODS) == trainer_module.LOSSES == set(rows_module.KINDS)
