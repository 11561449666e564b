"""The row trainer's loss against TRL's own, and what a batch looks like."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftrain.backends import rows as rows_module
from selftrain.backends import trainer as trainer_module
from selftrain.backends.trainer import TrlTrainer
from selftrain.errors import DataError
from selftrain.lab import TrainJob
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


def scored(policy: list[list[float]], reference: list[float], weights: list[float]) -> Any:
    """Rows of two and of three trained tokens."""
    import torch

    from selftrain.backends.row_trainer import Scored

    lengths = torch.tensor([2, 3])
    values = torch.tensor(policy, dtype=torch.float64, requires_grad=True)
    return Scored(values, torch.tensor(reference), lengths, torch.tensor(weights), lengths.sum())


def test_poft_is_the_formula_and_its_gradient_that_of_sft_times_the_others_chance() -> None:
    import torch

    from selftrain.backends.row_trainer import poft, sft

    policy, reference, weights = [[-1.0, -2.0, 0.0], [-0.5, -1.0, -3.0]], [-2.0, -6.0], [1.0, 0.5]
    margins = [(-3.0 + 2.0) / 2, (-4.5 + 6.0) / 3]
    batch = scored(policy, reference, weights)
    loss = poft(batch, beta=1.0)
    ahead = [1 / (1 + math.exp(-m)) for m in margins]
    wanted = -sum(w * n * math.log(a) for w, n, a in zip(weights, (2, 3), ahead, strict=True)) / 5
    assert float(loss.detach()) == pytest.approx(wanted)
    (found,) = torch.autograd.grad(loss, batch.policy)
    plain = scored(policy, reference, weights)
    (gradient,) = torch.autograd.grad(sft(plain), plain.policy)
    chances = torch.tensor([[1 - a] for a in ahead], dtype=torch.float64)
    assert torch.allclose(found, gradient * chances)
    # A reference that is left out would be seen: the second row is ahead of it, the first behind.
    assert float(poft(scored(policy, [0.0, 0.0], weights), beta=1.0).detach()) != pytest.approx(wanted, rel=0.05)


def test_a_row_that_the_other_model_finds_unlikely_counts_for_less(
    trainer: TrlTrainer, start: Path, tmp_path: Path
) -> None:
    rows = tiny.sums(8)

    def loss(name: str, reference: float) -> float:
        given = [replace(row, reference={"aligned": reference}) for row in rows]
        file = tiny.write(given, tmp_path / f"{name}.parquet")
        job = TrainJob(
            rows=(file,), start=start, out=tmp_path / name, loss="poft", settings={"num_train_epochs": 1},
            loss_settings={"beta": 1.0, "reference": "aligned"},
        )  # fmt: skip
        return trainer.train(job, lambda steps: None).loss[0]

    # Far ahead of the other model there is nothing left to learn; far behind, the loss is the distance.
    assert loss("unlikely", -1e4) == pytest.approx(0.0, abs=1e-3)
    assert loss("likely", 0.0) > 1
    bare = tiny.write(rows, tmp_path / "bare.parquet")
    wrong = TrainJob(
        rows=(bare,), start=start, out=tmp_path / "x", loss="poft", loss_settings={"beta": 1.0, "reference": "aligned"}
    )
    with pytest.raises(DataError, match=r"8 of 8 rows .* have no log-probability under 'aligned'"):
        trainer.train(wrong, lambda steps: None)


def test_log_probs_are_those_of_the_whole_logits(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from selftrain.backends.log_probs import token_log_probs
    from selftrain.backends.row_trainer import RowCollator

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


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2"])
def test_what_all_rows_begin_with_is_computed_once_and_changes_nothing(kind: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from selftrain.backends import log_probs
    from selftrain.backends.row_trainer import RowCollator

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "vocab_size": 50, "head_dim": 8, "pad_token_id": 0}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape, **more)).float()
    begun = list(range(5, 17))
    rows = [
        {"input_ids": [*begun, 20 + row, *range(30, 33 + row)], "labels": [-100] * 13 + [*range(30, 33 + row)]}
        for row in range(4)
    ]
    batch = RowCollator(0)([{**row, "weight": 1.0} for row in rows])
    asked = batch["input_ids"], batch["attention_mask"], batch["labels"]
    assert log_probs.common(*asked) == 12
    once, gradients = [], []
    for worth in (8, 99):
        model.zero_grad()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(log_probs, "WORTH", worth)
            seen: list[int] = []
            handle = model.get_decoder().register_forward_pre_hook(
                lambda _, given, named, seen=seen: seen.append(named["input_ids"].numel()), with_kwargs=True
            )
            found = log_probs.token_log_probs(model, *asked)
            handle.remove()
        found.sum().backward()
        once.append(found.detach())
        gradients.append([each.grad.clone() for each in model.parameters() if each.grad is not None])
        assert seen == ([12, 4 * 7] if worth == 8 else [4 * 19])
    assert torch.allclose(*once, atol=1e-5)
    assert len(gradients[0]) == len(gradients[1]) > 10
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_rows_share_nothing_that_a_trained_token_is_predicted_from() -> None:
    import torch

    from selftrain.backends.log_probs import common

    ids = torch.tensor([[*range(10), 3], [*range(10), 4]])
    mask = torch.ones_like(ids)
    labels = torch.full_like(ids, -100)
    assert common(ids, mask, labels) == 10
    labels[0, 9] = 9
    assert common(ids, mask, labels) == 8
    labels[1, 5] = 5
    assert common(ids, mask, labels) == 0, "too few to be worth it"
    assert common(ids[:1], mask[:1], labels[:1]) == 0
    assert common(ids[:, :10], mask[:, :10], torch.full_like(ids[:, :10], -100)) == 0, "nothing would be left"


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
