"""The safetensors files of a model folder, read without loading a tensor."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from selftrain.errors import ModelError

INDEX = "model.safetensors.index.json"
HEAD = "lm_head.weight"
"""The output layer, which a model with tied embeddings may also carry as a tensor of its own."""
LONGEST_HEADER = 100_000_000


class Tensor(NamedTuple):
    """Where a tensor lies."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def missing(folder: Path) -> str:
    """Name the weight files that a model folder should have and lacks; '' where all are there."""
    if (folder / INDEX).is_file():
        return ", ".join(name for name in _indexed(folder) if not (folder / name).is_file())
    return "" if any(folder.glob("*.safetensors")) else "*.safetensors"


def tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a model folder, sorted by name."""
    files = [folder / name for name in _indexed(folder)] if (folder / INDEX).is_file() else folder.glob("*.safetensors")
    yield from sorted(entry for file in files for entry in _entries(file))


def digest(folder: Path) -> str:
    """Hash the weights: names, shapes, dtypes and bytes in order of name, however they lie in files."""
    tied = bool(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("tie_word_embeddings"))
    hashed = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors(folder):
        if tied and name == HEAD:
            continue
        hashed.update(f"{name}\0{tensor.dtype}\0{tensor.shape}\0".encode())
        with tensor.file.open("rb") as file:
            file.seek(tensor.start)
            left = tensor.stop - tensor.start
            while left:
                piece = file.read(min(left, 1 << 22))
                if not piece:
                    raise ModelError(f"{tensor.file} ends in the middle of {name}; it was cut off, fetch it again")
                hashed.update(piece)
                left -= len(piece)
    return hashed.hexdigest()


def _indexed(folder: Path) -> list[str]:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        names = sorted(set(index["weight_map"].values()))
        strangers = [name for name in names if Path(name).name != name or Path(name).suffix != ".safetensors"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder / INDEX} is damaged ({type(error).__name__}: {error}); fetch it again") from error
    if strangers:
        raise ModelError(f"{folder / INDEX} names {strangers[0]!r}, which is no safetensors file of that folder")
    return names


def _entries(file: Path) -> list[tuple[str, Tensor]]:
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if not 0 < length < LONGEST_HEADER:
            raise ModelError(f"{file} is not a safetensors file (a header of {length} bytes); fetch it again")
        first = 8 + length
        try:
            header = json.loads(handle.read(length))
            found = [
                (
                    name,
                    Tensor(file, entry["dtype"], tuple(entry["shape"]), *(first + at for at in entry["data_offsets"])),
                )
                for name, entry in header.items()
                if name != "__metadata__"
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{file} is not a safetensors file ({error}); fetch it again") from error
    if file.stat().st_size < (end := max((tensor.stop for _, tensor in found), default=0)):
        raise ModelError(f"{file} has {file.stat().st_size} bytes of {end}: it was cut off, fetch it again")
    return found
