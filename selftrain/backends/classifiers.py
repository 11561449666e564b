"""Models whose head scores: reward models (a number for a sequence) and process models (the share of right at a token).

A reward model is a transformers model for sequence classification with one label. A process model is one for token
classification: with two labels the second one is "right", with one label its sigmoid is.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selftrain.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH_TOKENS = 16_384
"""Tokens of a batch, padding included."""


class Kind(NamedTuple):
    """A kind of head, and how libraries call it."""

    auto: str
    """transformers' class that loads it."""
    suffix: str
    """How the names of its architectures end."""
    labels: tuple[int, ...]
    """How many labels it may have; a new one gets the last number."""
    task: str
    """PEFT's name of the task, by which it trains the head beside the adapter."""
    words: str


KINDS = {
    "reward": Kind(
        "AutoModelForSequenceClassification", "ForSequenceClassification", (1,), "SEQ_CLS", "a reward model"
    ),
    "steps": Kind("AutoModelForTokenClassification", "ForTokenClassification", (1, 2), "TOKEN_CLS", "a process model"),
}


def kind_of(folder: Path) -> str:
    """Return 'reward' or 'steps' for a model folder with such a head, '' for one that writes text."""
    architecture = _architecture(folder)
    return next((name for name, kind in KINDS.items() if architecture.endswith(kind.suffix)), "")


def check(folder: Path, kind: str) -> None:
    """Raise ModelError for a model folder without a head of the kind."""
    about = KINDS[kind]
    if kind_of(folder) != kind:
        raise ModelError(f"{folder} is not {about.words}: it is a {_architecture(folder)}, not a ...{about.suffix}")


def load(folder: Path, kind: str, dtype: str, more: Mapping[str, Any] | None = None) -> "PreTrainedModel":
    """Load a model with its trained head; raises ModelError for a model without one, or with another."""
    check(folder, kind)
    about = KINDS[kind]
    model, missing = _loaded(folder, about, dtype, more or {})
    if missing:
        raise ModelError(f"{folder} is not {about.words}: its weights lack {', '.join(sorted(missing))}")
    if model.config.num_labels not in about.labels:
        wanted = " or ".join(map(str, about.labels))
        raise ModelError(
            f"{folder} is not {about.words}: its head has {model.config.num_labels} labels, not {wanted}"
            " (num_labels in config.json)"
        )
    return model.eval()


def begin(
    folder: Path, kind: str, dtype: str, *, seed: int, more: Mapping[str, Any] | None = None
) -> "PreTrainedModel":
    """Load a model to train its head: as it is if it has one of the kind, else with a new one drawn by the seed."""
    from transformers import set_seed

    about = KINDS[kind]
    if kind_of(folder) == kind:
        model = load(folder, kind, dtype, more)
    elif other := kind_of(folder):
        raise ModelError(f"{folder} is {KINDS[other].words}; {about.words} cannot be trained from it")
    else:
        set_seed(seed)
        model, _ = _loaded(folder, about, dtype, {"num_labels": about.labels[-1], **(more or {})})
    # In 16 bits small updates of the head would vanish.
    for name in ("score", "classifier"):
        if (head := getattr(model, name, None)) is not None:
            head.float()
    return model.train()


def pad_token(model: "PreTrainedModel", tokenizer: Any) -> int:
    """Return the id that fills rows, and tell the model: it looks for the last token that is another."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    model.config.get_text_config().pad_token_id = pad or 0
    return pad or 0


def tail(tokenizer: Any, end: int) -> tuple[int, ...]:
    """Return what the chat template writes behind the token that ends a response's turn: often a newline."""
    if not tokenizer.chat_template:
        return ()
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    ids = tokenizer.encode(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)
    behind = ids[len(ids) - ids[::-1].index(end) :] if end in ids else []
    return () if tokenizer.decode(behind).strip() else tuple(behind)


def rewards(model: "PreTrainedModel", sequences: Sequence[Sequence[int]], pad: int) -> list[float]:
    """Return the reward of each sequence of ids."""
    found: dict[int, float] = {}
    for part in _batches(sequences):
        logits = _logits(model, [sequences[at] for at in part], pad)
        found |= zip(part, logits[:, 0].tolist(), strict=True)
    return [found[at] for at in range(len(sequences))]


def chances(
    model: "PreTrainedModel", sequences: Sequence[Sequence[int]], ends: Sequence[Sequence[int]], pad: int
) -> list[tuple[float, ...]]:
    """Return, at the given positions of each sequence, the probability that what ends there is right."""
    found: dict[int, tuple[float, ...]] = {}
    for part in _batches(sequences):
        logits = _logits(model, [sequences[at] for at in part], pad)
        right = logits.softmax(-1)[..., 1] if logits.shape[-1] == 2 else logits[..., 0].sigmoid()
        for row, at in enumerate(part):
            found[at] = tuple(right[row, list(ends[at])].tolist())
    return [found[at] for at in range(len(sequences))]


def _logits(model: "PreTrainedModel", rows: Sequence[Sequence[int]], pad: int) -> Any:
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=model.device)
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask).logits.float()


def _batches(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    """Cut the sequences into batches of like length, the longest first: what does not fit is known at once."""
    batches: list[list[int]] = []
    room = 0
    for at in sorted(range(len(sequences)), key=lambda each: (-len(sequences[each]), each)):
        if not room:
            batches.append([])
            room = max(1, BATCH_TOKENS // max(1, len(sequences[at])))
        batches[-1].append(at)
        room -= 1
    return batches


def _architecture(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return str((config.get("architectures") or ["model of unknown kind"])[0])


SAFE: Mapping[str, Any] = {"trust_remote_code": False, "use_safetensors": True}
"""What a model folder is loaded with: code and pickles that it brings along are not touched."""


def _loaded(folder: Path, kind: Kind, dtype: str, more: Mapping[str, Any]) -> tuple["PreTrainedModel", set[str]]:
    import torch
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    told = logging.get_verbosity()
    # It would tell of the language model's head that is left out, and of the new one.
    logging.set_verbosity_error()
    try:
        model, about = getattr(transformers, kind.auto).from_pretrained(
            folder,
            **{"dtype": getattr(torch, dtype), "local_files_only": True, **SAFE, **more},
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{folder} does not load as {kind.words}: {reason}") from error
    finally:
        logging.set_verbosity(told)
    return model, {*about["missing_keys"], *(each[0] for each in about["mismatched_keys"])}
