"""One fine-tuning, from rows to a checkpoint folder; imported by the training process only."""

import ctypes
import hashlib
import json
import os
import shutil
import time
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import RewardConfig, SFTConfig

from selftrain.backends import checkpoints, classifiers, preference, rows, tokens
from selftrain.backends.preference_trainer import KtoTrainer, PreferenceTrainer, TwoCollator
from selftrain.backends.reward_trainer import PairCollator, PairTrainer, StepCollator, StepTrainer
from selftrain.backends.row_trainer import LOSSES, ReferredTrainer, RowCollator, RowSFTTrainer
from selftrain.backends.tokens import end_of_turn
from selftrain.errors import ConfigError, SelftrainError
from selftrain.lab import Progress, TrainJob

SAVE_SECONDS = 120.0
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's numbers (malloc.h)."""
SHORT = 256
"""Tokens of a row up to which a table of all attention weights is no matter of memory."""
COMPLETE = "complete"
"""A file that stands in a checkpoint of the work in progress from the moment that it is whole."""


class Method(NamedTuple):
    """What a loss is trained with."""

    trainer: Any
    collator: Any
    config: Any
    head: str = ""
    """The kind of head (`classifiers.KINDS`); '' is the language model's own."""


METHODS = {
    "sft": Method(RowSFTTrainer, RowCollator, SFTConfig),
    "poft": Method(ReferredTrainer, RowCollator, SFTConfig),
    "reward": Method(PairTrainer, PairCollator, RewardConfig, "reward"),
    "steps": Method(StepTrainer, StepCollator, RewardConfig, "steps"),
    **dict.fromkeys(("dpo", "spin", "orpo", "asft", "simpo"), Method(PreferenceTrainer, TwoCollator, SFTConfig)),
    "kto": Method(KtoTrainer, TwoCollator, SFTConfig),
}


def run(job: TrainJob, progress: Progress) -> None:
    """Train, and leave `job.out/checkpoint` with the figures in trained.json; every rank calls this."""
    began = time.monotonic()
    _keep_memory()
    work = _work_folder(job)
    start = checkpoints.read(job.start)
    stored = rows.columns(job.rows)
    longest = max(map(len, stored["input_ids"]))
    trainer = _begun(job, start.master, work, progress, longest)
    # The first rank may have emptied the folder: nobody looks for saved work before that.
    trainer.accelerator.wait_for_everyone()
    prefers = job.loss in preference.LOSSES
    before = trainer.begin(work, reference=job.loss_settings.get("reference", "")) if prefers else {}
    trainer.train(resume_from_checkpoint=_last_complete(work))
    after = trainer.finish() if prefers else {}
    trainer.save_model(str(work / "final"))
    figures = _figures(trainer, stored)
    found = [(when, name, value) for when, part in (("begin", before), ("end", after)) for name, value in part.items()]
    figures["figures"] = {f"{when}/{name}": value for when, name, value in found}
    first = trainer.accelerator.is_main_process
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.free_memory()
    del trainer
    if not first:
        return

    def fill(folder: Path) -> None:
        (_merge if job.adapter == "lora" else _take)(job, work / "final", start.master, folder)

    def more(folder: Path) -> None:
        text = json.dumps({**figures, "seconds": time.monotonic() - began})
        (folder / "trained.json").write_text(text + "\n")

    checkpoints.write(job.out / "checkpoint", fill, start=start, more=more)
    shutil.rmtree(work)


def _keep_memory() -> None:
    """Have glibc keep what is freed: every step's large tensors would else be pages that are taken and zeroed anew."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def arguments(job: TrainJob, model: Path, work: Path) -> dict[str, Any]:
    """Return the arguments of TRL's config: our defaults, then the job's own."""
    device = torch.accelerator.is_available()
    small = checkpoints.served_dtype(model) == "float32"
    return {
        "per_device_train_batch_size": 16,
        "num_train_epochs": 1,
        "learning_rate": _learning_rate(job),
        # No warm-up: a first step at rate 0 is most of a training on a handful of rows.
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_total_limit": 2,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "bf16": not small,
        "use_cpu": not device,
        "dataloader_pin_memory": device,
        **{name: value for name, value in job.settings.items() if name not in ("max_length", "model_init_kwargs")},
        "max_length": None,
        "seed": job.seed,
        "data_seed": job.seed,
        "logging_nan_inf_filter": False,
        "output_dir": str(work),
    }


def _learning_rate(job: TrainJob) -> float:
    if job.loss in preference.LOSSES:
        return 5e-5 if job.adapter == "lora" else 1e-6
    return 5e-4 if job.adapter == "lora" else 2e-5


def _begun(job: TrainJob, model: Path, work: Path, progress: Progress, longest: int) -> Any:
    """Make the trainer; what TRL, PEFT or transformers say of the arguments is the user's to mend."""
    try:
        return _trainer(job, model, work, progress, longest)
    except SelftrainError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        if isinstance(error, ImportError) and error.path:
            # A library that is there and can't be mapped, for want of memory say, is no argument's fault.
            raise
        traceback.print_exc()
        if not _last_complete(work):
            # Nothing is lost, and nothing stands in the way of the same stage with other arguments.
            shutil.rmtree(work, ignore_errors=True)
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(f"TRL refuses the training's arguments: {why}; mend settings or lora of the stage") from error


def _trainer(job: TrainJob, model: Path, work: Path, progress: Progress, longest: int) -> Any:
    method = METHODS[job.loss]
    config = method.config(**arguments(job, model, work))
    tokenizer = tokens.load(model)
    # An adapter's base is rounded as it will be served; full fine-tuning needs float32, or small updates vanish.
    dtype = "bfloat16" if config.bf16 and job.adapter == "lora" else "float32"
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    data = _data(job, model, tokenizer)
    more = _attention(longest) | dict(job.settings.get("model_init_kwargs") or {})
    network = _network(job, model, dtype, more)
    trainer = method.trainer(
        model=network,
        args=config,
        train_dataset=Dataset.from_dict({name: data[name] for name in method.trainer.columns}),
        data_collator=method.collator(pad or 0),
        processing_class=tokenizer,
        peft_config=_lora(job) if job.adapter == "lora" else None,
        callbacks=[Keeper(progress, timed="save_strategy" not in job.settings)],
    )
    settings = {name: value for name, value in job.loss_settings.items() if name != "reference"}
    if job.loss in LOSSES:
        trainer.loss = partial(LOSSES[job.loss], **settings)
    if job.loss in preference.LOSSES:
        trainer.preference = partial(preference.LOSSES[job.loss], **settings)
    return trainer


def _network(job: TrainJob, model: Path, dtype: str, more: Mapping[str, Any]) -> Any:
    """Load a model with the head that the loss is about, a new one where it has none."""
    if head := METHODS[job.loss].head:
        network = classifiers.begin(model, head, dtype, seed=job.seed, more=more)
        classifiers.pad_token(network, tokens.load(model))
        return network
    wanted = {"dtype": getattr(torch, dtype), "trust_remote_code": False, "use_safetensors": True, **more}
    return AutoModelForCausalLM.from_pretrained(model, local_files_only=True, **wanted)


def _attention(longest: int) -> dict[str, Any]:
    """Choose plain matrix products for short rows where there is no GPU: the fused backward is twice as slow there."""
    return {} if torch.accelerator.is_available() or longest > SHORT else {"attn_implementation": "eager"}


def _data(job: TrainJob, model: Path, tokenizer: Any) -> Mapping[str, list[Any]]:
    if job.loss == "reward":
        end = end_of_turn(model, tokenizer)
        return rows.pairs(job.rows, end=end, tail=classifiers.tail(tokenizer, end))
    if job.loss == "steps":
        return rows.steps(job.rows)
    if job.loss == "kto":
        return rows.singles(job.rows)
    if job.loss in preference.LOSSES:
        return rows.preferences(job.rows, reference=job.loss_settings.get("reference", ""))
    return rows.columns(job.rows, reference=job.loss_settings.get("reference", ""))


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Reports steps, has the work saved every two minutes, and marks what was saved whole."""

    def __init__(self, progress: Progress, *, timed: bool) -> None:
        self.progress, self.timed, self.saved = progress, timed, time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Report a step, and ask for a save when it is time."""
        if state.is_world_process_zero:
            self.progress(1)
        if self.timed and _agreed(time.monotonic() - self.saved > SAVE_SECONDS):
            control.should_save = True
            self.saved = time.monotonic()
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint that was just written as whole."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            checkpoints.sync(folder)
            (folder / COMPLETE).touch()


def _agreed(mine: bool) -> bool:
    """What the first rank says: clocks differ, and a save that only some ranks begin never ends."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return mine
    said = [mine]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]


def _lora(job: TrainJob) -> LoraConfig:
    settings = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", **job.lora}
    if not (head := METHODS[job.loss].head):
        return LoraConfig(task_type="CAUSAL_LM", **settings)
    # The head is trained as a whole; PEFT would otherwise put an adapter on it too.
    settings.setdefault("exclude_modules", ["score", "classifier"])
    return LoraConfig(task_type=classifiers.KINDS[head].task, **settings)


def _figures(trainer: Any, data: Mapping[str, list[Any]]) -> dict[str, Any]:
    trained = sum(label != -100 for labels in data["labels"] for label in labels)
    return {
        "rows": len(data["id"]),
        "steps": trainer.state.global_step,
        "tokens": round(trained * (trainer.state.epoch or 0)),
        "loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }


def _merge(job: TrainJob, adapter: Path, master: Path, folder: Path) -> None:
    """Add the adapter to the float32 master weights: rounding the base first would round every round's delta."""
    model = _network(job, master, "float32", _labels(job))
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    merged.save_pretrained(folder / "master")
    (folder / "adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(adapter / name, folder / "adapter" / name)


def _take(job: TrainJob, trained: Path, master: Path, folder: Path) -> None:
    _network(job, trained, "float32", {}).save_pretrained(folder / "master")


def _labels(job: TrainJob) -> dict[str, Any]:
    """What of the model's arguments decides the head's shape."""
    given = dict(job.settings.get("model_init_kwargs") or {})
    return {name: value for name, value in given.items() if name == "num_labels"}


def _work_folder(job: TrainJob) -> Path:
    """Return the folder of the work in progress, emptied if it is another job's."""
    work = job.out / "work"
    if int(os.environ.get("RANK", "0")) == 0:
        key = hashlib.blake2b(repr(job).encode(), digest_size=8).hexdigest()
        note = work / "job"
        if not (note.is_file() and note.read_text() == key):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            note.write_text(key)
    return work


def _last_complete(work: Path) -> str | None:
    whole = [folder for folder in work.glob("checkpoint-*") if (folder / COMPLETE).exists()]
    last = max(whole, key=lambda folder: int(folder.name.rsplit("-", 1)[1]), default=None)
    return str(last) if last else None
