"""A checkpoint on disk: float32 master weights to train from, a copy to serve, and a probe that tells the two agree.

    checkpoint.json   id (hash of the master weights), master, serve, adapter, base, start, the hash of every file
    master/           a float32 model folder; for a model as it was given, checkpoint.json names its folder instead
    serve/            the same weights as served, `lm_head.weight` included even where it is tied; probe.json (of a
                      reward or process model, which is not sampled from, it holds no sequences)
    adapter/          the PEFT adapter that was merged, if one was trained

A checkpoint appears by a rename: a folder that is there is whole.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selftrain import seals
from selftrain.backends import classifiers, models, tokens, weights
from selftrain.errors import EngineError, ModelError, StoreError
from selftrain.records import Ids
from selftrain.store import rename

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORMAT = 1
LOADING = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError)
"""What transformers raises for a folder that it can't load; a model in it that needs code of its own is one."""
REMEDY = "delete its round and the rounds after it, and the same command makes them again"
SMALL = 5_000_000
"""Up to so many parameters `auto` serves in float32: such a model is quick in it, and exact."""
PROBES = (
    ("What is 12 + 7 + 30?", "12 + 7 = 19\n19 + 30 = 49\nThe answer is 49."),
    ("What is 81 - 45?", "81 - 45 = 36"),
    ("A box holds 6 pens. How many pens are in 4 boxes?", "4 boxes hold 4 * 6 = 24 pens."),
    ("Name three colours.", "Red, green and blue."),
    ("Is 17 a prime number? Explain.", "Yes: no number from 2 to 16 divides 17."),
    ("Write a Python function that adds two numbers.", "def add(a, b):\n    return a + b"),
    ("Sort 3, 1, 2.", "1, 2, 3"),
    ("Who wrote this?", "I do not know; nothing here says so."),
)
"""Prompts and completions by which a serving engine is compared with the trainer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a checkpoint folder holds."""

    id: str
    master: Path
    serve: Path
    adapter: Path | None
    base: str
    """The model that the run began with, as it was given."""
    start: str | None
    """Folder of the weights that the adapter was trained on; None for a model as it was given."""


class Probe(NamedTuple):
    """A sequence and the log-probability (nats) of each of its completion's tokens."""

    prompt_ids: Ids
    completion_ids: Ids
    logprobs: tuple[float, ...]


def read(folder: Path) -> Contents:
    """Return what a checkpoint folder holds, or say why it is none."""
    file = folder / "checkpoint.json"
    if not file.is_file():
        raise ModelError(f"{folder} is not a checkpoint folder: it has no checkpoint.json")
    stored = seals.read(file, REMEDY)
    if lacks := sorted({"format", "id", "master", "serve", "adapter", "base", "start"} - stored.keys()):
        raise StoreError(f"{file} is damaged: it lacks {', '.join(lacks)}; {REMEDY}")
    if stored["format"] > FORMAT:
        raise ModelError(f"{folder} was written by a newer selftrain (format {stored['format']}, known: {FORMAT})")
    master = folder / stored["master"]
    if not (master / "config.json").is_file():
        raise ModelError(f"{folder} refers to the model {master}, which is not there any more")
    return Contents(
        id=stored["id"],
        master=master,
        serve=folder / stored["serve"],
        adapter=folder / stored["adapter"] if stored["adapter"] else None,
        base=stored["base"],
        start=stored["start"],
    )


def verify(folder: Path, *parts: str, weighty: bool = True) -> None:
    """Raise StoreError if a file of a checkpoint is not what was written, or the given model has changed since.

    `parts` are master, serve, adapter; all by default. Without `weighty` the weights are left out. Files that have not
    been touched since they were last looked at are not read again.
    """
    stored = seals.read(folder / "checkpoint.json", REMEDY)
    if "files" not in stored or (folder / "collected.json").exists():
        # An earlier selftrain wrote it, or its weights were freed.
        return
    files = {
        name: known
        for name, known in stored["files"].items()
        if (not parts or name.partition("/")[0] in parts) and (weighty or not name.endswith(".safetensors"))
    }
    seals.check(folder, files, REMEDY)
    master = Path(stored["master"])
    if weighty and master.is_absolute() and (not parts or "master" in parts) and weights.digest(master) != stored["id"]:
        raise StoreError(
            f"the weights of {master} are not those that the run began with (hash {stored['id'][:8]}); put the model"
            " back as it was, or start a new run"
        )


def master_of(folder: Path) -> Path:
    """The model folder that training begins from."""
    return read(folder).master


def serve_of(folder: Path) -> Path:
    """The model folder that a sampler loads."""
    return read(folder).serve


def probes_of(folder: Path) -> list[Probe]:
    """The trainer's own log-probabilities of the probe sequences of a checkpoint."""
    stored = json.loads((serve_of(folder) / "probe.json").read_text(encoding="utf-8"))
    return [
        Probe(tuple(each["prompt_ids"]), tuple(each["completion_ids"]), tuple(each["logprobs"]))
        for each in stored["sequences"]
    ]


def prepare(model: Path, out: Path, *, dtype: str = "auto") -> str:
    """Make a checkpoint of a model as it was given, without copying its master weights; return its id."""
    if not (out / "checkpoint.json").is_file():
        models.check(model)
        with appearing(out) as folder:
            master = model.resolve()
            _serve(master, folder / "serve", served_dtype(master, dtype))
            _describe(folder, master=master, base=str(model), start=None)
    return read(out).id


def write(
    out: Path,
    fill: Callable[[Path], None],
    *,
    start: Contents,
    dtype: str = "auto",
    more: Callable[[Path], None] = lambda folder: None,
) -> str:
    """Make the checkpoint `out` of a training that began from `start`; return its id.

    `fill` writes float32 weights and config into master/, and the adapter, if there is one, into adapter/; `more`
    may add files of its own.
    """
    with appearing(out) as folder:
        fill(folder)
        copy_companions(start.master, folder / "master")
        _serve(folder / "master", folder / "serve", served_dtype(folder / "master", dtype))
        more(folder)
        return _describe(folder, master=Path("master"), base=start.base, start=str(start.master))


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """Yield a folder to fill; it is on disk and in place as `out` afterwards, or gone if anything failed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temp = out.parent / f".{out.name}.partial"
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir()
    try:
        yield temp
        sync(temp)
        rename(temp, out)
        _sync_one(out.parent)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise


def sync(folder: Path) -> None:
    """Have everything under a folder written to the disk."""
    for path in [*folder.rglob("*"), folder]:
        _sync_one(path)


def copy_companions(source: Path, target: Path) -> None:
    """Copy what a model folder holds beside config and weights: tokenizer, chat template, generation config."""
    for path in source.iterdir():
        weighty = path.suffix in (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".py") or path.name == weights.INDEX
        if weighty or path.name in ("config.json", "model.json", "probe.json", "README.md") or path.name[0] == ".":
            continue
        if path.is_dir():
            if path.name == "additional_chat_templates":
                shutil.copytree(path, target / path.name, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, target / path.name)


def load(folder: Path, dtype: str) -> "PreTrainedModel":
    """Load a model folder for evaluation, on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except LOADING as error:
        raise ModelError(f"{folder} does not load as a language model: {tokens.first_line(error)}") from error
    return model.eval()


def score(model: "PreTrainedModel", sequences: Sequence[tuple[Ids, Ids]], batch: int = 8) -> list[tuple[float, ...]]:
    """Return the log-probability of each completion token."""
    import torch

    found = []
    for first in range(0, len(sequences), batch):
        part = sequences[first : first + batch]
        rows = [torch.tensor([*prompt_ids, *completion_ids]) for prompt_ids, completion_ids in part]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask.to(model.device)).logits
        for row, (prompt_ids, completion_ids) in enumerate(part):
            stop = len(prompt_ids) + len(completion_ids)
            after = logits[row, len(prompt_ids) - 1 : stop - 1].float().log_softmax(-1)
            found.append(tuple(after.gather(-1, ids[row, len(prompt_ids) : stop, None])[:, 0].tolist()))
    return found


def served_dtype(folder: Path, dtype: str = "auto") -> str:
    """Resolve `auto`: float32 for a small model, bfloat16 for others."""
    if dtype != "auto":
        return dtype
    return "float32" if models.describe(folder).parameters <= SMALL else "bfloat16"


def _describe(folder: Path, *, master: Path, base: str, start: str | None) -> str:
    """Write checkpoint.json, when all other files are there; return the id."""
    identity = weights.digest(folder / master)
    files = {str(path.relative_to(folder)): seals.hashed(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    content = {
        "format": FORMAT,
        "id": identity,
        "master": str(master),
        "serve": "serve",
        "adapter": "adapter" if (folder / "adapter").is_dir() else None,
        "base": base,
        "start": start,
        "files": files,
    }
    (folder / "checkpoint.json").write_text(json.dumps(seals.sealed(content), indent=2) + "\n")
    return identity


def _serve(master: Path, target: Path, dtype: str) -> None:
    from huggingface_hub import save_torch_state_dict

    head_kind = classifiers.kind_of(master)
    model = classifiers.load(master, head_kind, dtype) if head_kind else load(master, dtype)
    target.mkdir()
    model.config.save_pretrained(target)
    state = dict(model.state_dict())
    head = model.get_output_embeddings()
    if head is not None:
        # vLLM keeps the old output layer at a reload when the folder of a tied model does not spell it out.
        state[weights.HEAD] = head.weight.detach().clone()
    save_torch_state_dict(state, str(target), metadata={"format": "pt"})
    copy_companions(master, target)
    tokenizer = tokens.load(master)
    sequences = _probe_sequences(tokenizer)
    scored = _scores(model, head_kind, sequences, tokenizer)
    if not all(abs(value) < float("inf") for row in scored for value in row):
        what = "scores" if head_kind else "log-probabilities"
        raise EngineError(f"the weights of {master} give {what} that are not finite")
    pairs = [] if head_kind else zip(sequences, scored, strict=True)
    probes = [Probe(*ids, logprobs)._asdict() for ids, logprobs in pairs]
    (target / "probe.json").write_text(json.dumps({"dtype": dtype, "sequences": probes}) + "\n")


def _scores(
    model: "PreTrainedModel", head_kind: str, sequences: Sequence[tuple[Ids, Ids]], tokenizer: Any
) -> list[tuple[float, ...]]:
    """Return what the model says to the probe: log-probabilities, or its head's scores."""
    if not head_kind:
        return score(model, sequences)
    pad = classifiers.pad_token(model, tokenizer)
    whole = [(*prompt_ids, *completion_ids) for prompt_ids, completion_ids in sequences]
    if head_kind == "reward":
        return [(each,) for each in classifiers.rewards(model, whole, pad)]
    return classifiers.chances(model, whole, [range(len(each)) for each in whole], pad)


def _probe_sequences(tokenizer: "PreTrainedTokenizerBase") -> list[tuple[Ids, Ids]]:
    sequences = []
    for question, reply in PROBES:
        if tokenizer.chat_template:
            turns = [{"role": "user", "content": question}]
            prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
        else:
            prompt = tokenizer(question + "\n")["input_ids"]
        completion = tokenizer(reply, add_special_tokens=False)["input_ids"]
        sequences.append((tuple(prompt), tuple(completion)))
    return sequences


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
