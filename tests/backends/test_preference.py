"""Preference losses against TRL's own trainers and the formulas, weights, masks, and whole trainings."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftrain.backends import checkpoints
from selftrain.backends import rows as rows_module
from selftrain.backends.trainer import TrlTrainer
from selftrain.errors import DataError
from selftrain.lab import TrainJob
from selftrain.records import Row, Segment
from tests.backends import tiny

DPO = {"beta": 0.5, "label_smoothing": 0.0, "nll": 0.0, "length_normalised": False}
LOSSES: dict[str, dict[str, Any]] = {
    "dpo": DPO,
    "spin": {"beta": 0.5},
    "orpo": {"beta": 0.5},
    "asft": {"beta": 0.5},
    "simpo": {"beta": 2.0, "gamma": 1.0},
    "kto": {"beta": 0.5, "desirable": 1.5, "undesirable": 1.0},
}


def silent(steps: int) -> None:
    """Hears of steps."""


def arguments(out: Path) -> dict[str, Any]:
    return {
        "output_dir": str(out), "max_steps": 3, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "use_cpu": True, "bf16": False, "disable_tqdm": True, "gradient_checkpointing": False, "max_length": None,
        "per_device_train_batch_size": 8, "learning_rate": 1e-3, "lr_scheduler_type": "constant",
    }  # fmt: skip


def in_order(kind: Any) -> Any:
    """A trainer that takes the rows as they come, as ids, so that two trainers see the same batches."""
    import torch

    class InOrder(kind):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    return InOrder


def network(model: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return {
        "model": AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        "processing_class": AutoTokenizer.from_pretrained(model),
    }


def ours(
    model: Path, rows: Sequence[Row], out: Path, loss: str, *, sabotaged: bool = False, **changes: Any
) -> list[float]:
    """The losses of the first three steps over these rows; sabotaged, the reference is the policy itself."""
    from functools import partial

    from datasets import Dataset
    from trl import SFTConfig

    from selftrain.backends import preference
    from selftrain.backends.preference_trainer import KtoTrainer, PreferenceTrainer, TwoCollator

    file = tiny.write(rows, out / "rows.parquet")
    data = rows_module.singles([file]) if loss == "kto" else rows_module.preferences([file])
    kind = in_order(KtoTrainer if loss == "kto" else PreferenceTrainer)
    trainer = kind(
        args=SFTConfig(**arguments(out)), train_dataset=Dataset.from_dict(data), data_collator=TwoCollator(0),
        **network(model),
    )  # fmt: skip
    trainer.preference = partial(preference.LOSSES[loss], **{**LOSSES[loss], **changes})
    if sabotaged:
        sound = trainer.preference

        def blind(batch: Any) -> Any:
            return sound(batch._replace(chosen_reference=batch.chosen, rejected_reference=batch.rejected))

        trainer.preference = blind
    trainer.begin(out, reference="start" if loss in ("dpo", "spin", "kto") else "")
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def prompt_and_completion(row: Row) -> tuple[list[int], list[int]]:
    return list(row.segments[0].ids), list(row.segments[1].ids)


def trl_dpo(model: Path, rows: Sequence[Row], out: Path, **settings: Any) -> list[float]:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    data: dict[str, list[Any]] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
    for chosen, rejected in zip(rows[::2], rows[1::2], strict=True):
        prompt, completion = prompt_and_completion(chosen)
        for name, value in zip(data, (prompt, completion, prompt_and_completion(rejected)[1]), strict=True):
            data[name].append(value)
    trainer = in_order(DPOTrainer)(
        args=DPOConfig(**arguments(out), **settings), train_dataset=Dataset.from_dict(data), **network(model)
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    ("loss", "changes", "settings"),
    [
        ("dpo", {}, {"loss_type": ["sigmoid"]}),
        ("spin", {}, {"loss_type": ["sigmoid"]}),
        ("dpo", {"length_normalised": True, "beta": 5.0}, {"loss_type": ["sigmoid_norm"], "beta": 5.0}),
    ],
)
def test_dpo_is_trls_own(
    tiny_model: Path, tmp_path: Path, loss: str, changes: dict[str, Any], settings: dict[str, Any]
) -> None:
    rows = tiny.pairs(24)
    wanted = trl_dpo(tiny_model, rows, tmp_path / "trl", **{"beta": 0.5, **settings})
    found = ours(tiny_model, rows, tmp_path / "ours", loss, **changes)
    assert found == pytest.approx(wanted, abs=1e-5)
    assert found[0] == pytest.approx(math.log(2), abs=1e-5)
    assert found[2] < found[1] < found[0]
    # A reference that is the policy itself makes nothing of the pairs: the comparison would see it.
    blind = ours(tiny_model, rows, tmp_path / "blind", loss, sabotaged=True, **changes)
    assert blind == pytest.approx([math.log(2)] * 3, abs=1e-5)
    assert blind != pytest.approx(wanted, abs=1e-3)


def test_kto_is_trls_own(tiny_model: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    # Every row another prompt: TRL tells the distance by the response of the row before, whatever its prompt.
    rows = [
        each for at, pair in enumerate(zip(*[iter(tiny.pairs(16))] * 2, strict=True)) for each in pair[at % 2 :][:1]
    ]
    parts = [prompt_and_completion(row) for row in rows[:8]]
    data = {
        "prompt_ids": [prompt for prompt, _ in parts],
        "completion_ids": [completion for _, completion in parts],
        "KL_completion_ids": [completion for _, completion in parts[-1:] + parts[:-1]],
        "label": [row.kind == "chosen" for row in rows[:8]],
    }
    trainer = in_order(KTOTrainer)(
        args=KTOConfig(**arguments(tmp_path), beta=0.5, desirable_weight=1.5),
        train_dataset=Dataset.from_dict(data),
        **network(tiny_model),
    )
    trainer.train()
    wanted = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert ours(tiny_model, rows[:8], tmp_path / "ours", "kto") == pytest.approx(wanted, abs=1e-5)
    assert len(set(wanted)) == 3


def pair_batch(**changes: Any) -> Any:
    """Log-probabilities of two pairs."""
    import torch

    from selftrain.backends.preference import Pairs

    values = {
        "chosen": [-3.0, -8.0], "rejected": [-4.0, -5.0], "chosen_reference": [-3.5, -7.0],
        "rejected_reference": [-3.0, -6.0], "chosen_lengths": [2.0, 5.0], "rejected_lengths": [4.0, 3.0], **changes,
    }  # fmt: skip
    return Pairs(**{name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()})


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_label_smoothing_and_nll_are_the_formula() -> None:
    from selftrain.backends.preference import dpo

    found = dpo(pair_batch(), beta=0.5, label_smoothing=0.1, nll=0.3, length_normalised=False)
    margins = [0.5 * ((-3.0 + 3.5) - (-4.0 + 3.0)), 0.5 * ((-8.0 + 7.0) - (-5.0 + 6.0))]
    wanted = [-0.9 * log_sigmoid(m) - 0.1 * log_sigmoid(-m) for m in margins]
    assert found.losses.tolist() == pytest.approx([wanted[0] + 0.3 * 3 / 2, wanted[1] + 0.3 * 8 / 5])
    assert (found.chosen - found.rejected).tolist() == pytest.approx(margins)


def test_orpo_and_simpo_are_the_formulas() -> None:
    from selftrain.backends.preference import orpo, simpo

    means = [(-3 / 2, -4 / 4), (-8 / 5, -5 / 3)]
    odds = [tuple(math.log(math.exp(m) / (1 - math.exp(m))) for m in pair) for pair in means]
    wanted = [-m[0] - 0.5 * log_sigmoid(o[0] - o[1]) for m, o in zip(means, odds, strict=True)]
    assert orpo(pair_batch(), beta=0.5).losses.tolist() == pytest.approx(wanted)
    wanted = [-log_sigmoid(2 * (m[0] - m[1]) - 1) for m in means]
    assert simpo(pair_batch(), beta=2.0, gamma=1.0).losses.tolist() == pytest.approx(wanted)
    certain = orpo(pair_batch(chosen=[0.0, -1e-9]), beta=0.5).losses
    assert all(math.isfinite(value) for value in certain.tolist())


def test_asft_is_the_formula() -> None:
    """By itself each side's mean probability p, or 1 - p: the sigmoid of log odds is the probability."""
    from selftrain.backends.preference import asft

    sides = [(math.exp(-3 / 2), math.exp(-4 / 4)), (math.exp(-8 / 5), math.exp(-5 / 3))]
    wanted = [-math.log(c) - 0.5 * (math.log(c) + math.log(1 - r)) for c, r in sides]
    assert asft(pair_batch(), beta=0.5).losses.tolist() == pytest.approx(wanted)
    # The two sides are apart: what the rejected one adds does not depend on the chosen one, as in ORPO it would.
    other = asft(pair_batch(rejected=[-2.0, -6.0]), beta=0.5).losses
    likelier = asft(pair_batch(chosen=[-1.0, -1.0], rejected=[-2.0, -6.0]), beta=0.5).losses
    plain = asft(pair_batch(chosen=[-1.0, -1.0]), beta=0.5).losses
    assert (likelier - plain).tolist() == pytest.approx((other - asft(pair_batch(), beta=0.5).losses).tolist())
    certain = asft(pair_batch(chosen=[0.0, -1e-9], rejected=[0.0, -1e-9]), beta=0.5).losses
    assert all(math.isfinite(value) for value in certain.tolist())


def test_orpos_odds_are_trls_own() -> None:
    import torch
    from trl.experimental.orpo import ORPOTrainer

    from selftrain.backends.preference import orpo

    class Bare:
        beta = 0.5
        accelerator = type("Accelerator", (), {"device": "cpu"})

    batch = pair_batch()
    chosen, rejected = batch.chosen / batch.chosen_lengths, batch.rejected / batch.rejected_lengths
    theirs = ORPOTrainer.odds_ratio_loss(Bare(), chosen, rejected)[0]
    assert torch.allclose(orpo(batch, beta=0.5).losses.float() + chosen.float(), -theirs.float(), atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_two_are_twice_the_loss(tiny_model: Path, tmp_path: Path, loss: str) -> None:
    one = ours(tiny_model, tiny.pairs(12), tmp_path / "one", loss)
    two = ours(tiny_model, tiny.pairs(12, weight=2.0), tmp_path / "two", loss)
    assert two[0] == pytest.approx(2 * one[0], rel=1e-6)


@pytest.mark.parametrize("loss", ["orpo", "kto"])
def test_tokens_outside_the_mask_only_condition(tiny_model: Path, tmp_path: Path, loss: str) -> None:
    def masked(trained: bool) -> list[Row]:
        middle = Segment(ids=(40, 41), train=trained)
        return [replace(row, segments=(*row.segments, middle, Segment(ids=(0,), train=True))) for row in tiny.pairs(8)]

    def counted(row: Row) -> int:
        data = rows_module.preferences([tiny.write([row, replace(row, kind="rejected")], tmp_path / "one.parquet")])
        return sum(label != -100 for label in data["labels"][0][0])

    silent_rows, heard = masked(False), masked(True)
    assert counted(heard[0]) == counted(silent_rows[0]) + 2
    found = ours(tiny_model, silent_rows, tmp_path / "silent", loss)
    assert found != pytest.approx(ours(tiny_model, heard, tmp_path / "heard", loss), abs=1e-4)


def job(start: Path, out: Path, loss: str, rows: Sequence[Row] | None = None, **changes: Any) -> TrainJob:
    file = tiny.write(rows or tiny.pairs(24), out.with_name(f"{out.name}.parquet"))
    settings = {"per_device_train_batch_size": 8, "learning_rate": 3e-3, "num_train_epochs": 3}
    own = {**LOSSES[loss], **({"reference": "start"} if loss in ("dpo", "spin", "kto") else {})}
    return replace(
        TrainJob(rows=(file,), start=start, out=out, loss=loss, loss_settings=own, settings=settings), **changes
    )


@pytest.mark.parametrize(
    ("loss", "adapter"), [("dpo", "lora"), ("dpo", "full"), ("orpo", "lora"), ("asft", "lora"), ("kto", "lora")]
)
def test_a_model_learns_its_preferences(
    trainer: TrlTrainer, start: Path, tmp_path: Path, loss: str, adapter: str
) -> None:
    done = trainer.train(job(start, tmp_path / "train", loss, adapter=adapter), silent)
    figures = done.figures
    assert set(figures) == {
        f"{when}/{name}"
        for when in ("begin", "end")
        for name in ("chosen_log_prob", "rejected_log_prob", "margin", "accuracy")
    }  # fmt: skip
    assert (done.rows, done.steps) == (48, 9 if loss != "kto" else 18)
    if loss in ("dpo", "kto"):
        assert figures["begin/margin"] == 0
        assert figures["begin/accuracy"] == 0.5
    assert figures["end/margin"] > figures["begin/margin"] + 0.1
    assert figures["end/accuracy"] > 0.9
    assert figures["end/rejected_log_prob"] < figures["end/chosen_log_prob"]
    assert (checkpoints.read(done.path).adapter is not None) == (adapter == "lora")


def test_a_stored_reference_is_the_one_that_counts(trainer: TrlTrainer, start: Path, tmp_path: Path) -> None:
    one_epoch = {"per_device_train_batch_size": 24, "learning_rate": 1e-5, "num_train_epochs": 1}
    plain = trainer.train(job(start, tmp_path / "start", "dpo", settings=one_epoch), silent)
    assert plain.loss[0] == pytest.approx(math.log(2), abs=1e-4)
    # A reference that already prefers the chosen ones by 4 nats: beta x -4 = -2 is the margin at the start.
    rows = [
        replace(row, reference={"base": figure}) for row, figure in zip(tiny.pairs(24), [0.0, -4.0] * 24, strict=True)
    ]
    own = {**DPO, "reference": "base"}
    asked = job(start, tmp_path / "base", "dpo", rows, settings=one_epoch, loss_settings=own)
    done = trainer.train(asked, silent)
    difference = plain.figures["begin/chosen_log_prob"] - plain.figures["begin/rejected_log_prob"]
    assert done.figures["begin/margin"] == pytest.approx(0.5 * (difference - 4), abs=1e-3)
    with pytest.raises(DataError, match=r"48 of 48 rows .* have no log-probability under 'previous'; put Reference"):
        trainer.train(replace(asked, out=tmp_path / "other", loss_settings={**own, "reference": "previous"}), silent)


def test_rows_that_are_there_twice_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    files = [tiny.write(tiny.pairs(2), tmp_path / name) for name in ("a", "b")]
    with pytest.raises(DataError, match=r"4 of 8 rows .* are there more than once; name the stage"):
        rows_module.check(files, longest=64, model=tiny_model, loss="dpo", reference="start")


def test_the_start_is_looked_at_once(tiny_model: Path, tmp_path: Path) -> None:
    first = ours(tiny_model, tiny.pairs(8), tmp_path, "dpo")
    kept = (tmp_path / "start.npy").stat().st_mtime_ns
    assert ours(tiny_model, tiny.pairs(8), tmp_path, "dpo") == first
    assert (tmp_path / "start.npy").stat().st_mtime_ns == kept


def test_a_row_is_told_its_distance_by_another_prompts_response(tmp_path: Path) -> None:
    rows = tiny.pairs(2)
    items = rows_module.singles([tiny.write(rows, tmp_path / "rows")])
    parts = [prompt_and_completion(row) for row in rows]
    partners = [3, 3, 1, 1]
    for at, partner in enumerate(partners):
        own, other = items["ids"][at]
        assert own == [*parts[at][0], *parts[at][1]]
        assert other == parts[at][0] + parts[partner][1]
    assert items["good"] == [True, False, True, False]
