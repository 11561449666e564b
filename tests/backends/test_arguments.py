import subprocess
import sys
from dataclasses import fields

import pytest

from selftrain.backends import arguments
from selftrain.errors import ConfigError


def test_trl_names_are_those_of_the_dataclass() -> None:
    from trl import SFTConfig

    assert arguments.trl_names() == {field.name for field in fields(SFTConfig) if not field.name.startswith("_")}


def test_lora_names_are_those_of_the_dataclass() -> None:
    from peft import LoraConfig

    assert arguments.lora_names() == {field.name for field in fields(LoraConfig) if not field.name.startswith("_")}


def test_vllm_names_hold_the_arguments_people_use() -> None:
    pytest.importorskip("vllm")
    names = arguments.vllm_names()
    assert {"max_model_len", "gpu_memory_utilization", "tensor_parallel_size", "enforce_eager", "block_size"} <= names
    assert "add_cli_args" not in names


def test_reading_the_names_imports_nothing_heavy() -> None:
    code = (
        "import sys; from selftrain.backends import arguments; arguments.trl_names(); arguments.lora_names();"
        "assert not {'torch', 'trl', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_misspelt_argument_names_the_near_ones() -> None:
    with pytest.raises(ConfigError, match=r"'learning_rte' is not an argument of TRL's SFTConfig.*learning_rate"):
        arguments.check(["learning_rte"], arguments.trl_names(), "TRL's SFTConfig")
