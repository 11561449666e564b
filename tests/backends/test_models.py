import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selftrain.backends import models
from selftrain.errors import ModelError

SAMPLES = (
    "12345 + 67 = 890", "a  5", "Hello  world\n\n  x", "it's 3.14, isn't it?", "日本語 ünï", "\t7\n8", "x2y3 100,000",
)  # fmt: skip


def test_a_folder_is_itself(tiny_model: Path) -> None:
    assert models.resolve(str(tiny_model)) == tiny_model


def test_a_model_is_described_from_its_headers(tiny_model: Path) -> None:
    found = models.describe(tiny_model)
    assert found == (328832, "float32", 256, True, "LlamaForCausalLM", "")


def test_describing_loads_no_library(tiny_model: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from selftrain.backends import models;"
        "models.describe(Path(sys.argv[1])); assert not {'torch', 'transformers', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny_model)], check=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smolm2-135m", "unknown model 'smolm2-135m'; did you mean smollm2-135m"),
        ("zzz", r"unknown model 'zzz'\. Known: nano, .*nano-programs, .*smollm2-135m"),
        ("./not/there", "model folder ./not/there is not there"),
        (__file__, "is a file; give the folder"),
    ],
)
def test_names_that_are_no_model_are_refused(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        models.resolve(name)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("config.json", "it has no config.json"),
        ("model.safetensors", r"lacks weights: \*\.safetensors"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_a_folder_that_lacks_something_is_named(tiny_model: Path, tmp_path: Path, lost: str, message: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / lost).unlink()
    with pytest.raises(ModelError, match=message):
        models.resolve(str(folder))


def test_a_file_cut_off_in_its_header_is_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])
    with pytest.raises(ModelError, match="is not a safetensors file"):
        models.describe(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "could not be fetched from http://127.0.0.1:9"),
        ({"HF_HUB_OFFLINE": "1"}, "is not in the hub cache, and HF_HUB_OFFLINE is set"),
    ],
)
def test_a_hub_that_does_not_answer_is_said_within_seconds(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    code = (
        "from selftrain.backends import models\nfrom selftrain.errors import ModelError\n"
        "try: models.resolve('nobody/nothing')\nexcept ModelError as error: print(error)"
    )
    began = time.monotonic()
    # The hub's client reads these when it is imported, hence the process of its own.
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HOME": str(tmp_path), **settings}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert message in done.stdout
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_smollm2_is_itself_with_or_without_a_hub() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models.resolve("smollm2-135m")
    found = models.describe(folder)
    assert (found.parameters, found.dtype, found.context, found.tied) == (134515008, "bfloat16", 8192, True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.eos_token, tokenizer.eos_token_id, tokenizer.model_max_length) == ("<|im_end|>", 2, 8192)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    for sample in SAMPLES:
        ids = tokenizer(sample)["input_ids"]
        assert tokenizer.decode(ids) == sample
    # Digits are split off first, so that two spaces before a number are one token.
    assert tokenizer.convert_ids_to_tokens(tokenizer("a  5")["input_ids"]) == ["a", "ĠĠ", "5"]
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    assert "Paris" in tokenizer.decode(model.generate(**prompt, max_new_tokens=5, do_sample=False)[0])
    card = folder / "model.json"
    assert not card.exists() or json.loads(card.read_text())["file"].endswith("Q4_1.gguf")
