"""Take a checkpoint away: a folder that plain transformers and vLLM load, and on request a hub repository."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from selftrain.errors import Blocked, ConfigError, EngineError, near
from selftrain.places import check_writable
from selftrain.records import Ids

if TYPE_CHECKING:
    from selftrain.backends.checkpoints import Contents
    from selftrain.backends.parity import Parity

DTYPES = ("auto", "bfloat16", "float32", "float16")


class Exported(NamedTuple):
    """What was exported, and how it compares with what was trained."""

    path: Path
    dtype: str
    parity: "Parity | None"
    """None where there was no adapter to compare with."""
    url: str | None
    """Where it was pushed to."""


def export(
    checkpoint: Path,
    to: Path,
    *,
    merge: bool = True,
    card: str | None = None,
    push: str | None = None,
    dtype: str = "auto",
    prompts: Sequence[Ids] = (),
    base: str | None = None,
) -> Exported:
    """Write a checkpoint as a model folder, or its adapter with `base` as its reference; push it if asked.

    A merge that does not say what the adapter on its base says to `prompts` (default: the probe's) is refused, and
    nothing is left behind. The dtype "auto" is bfloat16, or float32 where rounding to 16 bits parts too many texts. A
    hub repository that is not there yet is made private.
    """
    from selftrain.backends import checkpoints

    check_asked(to, dtype)
    contents = checkpoints.read(checkpoint)
    checkpoints.verify(checkpoint)
    asked = prompts or [probe.prompt_ids for probe in checkpoints.probes_of(checkpoint)]
    try:
        done = _appear(contents, to, merge, "bfloat16" if dtype == "auto" else dtype, asked, base, card)
    except Blocked:
        # Rounding to 16 bits alone can part the texts of a right merge; in float32 nothing but a wrong one can.
        if dtype != "auto":
            raise
        done = _appear(contents, to, merge, "float32", asked, base, card)
    return done._replace(url=push_folder(to, push)) if push else done


def check_asked(to: Path, dtype: str = "auto") -> None:
    """Refuse a place that is taken or can't be, and a dtype that there is not: known before anything is loaded."""
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}{near(dtype, DTYPES) or '.'} Known: {', '.join(DTYPES)}")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to} is there and not empty; export to a new folder")
    check_writable(to, f"nothing can be exported to {to}", "name another place", ConfigError)


def _appear(
    contents: "Contents",
    to: Path,
    merge: bool,
    dtype: str,
    prompts: Sequence[Ids],
    base: str | None,
    card: str | None,
) -> Exported:
    from selftrain.backends import checkpoints

    parity = None
    with checkpoints.appearing(to) as folder:
        if merge:
            _write_merged(contents, folder, dtype)
            if contents.adapter:
                from selftrain.backends.parity import check

                parity = check(contents, folder, prompts, dtype)
        else:
            _write_adapter(contents, folder, base)
        if card is not None:
            (folder / "README.md").write_text(card, encoding="utf-8")
    return Exported(to, dtype, parity, None)


def _write_merged(contents: "Contents", folder: Path, dtype: str) -> None:
    from selftrain.backends import checkpoints

    checkpoints.load(contents.master, dtype).save_pretrained(folder)
    checkpoints.copy_companions(contents.master, folder)


def _write_adapter(contents: "Contents", folder: Path, base: str | None) -> None:
    from selftrain.backends import checkpoints

    if contents.adapter is None:
        raise ConfigError("this checkpoint has no adapter (full fine-tuning, or no training); export it merged")
    if contents.start != str(Path(contents.base).resolve()):
        raise ConfigError(
            f"this checkpoint's adapter belongs to {contents.start}, which was trained too, not to {contents.base}; "
            "export it merged"
        )
    shutil.copytree(contents.adapter, folder, dirs_exist_ok=True)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base or contents.base
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    checkpoints.copy_companions(contents.master, folder)


def push_folder(folder: Path, repository: str, *, kind: str = "model") -> str:
    """Upload a folder to a hub repository (kind: model, dataset), made private if it isn't there; return its URL."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        url = api.create_repo(repository, private=True, exist_ok=True, repo_type=kind)
        told = "Upload of selftrain export"
        api.upload_folder(repo_id=url.repo_id, folder_path=folder, commit_message=told, repo_type=kind)
    except Exception as error:  # the hub client lets transport errors of several libraries through
        raise EngineError(
            f"exported to {folder}, but pushing to {repository} failed ({type(error).__name__}: {error}); "
            f"check `hf auth whoami`, then `hf upload {repository} {folder}`"
        ) from error
    return str(url)
