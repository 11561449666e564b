"""What a sampler serves: the weights of a checkpoint or a plain model folder, and whether they can be swapped."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from selftrain.backends import checkpoints, models, weights
from selftrain.backends.checkpoints import Probe
from selftrain.errors import ModelError
from selftrain.lab import Scored

INCIDENTAL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
"""Keys of config.json that say nothing of the shape of a model."""


class Served(NamedTuple):
    """A folder of weights to serve."""

    id: str
    folder: Path
    probes: tuple[Probe, ...]
    """The trainer's own scores; none for a model as it was given."""
    own: bool
    """Whether it is a checkpoint of ours."""

    @property
    def sequences(self) -> list[Scored]:
        """The probe's sequences, without their scores."""
        return [Scored(each.prompt_ids, each.completion_ids) for each in self.probes]


def served(folder: Path) -> Served:
    """Return what to serve of a checkpoint folder or a plain model folder."""
    folder = folder.resolve()
    if (folder / "checkpoint.json").is_file():
        contents = checkpoints.read(folder)
        checkpoints.verify(folder, "serve")
        return Served(contents.id, models.check(contents.serve.resolve()), tuple(checkpoints.probes_of(folder)), True)
    models.check(folder)
    stamps = [
        (each.name, each.stat().st_mtime_ns, each.stat().st_size) for each in sorted(folder.glob("*.safetensors"))
    ]
    return Served(f"{folder} {stamps}", folder, (), False)


def same_model(old: Served, new: Served) -> bool:
    """Tell whether two folders hold weights of one model: same configuration, dtype and tokenizer."""
    return all(part(old.folder) == part(new.folder) for part in (_shape, _dtypes, _tokenizer))


def refuse_incomplete(old: Served, new: Served) -> None:
    """Raise ModelError if `new` lacks a tensor that the loaded folder has, or has it in another shape.

    An engine accepts such a folder with no more than a warning and keeps the old values.
    """
    wanted = {name: tensor.shape for name, tensor in weights.tensors(old.folder)}
    there = {name: tensor.shape for name, tensor in weights.tensors(new.folder)}
    lost = sorted(wanted.keys() - there.keys() - {weights.HEAD})
    if lost:
        raise ModelError(
            f"{new.folder} lacks {len(lost)} of the model's {len(wanted)} tensors ({', '.join(lost[:3])}, ...); "
            "it was not loaded, write the whole model there"
        )
    other = sorted(name for name in wanted.keys() & there.keys() if wanted[name] != there[name])
    if other:
        shapes = f"{there[other[0]]} instead of {wanted[other[0]]}"
        raise ModelError(f"{new.folder} has {other[0]} in shape {shapes}; it was not loaded")


def lacks_head(new: Served) -> bool:
    """Tell whether a tied model's folder leaves its output layer out: vLLM would keep the old one at a swap."""
    tied = bool(_config(new.folder).get("tie_word_embeddings"))
    return tied and all(name != weights.HEAD for name, _ in weights.tensors(new.folder))


def dtype_of(each: Served) -> str:
    """Return the type that a checkpoint's weights are to be served in: the one they are stored in."""
    if not each.own:
        return "auto"
    stored = _dtypes(each.folder)
    return "float32" if "F32" in stored else "float16" if stored == {"F16"} else "bfloat16"


def gap(probes: Sequence[Probe], scores: Sequence[Sequence[float]]) -> float:
    """Return the mean absolute difference between the probe's log-probabilities and an engine's, in nats per token."""
    pairs = [pair for probe, row in zip(probes, scores, strict=True) for pair in zip(probe.logprobs, row, strict=True)]
    # A NaN anywhere makes the mean NaN, which no tolerance admits.
    return sum(abs(theirs - ours) for theirs, ours in pairs) / len(pairs) if pairs else 0.0


def _config(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return content


def _shape(folder: Path) -> dict[str, object]:
    return {name: value for name, value in _config(folder).items() if name not in INCIDENTAL}


def _dtypes(folder: Path) -> set[str]:
    return {tensor.dtype for _, tensor in weights.tensors(folder)}


def _tokenizer(folder: Path) -> bytes:
    path = folder / "tokenizer.json"
    return path.read_bytes() if path.is_file() else b""
