"""A model's tokenizer and chat template: the one place where text becomes ids."""

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selftrain.errors import ModelError
from selftrain.records import Ids, Message

IDENTITY = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt")
"""Files whose bytes decide what the ids mean; the config files beside them carry paths and versions."""
TEXTS = (".json", ".jinja", ".txt", ".model")
"""Endings of the files that a tokenizer may be made of."""
PROBE = "selftrain"


class Tokenizer:
    """The tokenizer of a model folder; any thread may use it.

    A model without a chat template is a base model: its prompt is the turns' contents joined by newlines, with
    nothing added before, between or after them, as its users write few-shot prompts.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = load(folder)
        # Fast tokenizers keep padding and truncation as state, and refuse to be used by two threads at once.
        self._lock = threading.Lock()
        self.template: str | None = self._tokenizer.get_chat_template() if self._tokenizer.chat_template else None
        self.end = end_of_turn(folder, self._tokenizer)
        self.id = self._identity(folder)

    def render(self, messages: Sequence[Message], *, prefix: str = "") -> Ids:
        """Return the ids of a prompt up to where the model answers, with `prefix` as the answer's beginning."""
        with self._lock:
            if self.template is None:
                text = "\n".join(message["content"] for message in messages)
                return tuple(self._tokenizer.encode(text + prefix, add_special_tokens=True))
            text = self._conversation(messages)
            # The template writes the BOS token where the model wants one, so the tokenizer must not add another.
            return tuple(self._tokenizer.encode(text + prefix, add_special_tokens=False))

    def _conversation(self, messages: Sequence[Message]) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(message) for message in messages], add_generation_prompt=True, tokenize=False
                )
            )
        except (TemplateError, TypeError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ModelError(
                f"the model's chat template refuses a conversation of {roles}: {first_line(error)}; mend the data's"
                " prompts or the run's prompt, or take a model whose template knows them"
            ) from error

    def encode(self, text: str) -> Ids:
        """Return the ids of a completion's text, without special tokens at either end."""
        with self._lock:
            return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        with self._lock:
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def written(self, ids: Sequence[int]) -> str:
        """Return the text of a prompt, special tokens written out, for a server that adds the first one itself."""
        with self._lock:
            text = str(self._tokenizer.decode(list(ids), skip_special_tokens=False))
            return text.removeprefix(self._tokenizer.bos_token or "")

    def _identity(self, folder: Path) -> str:
        found = hashlib.blake2b(digest_size=8)
        for name in IDENTITY:
            if (folder / name).is_file():
                found.update(name.encode() + b"\0" + _content(folder / name) + b"\0")
        # What the config files decide is taken from their effect, since saving a tokenizer rewrites them.
        effect = [self.template, self.end, self._tokenizer.encode(PROBE, add_special_tokens=True)]
        found.update(json.dumps(effect).encode())
        return found.hexdigest()


def load(folder: Path) -> Any:
    """Return a folder's tokenizer as transformers has it, code of its own never executed; raises ModelError."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except MemoryError:  # nothing that another model would mend
        raise
    except Exception as error:  # tokenizers raises a bare Exception for a damaged file
        raise ModelError(f"{folder} has no tokenizer that loads: {first_line(error)}") from error


def files(folder: Path) -> str:
    """Return a hash of all that decides a model folder's tokenizer: whatever is text in it but the probe."""
    found = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.suffix in TEXTS and path.name != "probe.json" and path.is_file():
            found.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def first_line(error: Exception) -> str:
    """Return the first line of what a library says, or what kind of error it is."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def end_of_turn(folder: Path, tokenizer: Any) -> int:
    """Return the id that ends a turn: the tokenizer's end token where generation stops at it, else what stops it."""
    stops = stop_ids(folder)
    own = tokenizer.eos_token_id
    if own is not None and (own in stops or not stops):
        return int(own)
    if stops:
        return stops[0]
    raise ModelError(f"{folder}: neither tokenizer nor generation_config.json names an end token; add eos_token_id")


def stop_ids(folder: Path) -> list[int]:
    """Return the ids at which generation stops, from generation_config.json or else config.json."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            if found is not None:
                return [int(each) for each in found] if isinstance(found, list) else [int(found)]
    return []


def _content(path: Path) -> bytes:
    """Return a file's content, JSON without its layout and without the state that padding and truncation leave."""
    if path.suffix != ".json":
        return path.read_bytes()
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        content.pop("padding", None)
        content.pop("truncation", None)
    return json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
