"""Models' folders that miss parts, and settings that only an engine or a trainer can judge."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from selftrain.backends import models
from tests.front_door import call, refused
from tests.input.kinds import NANO, listing

SMALL = (*NANO, "data=sums", "rounds=1", "max_steps=1")


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def written(name: str, content: str | bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (without("config.json"), "it has no config.json"),
    "no weights": (without("model.safetensors"), "lacks weights"),
    "no tokenizer": (without("tokenizer.json"), "has no tokenizer"),
    "a config that is no JSON": (written("config.json", "{"), "config.json"),
    "a config that is a list": (written("config.json", "[]"), "config.json"),
    "a config that is a word": (written("config.json", '"x"'), "config.json"),
    "a config of bytes": (written("config.json", b"\xff\xfe"), "config.json"),
    "weights of nothing": (written("model.safetensors", b""), "fetch it again"),
    "weights that are a text": (written("model.safetensors", "not weights at all, a page of HTML"), "fetch it again"),
    "weights whose header is a list": (written("model.safetensors", (2).to_bytes(8, "little") + b"[]"), "fetch it"),
    "an index that is no JSON": (written("model.safetensors.index.json", "{"), "index.json"),
    "an index of a file that is not there": (
        written("model.safetensors.index.json", '{"weight_map": {"a": "b.safetensors"}}'),
        "b.safetensors",
    ),
    "a note that is no JSON": (written("model.json", "{"), "model.json"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_folder_that_misses_something(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spoil, said = FAULTS[fault]
    folder = Path(shutil.copytree(models.bundled()["nano"], tmp_path / "model"))
    spoil(folder)
    before = listing(tmp_path)
    assert said in refused("run", "rest_em", *SMALL, "model=./model", "--dry-run")
    assert listing(tmp_path) == before
    shutil.rmtree(folder)
    shutil.copytree(models.bundled()["nano"], folder)
    assert call("run", "rest_em", *SMALL, "model=./model", "--dry-run").code == 0


def other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": config["intermediate_size"] + 8}))


def other_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    told = {
        **config,
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
    }
    (folder / "config.json").write_text(json.dumps(told))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "model.safetensors"),
        (other_shape, "does not load as a language model"),
        (other_kind, "does not load as a language model"),
        (written("tokenizer.json", "{}"), "tokenizer"),
    ],
)
def test_a_model_that_does_not_load_is_named_and_the_right_one_runs(
    spoil: Callable[[Path], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(models.bundled()["nano"], tmp_path / "model"))
    spoil(folder)
    assert said in refused("run", "rest_em", *SMALL, "model=./model", "--out", "run")
    shutil.rmtree(folder)
    shutil.copytree(models.bundled()["nano"], folder)
    answer = call("run", "rest_em", *SMALL, "model=./model", "--out", "run")
    assert answer.code in (0, 3), answer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("sampler.device=cuda:7", "sampler.device='cuda:7' can't be used"),
        ("trainer.tf32=true", "TRL refuses the training's arguments"),
        ("train.lora.init_lora_weights=gausian", "TRL refuses the training's arguments"),
    ],
)
def test_what_only_an_engine_can_refuse_stands_in_nobodys_way(
    setting: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    learning = ("max_new_tokens=32", "samples=4", "temperature=0.7")
    assert said in refused("run", "rest_em", *SMALL, *learning, setting, "--out", "run")
    answer = call("run", "rest_em", *SMALL, *learning, "--out", "run")
    assert answer.code in (0, 3), answer
