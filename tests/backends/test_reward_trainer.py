"""The losses of reward and process models against TRL's own and the formula, and whole trainings of both."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from selftrain.backends import checkpoints, classifiers
from selftrain.backends import rows as rows_module
from selftrain.backends.scorer import ScorerProcess
from selftrain.backends.trainer import TrlTrainer
from selftrain.errors import ConfigError, DataError, EngineError, ModelError
from selftrain.lab import TrainJob
from selftrain.records import Message, Row, Segment
from tests.backends import tiny

SMALL = {"per_device_train_batch_size": 8, "learning_rate": 3e-3, "num_train_epochs": 4}


def silent(steps: int) -> None:
    """Hears of steps."""


def losses(model: Path, data: dict[str, Any], out: Path, kind: str, **settings: Any) -> list[float]:
    """The losses that a trainer logs over its first three steps, in float32 on whole batches."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    from selftrain.backends.reward_trainer import PairCollator, PairTrainer, StepCollator, StepTrainer

    arguments: dict[str, Any] = {
        "output_dir": str(out), "max_steps": 3, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "use_cpu": True, "bf16": False, "disable_tqdm": True, "gradient_checkpointing": False, "max_length": None,
        "per_device_train_batch_size": 8, "learning_rate": 1e-3, "lr_scheduler_type": "constant", **settings,
    }  # fmt: skip
    auto = AutoModelForTokenClassification if kind == "steps" else AutoModelForSequenceClassification
    trainer_class, collator = {
        "trl": (RewardTrainer, None),
        "pairs": (PairTrainer, PairCollator(0)),
        "steps": (StepTrainer, StepCollator(0)),
    }[kind]

    class InOrder(trainer_class):  # type: ignore[misc, valid-type]
        """Takes the rows as they come, so that two trainers see the same batches."""

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    trainer = InOrder(
        model=auto.from_pretrained(model, dtype=torch.float32),
        args=RewardConfig(**arguments),
        train_dataset=Dataset.from_dict(data),
        data_collator=collator,
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def pairs(out: Path, **changes: Any) -> dict[str, Any]:
    return rows_module.pairs([tiny.write(tiny.pairs(24, **changes), out / "rows.parquet")], end=0)


def steps(rows: Sequence[Row], out: Path) -> dict[str, Any]:
    return rows_module.steps([tiny.write(rows, out / "rows.parquet")])


@pytest.mark.parametrize(
    "settings", [{}, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
                 {"center_rewards_coefficient": 0.1}],
)  # fmt: skip
def test_weights_of_one_are_trls_own_reward_trainer(
    reward_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    data = pairs(tmp_path)
    ours = losses(reward_model, data, tmp_path / "ours", "pairs", **settings)
    del data["weight"]
    assert ours == pytest.approx(losses(reward_model, data, tmp_path / "trl", "trl", **settings), abs=1e-5)
    assert len(set(ours)) == 3


def test_weights_of_two_are_twice_the_loss(reward_model: Path, process_model: Path, tmp_path: Path) -> None:
    one = losses(reward_model, pairs(tmp_path), tmp_path / "1", "pairs")
    two = losses(reward_model, pairs(tmp_path, weight=2.0), tmp_path / "2", "pairs")
    assert two[0] == pytest.approx(2 * one[0], rel=1e-6)
    one = losses(process_model, steps(tiny.steps(24), tmp_path), tmp_path / "3", "steps")
    two = losses(process_model, steps(tiny.steps(24, weight=2.0), tmp_path), tmp_path / "4", "steps")
    assert two[0] == pytest.approx(2 * one[0], rel=1e-6)


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("settings", [{}, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}])
def test_the_steps_loss_is_the_formula(tiny_model: Path, tmp_path: Path, labels: int, settings: dict[str, Any]) -> None:
    import torch
    from transformers import AutoModelForTokenClassification

    folder = tiny.classifier(tmp_path / "model", tiny_model, tokens=True, labels=labels)
    model = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()
    rows = [replace(row, weight=0.5 + at % 3) for at, row in enumerate(tiny.steps(8))]
    soft = rows[0]
    rows[0] = replace(soft, labels=tuple(0.25 for _ in soft.labels))
    total, count = 0.0, 0
    for row in rows:
        ids = [token for part in row.segments for token in part.ids]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0].double()
        marks = iter(row.labels)
        end = 0
        for part in row.segments:
            end += len(part.ids)
            if part.train:
                label = next(marks)
                at = logits[end - 1]
                right = float(at.softmax(-1)[1] if labels == 2 else at[0].sigmoid())
                loss = -label * torch.tensor(right).log() - (1 - label) * torch.tensor(1 - right).log()
                total, count = total + row.weight * float(loss), count + 1
    found = losses(folder, steps(rows, tmp_path), tmp_path / "out", "steps", max_steps=1, **settings)
    assert found == pytest.approx([total / count], abs=1e-5)


def job(start: Path, out: Path, loss: str, **changes: Any) -> TrainJob:
    made = tiny.pairs(24) if loss == "reward" else tiny.steps(48)
    file = tiny.write(made, out.with_name(f"{out.name}.parquet"))
    return replace(TrainJob(rows=(file,), start=start, out=out, loss=loss, settings=SMALL), **changes)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScorerProcess]:
    with ScorerProcess(log=tmp_path_factory.mktemp("scorer") / "scorer.log") as scorer:
        yield scorer


def ranked(scorer: ScorerProcess, checkpoint: Path) -> float:
    """The share of problems where the right response is worth more than the wrong one."""
    ends = [("right", "wrong"), ("xright", "wrong!")]
    talks: list[list[Message]] = [
        [{"role": "user", "content": f"{n}+{m}="}, {"role": "assistant", "content": text}]
        for n in (3, 40) for m in (1, 20) for pair in ends for text in pair
    ]  # fmt: skip
    found = scorer.score(str(checkpoint), talks)
    return sum(a > b for a, b in zip(found[::2], found[1::2], strict=True)) / (len(found) / 2)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_reward_model_is_trained_and_scored_with(
    trainer: TrlTrainer, start: Path, scorer: ScorerProcess, tmp_path: Path, adapter: str
) -> None:
    done = trainer.train(job(start, tmp_path / "train", "reward", adapter=adapter), silent)
    assert (done.rows, done.steps, len(done.loss)) == (48, 12, 12)
    assert done.loss[-1] < 0.3 < done.loss[0]
    contents = checkpoints.read(done.path)
    assert classifiers.kind_of(contents.master) == classifiers.kind_of(contents.serve) == "reward"
    assert checkpoints.probes_of(done.path) == []
    assert (contents.adapter is not None) == (adapter == "lora")
    assert ranked(scorer, done.path) == 1.0
    with pytest.raises(ModelError, match="is not a process model"):
        scorer.step_scores(str(done.path), [{"role": "user", "content": "?"}], [["a"]])


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_process_model_is_trained_and_scored_with(
    trainer: TrlTrainer, start: Path, scorer: ScorerProcess, tmp_path: Path, adapter: str
) -> None:
    done = trainer.train(job(start, tmp_path / "train", "steps", adapter=adapter), silent)
    assert (done.rows, done.steps) == (48, 24)
    assert done.loss[-1] < 0.3 < done.loss[0]
    (scores,) = scorer.step_scores(
        str(done.path), [{"role": "user", "content": "50?"}], [["right\n", "wrong\n", "right\n", "wrong\n"]]
    )
    assert [score > 0.5 for score in scores] == [True, False, True, False]


def test_a_second_training_goes_on_from_the_first_head(
    trainer: TrlTrainer, start: Path, scorer: ScorerProcess, tmp_path: Path
) -> None:
    first = trainer.train(job(start, tmp_path / "1", "reward"), silent)
    again = trainer.train(job(start, tmp_path / "again", "reward"), silent)
    assert again.id == first.id
    assert trainer.train(job(start, tmp_path / "other", "reward", seed=1), silent).id != first.id
    second = trainer.train(job(first.path, tmp_path / "2", "reward"), silent)
    assert second.loss[0] < 0.3
    assert ranked(scorer, second.path) == 1.0
    given = tmp_path / "round-00" / "checkpoint"
    assert trainer.prepare(checkpoints.master_of(first.path), given) == first.id
    assert scorer.score(str(given), [[{"role": "user", "content": "?"}]]) == scorer.score(
        str(first.path), [[{"role": "user", "content": "?"}]]
    )
    with pytest.raises(ModelError, match="is a reward model; a process model cannot be trained from it"):
        trainer.train(job(first.path, tmp_path / "3", "steps"), silent)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["reward", "steps"])
def test_a_killed_training_goes_on_from_its_last_whole_save(
    trainer: TrlTrainer, start: Path, tmp_path: Path, loss: str
) -> None:
    settings = {**SMALL, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 4}
    asked = job(start, tmp_path / "train", loss, settings=settings)
    work = tmp_path / "train" / "work"
    own = TrlTrainer(log=tmp_path / "trainer.log")
    failures: list[Exception] = []

    def train() -> None:
        try:
            own.train(asked, silent)
        except EngineError as error:
            failures.append(error)

    thread = Thread(target=train)
    thread.start()
    while not any(work.glob("checkpoint-*/complete")) and thread.is_alive():
        time.sleep(0.01)
    assert own.pid is not None
    os.killpg(own.pid, signal.SIGKILL)
    thread.join()
    own.close()
    assert "its process is gone" in str(failures[0])
    heard: list[int] = []
    done = trainer.train(asked, heard.append)
    assert 0 < sum(heard) < done.steps
    assert done.id == trainer.train(replace(asked, out=tmp_path / "whole"), silent).id


def changed(rows: Sequence[Row], at: int, **changes: Any) -> list[Row]:
    return [replace(row, **changes) if n == at else row for n, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("loss", "rows", "message"),
    [
        ("sft", tiny.pairs(2), r"4 of 4 rows .* are not of kind example, which the sft loss"),
        ("reward", tiny.sums(2), r"2 of 2 rows .* are not of kind chosen and rejected"),
        ("reward", tiny.pairs(2)[:3], r"1 of 3 rows \(right1\) are not one chosen and one rejected of a group"),
        ("reward", changed(tiny.pairs(2), 1, kind="chosen"), r"2 of 4 rows .* are not one chosen and one rejected"),
        ("steps", tiny.sums(2), r"2 of 2 rows .* have not one label"),
        ("steps", changed(tiny.steps(2), 0, labels=(1.0,)), r"1 of 2 rows \(steps0\) have not one label"),
        ("steps", changed(tiny.steps(1), 0, segments=(Segment(ids=(5,), train=True),), labels=(2.0,)), r"from 0 to 1"),
    ],
)
def test_rows_of_another_loss_are_refused(
    tiny_model: Path, tmp_path: Path, loss: str, rows: list[Row], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        rows_module.check([tiny.write(rows, tmp_path / "rows")], longest=64, model=tiny_model, loss=loss)


def test_arguments_are_those_of_trls_reward_config(start: Path, tmp_path: Path) -> None:
    trainer = TrlTrainer(log=tmp_path / "trainer.log")
    with pytest.raises(
        ConfigError, match=r"'center_reward' is not an argument of TRL's RewardConfig.*center_rewards_c"
    ):
        trainer.train(job(start, tmp_path / "train", "reward", settings={"center_reward": 1}), silent)
    assert trainer.pid is None


def test_what_a_template_writes_behind_a_turn_follows_the_row(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    assert classifiers.tail(tokenizer, 0) == ()
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|end|>\n\n")
    assert classifiers.tail(tokenizer, 0) == (tiny.NEWLINE, tiny.NEWLINE)
    rows = changed(tiny.pairs(1), 1, segments=(Segment(ids=(5, 6), train=True),))
    found = rows_module.pairs([tiny.write(rows, tmp_path / "rows")], end=0, tail=(7,))
    assert (found["chosen_ids"][0][-2:], found["rejected_ids"][0]) == ([0, 7], [5, 6])
