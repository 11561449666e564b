import json
import shutil
from pathlib import Path

import pytest

from selftrain import seals
from selftrain.backends import checkpoints, weights
from selftrain.backends.served import served
from selftrain.errors import ModelError, StoreError
from tests.backends import tiny


def test_a_prepared_model_is_referred_to_and_served_with_its_head(tiny_model: Path, start: Path) -> None:
    from safetensors.torch import load_file

    contents = checkpoints.read(start)
    assert contents.master == tiny_model.resolve() == checkpoints.master_of(start)
    assert (contents.adapter, contents.start, contents.base) == (None, None, str(tiny_model))
    assert contents.id == weights.digest(tiny_model)
    assert not (start / "master").exists()
    served = load_file(checkpoints.serve_of(start) / "model.safetensors")
    assert (served["lm_head.weight"] == served["model.embed_tokens.weight"]).all()
    assert "lm_head.weight" not in load_file(tiny_model / "model.safetensors")


def test_a_served_folder_loads_and_repeats_its_probe(tiny_model: Path, start: Path) -> None:
    from transformers import AutoTokenizer

    probes = checkpoints.probes_of(start)
    assert len(probes) == 8
    assert all(len(probe.logprobs) == len(probe.completion_ids) > 0 for probe in probes)
    model = checkpoints.load(checkpoints.serve_of(start), "float32")
    found = checkpoints.score(model, [(probe.prompt_ids, probe.completion_ids) for probe in probes], batch=1)
    for probe, logprobs in zip(probes, found, strict=True):
        assert probe.logprobs == pytest.approx(logprobs, abs=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(checkpoints.serve_of(start))
    assert tokenizer.decode(probes[0].prompt_ids) == "<|user|>What is 12 + 7 + 30?<|end|><|assistant|>"


def test_small_models_are_served_in_float32_and_a_dtype_can_be_asked_for(tiny_model: Path, tmp_path: Path) -> None:
    assert checkpoints.served_dtype(tiny_model) == "float32"
    checkpoints.prepare(tiny_model, tmp_path / "checkpoint", dtype="bfloat16")
    dtypes = {tensor.dtype for _, tensor in weights.tensors(checkpoints.serve_of(tmp_path / "checkpoint"))}
    assert dtypes == {"BF16"}


def test_an_untied_model_keeps_its_own_head(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = tiny.make(tmp_path / "model", tied=False)
    checkpoints.prepare(model, tmp_path / "checkpoint")
    served = load_file(checkpoints.serve_of(tmp_path / "checkpoint") / "model.safetensors")
    assert (served["lm_head.weight"] == load_file(model / "model.safetensors")["lm_head.weight"]).all()


def test_the_id_is_of_the_weights_not_of_the_files(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(tiny_model / "model.safetensors")
    names = sorted(state, reverse=True)
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for file, held in parts.items():
        save_file({name: state[name] for name in held}, tmp_path / file)
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (tmp_path / weights.INDEX).write_text(json.dumps(index))
    shutil.copyfile(tiny_model / "config.json", tmp_path / "config.json")
    assert weights.digest(tmp_path) == weights.digest(tiny_model)
    state[names[0]][0] += 1e-3
    save_file({name: state[name] for name in parts["a.safetensors"]}, tmp_path / "a.safetensors")
    assert weights.digest(tmp_path) != weights.digest(tiny_model)


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with checkpoints.appearing(tmp_path / "out") as folder:
            (folder / "half").write_text("x")
            raise KeyError("half way")

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_half_done_is_cleared(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.partial").mkdir()
    (tmp_path / ".checkpoint.partial" / "master").write_text("cut off")
    checkpoints.prepare(tiny_model, tmp_path / "checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_folders_that_are_no_checkpoint_are_named(tiny_model: Path, start: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a checkpoint folder: it has no checkpoint\.json"):
        checkpoints.read(tiny_model)
    copy = tmp_path / "copy"
    shutil.copytree(start, copy)
    stored = seals.read(copy / "checkpoint.json", "")
    (copy / "checkpoint.json").write_text(json.dumps({**stored, "master": "/nowhere/model"}))
    with pytest.raises(ModelError, match="refers to the model /nowhere/model, which is not there any more"):
        checkpoints.read(copy)
    (copy / "checkpoint.json").write_text(json.dumps({**stored, "format": 99}))
    with pytest.raises(ModelError, match="newer selftrain"):
        checkpoints.read(copy)


@pytest.mark.parametrize("name", ["serve/model.safetensors", "serve/tokenizer.json", "serve/probe.json"])
def test_a_checkpoint_with_a_flipped_bit_is_not_served(start: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(start, copy)
    served(copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(StoreError, match=rf"{name} is damaged: .*; delete its round"):
        served(copy)


def test_a_given_model_that_has_changed_is_not_trained_from(tiny_model: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "checkpoint"
    shutil.copytree(tiny_model, model)
    checkpoints.prepare(model, out)
    checkpoints.verify(out)
    content = bytearray((model / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (model / "model.safetensors").write_bytes(content)
    checkpoints.verify(out, "serve")
    with pytest.raises(StoreError, match="are not those that the run began with"):
        checkpoints.verify(out, "master")


def test_weights_that_were_cut_off_are_named(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ModelError, match=r"model.safetensors has \d+ bytes of \d+: it was cut off"):
        weights.digest(tmp_path / "model")
    file.write_bytes(b"\x08\0\0\0\0\0\0\0[1,2,3] ")
    with pytest.raises(ModelError, match="is not a safetensors file"):
        weights.digest(tmp_path / "model")
