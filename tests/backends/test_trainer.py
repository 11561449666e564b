import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pydantic import TypeAdapter

from selftrain.backends import checkpoints
from selftrain.backends import trainer as trainer_module
from selftrain.backends.trainer import TrlTrainer
from selftrain.errors import ConfigError, DataError, EngineError
from selftrain.lab import Trained, TrainJob
from tests.backends import tiny

SMALL = {"per_device_train_batch_size": 8}


def job(start: Path, out: Path, *, rows: int = 40, **changes: Any) -> TrainJob:
    file = out.with_name(f"{out.name}.parquet")
    return replace(TrainJob(rows=(tiny.write(tiny.sums(rows), file),), start=start, out=out, settings=SMALL), **changes)


def silent(steps: int) -> None:
    """Hears of steps."""


def tensors(folder: Path) -> Mapping[str, Any]:
    from safetensors.torch import load_file

    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


@pytest.fixture(scope="module")
def lora(trainer: TrlTrainer, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trainer.train(job(start, tmp_path_factory.mktemp("lora") / "train"), silent)


def test_a_training_says_what_it_did(trainer: TrlTrainer, start: Path, tmp_path: Path) -> None:
    heard: list[int] = []
    done = trainer.train(job(start, tmp_path / "train", settings={**SMALL, "num_train_epochs": 2}), heard.append)
    assert (done.rows, done.steps, sum(heard), len(done.loss)) == (40, 10, 10, 10)
    assert done.tokens == 2 * sum(len(row.segments[1].ids) for row in tiny.sums(40))
    assert done.loss[-1] < done.loss[0]
    assert done.path == tmp_path / "train" / "checkpoint"
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == ["checkpoint"]


def test_the_same_job_gives_the_same_weights(trainer: TrlTrainer, start: Path, lora: Trained, tmp_path: Path) -> None:
    assert trainer.train(job(start, tmp_path / "again"), silent).id == lora.id
    assert trainer.train(job(start, tmp_path / "other", seed=1), silent).id != lora.id


def test_a_finished_training_is_not_done_again(trainer: TrlTrainer, start: Path, lora: Trained) -> None:
    before = {path: path.stat().st_mtime_ns for path in lora.path.rglob("*")}
    assert trainer.train(job(start, lora.path.parent), silent) == lora
    assert {path: path.stat().st_mtime_ns for path in lora.path.rglob("*")} == before


def test_lora_adds_its_delta_to_the_float32_master(tiny_model: Path, lora: Trained) -> None:
    import torch

    contents = checkpoints.read(lora.path)
    assert contents.adapter is not None
    master, before, adapter = tensors(contents.master), tensors(tiny_model), tensors(contents.adapter)
    changed = 0
    for name, weight in master.items():
        assert weight.dtype == torch.float32
        stem = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        if f"{stem}A.weight" in adapter:
            delta = 32 / 16 * adapter[f"{stem}B.weight"] @ adapter[f"{stem}A.weight"]
            assert torch.allclose(weight, before[name] + delta, atol=1e-7)
            changed += not torch.equal(weight, before[name])
        else:
            assert torch.equal(weight, before[name])
    assert changed == 14  # two layers of q, k, v, o, gate, up, down


def test_the_merge_is_pefts_own(tiny_model: Path, lora: Trained) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    contents = checkpoints.read(lora.path)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    state = PeftModel.from_pretrained(model, str(contents.adapter)).merge_and_unload().state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in tensors(contents.master).items())


def test_full_fine_tuning_changes_every_weight(
    trainer: TrlTrainer, tiny_model: Path, start: Path, tmp_path: Path
) -> None:
    # A rate whose updates bfloat16 weights would swallow: they must not vanish.
    settings = {**SMALL, "learning_rate": 1e-5, "bf16": True}
    done = trainer.train(job(start, tmp_path / "train", adapter="full", settings=settings), silent)
    contents = checkpoints.read(done.path)
    assert contents.adapter is None
    before = tensors(tiny_model)
    for name, weight in tensors(contents.master).items():
        assert 0 < (weight - before[name]).abs().max() < 1e-4, name


def test_a_round_begins_where_the_one_before_ended(trainer: TrlTrainer, lora: Trained, tmp_path: Path) -> None:
    done = trainer.train(job(lora.path, tmp_path / "train"), silent)
    contents = checkpoints.read(done.path)
    assert contents.start == str(checkpoints.master_of(lora.path))
    assert contents.base == checkpoints.read(lora.path).base
    assert done.loss[0] < lora.loss[0]


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_last_whole_save(trainer: TrlTrainer, start: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "num_train_epochs": 6, "save_strategy": "steps", "save_steps": 4}
    asked = job(start, tmp_path / "train", settings=settings)
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
    assert len(failures) == 1
    assert "its process is gone" in str(failures[0])
    last = max(int(path.parent.name.split("-")[1]) for path in work.glob("checkpoint-*/complete"))
    half = work / "checkpoint-29"
    half.mkdir()
    (half / "trainer_state.json").write_text("{")
    heard: list[int] = []
    done = trainer.train(asked, heard.append)
    assert (done.steps, len(done.loss), sum(heard)) == (30, 30, 30 - last)
    whole = trainer.train(replace(asked, out=tmp_path / "whole"), silent)
    assert done.id == whole.id


def test_the_work_of_another_job_is_not_gone_on_with(trainer: TrlTrainer, start: Path, tmp_path: Path) -> None:
    asked = job(start, tmp_path / "train")
    left = tmp_path / "train" / "work" / "checkpoint-4"
    left.mkdir(parents=True)
    (left / "complete").touch()
    assert trainer.train(asked, silent).steps == 5


def test_a_single_step_changes_the_weights(trainer: TrlTrainer, start: Path, tmp_path: Path) -> None:
    done = trainer.train(job(start, tmp_path / "train", rows=4), silent)
    assert done.steps == 1
    assert done.id != checkpoints.read(start).id


def test_what_went_wrong_is_quoted_and_the_next_training_works(
    trainer: TrlTrainer, start: Path, tmp_path: Path
) -> None:
    broken = job(start, tmp_path / "broken", loss_settings={"no_such_setting": 1})
    with pytest.raises(EngineError, match=r"(?s)exit status 1.*no_such_setting"):
        trainer.train(broken, silent)
    assert trainer.pid is None
    assert trainer.train(job(start, tmp_path / "train"), silent).steps == 5


def test_a_diverging_training_is_an_error(trainer: TrlTrainer, start: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "learning_rate": 1e30, "max_grad_norm": 0.0, "num_train_epochs": 3, "warmup_steps": 0}
    with pytest.raises(EngineError, match=r"the training diverged: .* lower learning_rate"):
        trainer.train(job(start, tmp_path / "train", adapter="full", settings=settings), silent)
    assert not (tmp_path / "train" / "checkpoint").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"learning_rte": 1}}, "'learning_rte' is not an argument of TRL's SFTConfig.*learning_rate"),
        ({"settings": {"optim": "no_such_optimizer"}}, "optim='no_such_optimizer': it is none of its"),
        ({"settings": {"packing": True}}, "packing cannot be set: row weights need one row"),
        ({"lora": {"rank": 8}}, "'rank' is not an argument of PEFT's LoraConfig"),
        ({"settings": {"max_length": 4096}}, "max_length is 4096; .* up to the model's 256"),
        ({"loss": "dpoo"}, "unknown loss 'dpoo'; did you mean dpo.* Known: asft, .*, steps"),
    ],
)
def test_wrong_settings_are_refused_before_a_process_starts(
    start: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    trainer = TrlTrainer(log=tmp_path / "trainer.log")
    with pytest.raises(ConfigError, match=message):
        trainer.train(job(start, tmp_path / "train", **changes), silent)
    assert trainer.pid is None


def test_rows_over_max_length_are_refused_with_a_count(trainer: TrlTrainer, start: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"40 of 40 rows \(row0, row1, row2, ...\) are longer than max_length 5"):
        trainer.train(job(start, tmp_path / "train", settings={"max_length": 5}), silent)


def test_every_fixed_argument_is_one_of_trls() -> None:
    from selftrain.backends import arguments

    assert trainer_module.FIXED.keys() <= arguments.trl_names()


def test_too_little_memory_brings_a_hint() -> None:
    error = trainer_module._explained(EngineError("the training failed: torch.OutOfMemoryError: CUDA out of memory"))
    assert "lower per_device_train_batch_size" in str(error)
    assert "lower per_device" not in str(trainer_module._explained(EngineError("KeyError: 'x'")))


@pytest.mark.slow
def test_accelerate_launches_with_the_users_config(start: Path, lora: Trained, tmp_path: Path) -> None:
    config = tmp_path / "accelerate.yaml"
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nuse_cpu: true\nnum_machines: 1\n"
        "machine_rank: 0\nnum_processes: 1\nmixed_precision: 'no'\n"
    )
    trainer = TrlTrainer(log=tmp_path / "trainer.log", launch=config)
    heard: list[int] = []
    done = trainer.train(job(start, tmp_path / "train"), heard.append)
    assert (done.steps, sum(heard), done.id) == (5, 5, lora.id)
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == ["checkpoint"]


@pytest.mark.slow
def test_two_ranks_average_to_what_one_computes(start: Path, lora: Trained, tmp_path: Path) -> None:
    # Not through `accelerate launch`, which needs MPI for more than one process on a CPU.
    asked = job(start, tmp_path / "train", settings={"per_device_train_batch_size": 4})
    file = tmp_path / "job.json"
    file.write_bytes(TypeAdapter(TrainJob).dump_json(asked))
    ranks = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    subprocess.run(
        [sys.executable, *ranks, "-m", "selftrain.backends.trainer_child", "--job", str(file)],
        env={
            **os.environ,
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        check=True,
    )
    figures = json.loads((tmp_path / "train" / "checkpoint" / "trained.json").read_text())
    assert (figures["steps"], figures["rows"]) == (5, 40)
    assert figures["loss"] == pytest.approx(lora.loss, rel=1e-4)


def test_work_in_progress_is_saved_by_the_clock(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from selftrain.backends import finetune

    monkeypatch.setattr(finetune, "SAVE_SECONDS", 0.0)
    work = tmp_path / "train" / "work"
    saved: list[list[str]] = []
    finetune.run(
        job(start, tmp_path / "train"),
        lambda steps: saved.append(sorted(path.parent.name for path in work.glob("checkpoint-*/complete"))),
    )
    assert saved[:4] == [[], ["checkpoint-1"], ["checkpoint-1", "checkpoint-2"], ["checkpoint-2", "checkpoint-3"]]
