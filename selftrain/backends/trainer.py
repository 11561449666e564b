"""The trainer: TRL and PEFT in child processes, behind the protocol of the lab."""

import contextlib
import json
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from selftrain.backends import arguments, checkpoints, models, nursery, process, rows, weights
from selftrain.errors import ConfigError, EngineError, near
from selftrain.lab import Progress, Trained, TrainJob
from selftrain.records import JsonValue

LOSSES = frozenset(rows.KINDS)
HEADED = frozenset({"reward", "steps"})
"""Losses of models with heads of their own."""
ADAPTERS = frozenset({"lora", "full"})
FIXED: Mapping[str, str] = {
    **dict.fromkeys(("output_dir", "resume_from_checkpoint", "logging_nan_inf_filter"), "selftrain sets it itself"),
    **dict.fromkeys(("seed", "data_seed"), "it follows from the run's seed"),
    **dict.fromkeys(
        (
            "assistant_only_loss", "chat_template_path", "completion_only_loss", "dataset_kwargs", "dataset_num_proc",
            "dataset_text_field", "eos_token", "pad_token", "shuffle_dataset", "truncation_mode",
        ),
        "rows are token ids already, with what is trained marked in them",
    ),
    **dict.fromkeys(("packing", "packing_strategy", "padding_free"), "row weights need one row per line of a batch"),
    **dict.fromkeys(("train_sampling_strategy", "length_column_name"), "batches are grouped by length already"),
    **dict.fromkeys(("label_smoothing_factor", "loss_type", "router_aux_loss_coef"), "the loss is the stage's"),
    **dict.fromkeys(
        ("do_eval", "eval_on_start", "eval_packing", "eval_steps", "eval_strategy", "load_best_model_at_end"),
        "models are measured by Evaluate",
    ),
    "report_to": "the run's own report_to names trackers",
    **dict.fromkeys(
        ("hub_model_id", "hub_token", "hub_strategy", "push_to_hub"), "`selftrain export --push` uploads the result"
    ),
}  # fmt: skip
"""Arguments of TRL's config that would have no effect or a wrong one, and why."""
MEMORY = ("out of memory", "outofmemory", "can't allocate memory", "memoryerror", "std::bad_alloc", "exit status -9")
CHILD = "selftrain.backends.trainer_child"
PRELOAD = {"prepare": nursery.MODELS, "train": ("selftrain.backends.finetune",)}
"""What each kind of task imports."""


def argument_names(loss: str = "sft") -> frozenset[str]:
    """Arguments of TRL's config that a run may set."""
    return frozenset(arguments.reward_types() if loss in HEADED else arguments.trl_types()) - FIXED.keys()


class Arguments(NamedTuple):
    """What a training is given, of the types that the libraries want."""

    settings: dict[str, JsonValue]
    lora: dict[str, JsonValue]


def check(settings: Mapping[str, JsonValue], lora: Mapping[str, JsonValue], loss: str = "sft") -> Arguments:
    """Return training arguments by their types, without importing TRL.

    Refuses those that do not exist, that cannot be set here, or that have a value of another type.
    """
    for name in settings:
        if name in FIXED:
            raise ConfigError(f"{name} cannot be set: {FIXED[name]}")
    arguments.check(settings, argument_names(loss), f"TRL's {'RewardConfig' if loss in HEADED else 'SFTConfig'}")
    arguments.check(lora, arguments.lora_names(), "PEFT's LoraConfig")
    types = arguments.reward_types() if loss in HEADED else arguments.trl_types()
    return Arguments(arguments.typed(settings, types, ""), arguments.typed(lora, arguments.lora_types(), "lora."))


def check_fits(given: Arguments, model: Path) -> None:
    """Refuse training arguments that do not go with a model, by its config and the names of its tensors."""
    context = models.describe(model).context
    longest = given.settings.get("max_length")
    if isinstance(longest, int) and context and longest > context:
        raise ConfigError(f"max_length is {longest}; it must be a number of tokens up to the model's {context}")
    modules = {name.rpartition(".")[0] for name, _ in weights.tensors(model)}
    for key in ("target_modules", "modules_to_save"):
        listed = given.lora.get(key)
        for name in listed if isinstance(listed, list) else []:
            if not any(module == name or module.endswith(f".{name}") for module in modules):
                known = {module.rpartition(".")[2] for module in modules}
                raise ConfigError(f"lora.{key}: the model has no module {name!r}{near(str(name), known)}")


class TrlTrainer:
    """Does each task in a child process of its own: its memory goes with it, and what it breaks."""

    kind = "trl"

    def __init__(self, *, log: Path, python: str = sys.executable, launch: Path | None = None) -> None:
        if launch and not launch.is_file():
            raise ConfigError(f"the accelerate config {launch} is not there; `accelerate config` writes one")
        self.version = f"trl {version('trl')}, peft {version('peft')}, transformers {version('transformers')}"
        self._log, self._python, self._launch = log, python, launch
        self._child: process.Child | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process id of the training process, if one runs."""
        return self._child.pid if self._child else None

    def prepare(self, model: Path, out: Path) -> str:
        """Make a checkpoint folder of a model folder (round 0); return the hash of its weights."""
        if (out / "checkpoint.json").is_file():
            return checkpoints.read(out).id
        models.check(model)
        return str(self._ask("prepare", (model, out), lambda steps: None))

    def train(self, job: TrainJob, progress: Progress) -> Trained:
        """Train; begins where an interrupted training of the same folder ended."""
        result = job.out / "checkpoint"
        if not (result / "trained.json").is_file():
            self._check(job)
            job.out.mkdir(parents=True, exist_ok=True)
            if self._launch:
                self._train_launched(job, self._launch, progress)
            else:
                self._ask("train", job, progress)
        else:
            checkpoints.verify(result)
            # A kill may have come between the result and the end of the work in progress.
            shutil.rmtree(job.out / "work", ignore_errors=True)
        figures = json.loads((result / "trained.json").read_text(encoding="utf-8"))
        return Trained(path=result, id=checkpoints.read(result).id, **{**figures, "loss": tuple(figures["loss"])})

    def close(self) -> None:
        """End its process; whoever waits for it gets an error."""
        self._closed = True
        self._end()

    def _check(self, job: TrainJob) -> None:
        for value, known, what in ((job.loss, LOSSES, "loss"), (job.adapter, ADAPTERS, "adapter")):
            if value not in known:
                raise ConfigError(
                    f"unknown {what} {value!r}{near(value, known) or '.'} Known: {', '.join(sorted(known))}"
                )
        check(job.settings, job.lora, job.loss)
        master = checkpoints.master_of(job.start)
        checkpoints.verify(job.start, "master")
        context = models.describe(master).context
        longest = job.settings.get("max_length", context)
        if not isinstance(longest, int) or longest < 1 or longest > (context or longest):
            raise ConfigError(f"max_length is {longest}; it must be a number of tokens up to the model's {context}")
        reference = str(job.loss_settings.get("reference", ""))
        rows.check(job.rows, longest=longest, model=master, loss=job.loss, reference=reference)

    def _ask(self, kind: str, details: object, progress: Progress) -> Any:
        child = nursery.start(CHILD, log=self._log, preload=PRELOAD[kind], python=self._python)
        # A child that is gone already is heard of next.
        with contextlib.suppress(OSError):
            child.send((kind, details))
        return self._follow(child, "the training" if kind == "train" else "preparing the model", progress)

    def _train_launched(self, job: TrainJob, config: Path, progress: Progress) -> None:
        file = job.out / "job.json"
        file.write_bytes(TypeAdapter(TrainJob).dump_json(job))
        try:
            child = process.start(CHILD, "--launch", str(config), str(file), log=self._log, python=self._python)
            self._follow(child, "the training", progress)
        finally:
            for path in (file, file.with_suffix(".steps")):
                path.unlink(missing_ok=True)

    def _follow(self, child: process.Child, what: str, progress: Progress) -> Any:
        self._child = child
        try:
            if self._closed:
                raise EngineError("the trainer is closed")
            return _heard_out(child, what, progress)
        finally:
            self._end()

    def _end(self) -> None:
        if child := self._child:
            child.close()
            self._child = None


def _heard_out(child: process.Child, what: str, progress: Progress) -> Any:
    """Pass a task's steps on, and return what it returned or raise what it raised."""
    while True:
        try:
            message = child.recv()
        except (EOFError, OSError):
            raise _explained(child.failure(f"{what} failed: its process is gone")) from None
        match message:
            case ("steps", int(steps)):
                progress(steps)
            case ("done", outcome):
                return outcome
            case ("error", Exception() as error):
                raise error
            case _:
                raise EngineError(f"{what} sent a message that is not understood: {message!r}")


def _explained(error: EngineError) -> EngineError:
    if any(sign in str(error).lower() for sign in MEMORY):
        return EngineError(
            f"{error}\nIt looks like too little memory: lower per_device_train_batch_size and raise "
            "gradient_accumulation_steps as much, or set gradient_checkpointing=true."
        )
    return error
