"""Which arguments TRL, PEFT and vLLM take, read from their installed sources: importing them costs many seconds."""

import ast
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from selftrain.errors import ConfigError, near

_TRL = (
    ("trl", "trainer/sft_config.py", "SFTConfig"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("transformers", "training_args.py", "TrainingArguments"),
)
_REWARD = (("trl", "trainer/reward_config.py", "RewardConfig"), *_TRL[1:])
_VLLM = (("vllm", "engine/arg_utils.py", "EngineArgs"),)
_PEFT = (
    ("peft", "tuners/lora/config.py", "LoraConfig"),
    ("peft", "config.py", "PeftConfig"),
    ("peft", "config.py", "PeftConfigMixin"),
)


def trl_names() -> frozenset[str]:
    """Names of the arguments of TRL's SFTConfig, those of TrainingArguments included."""
    return _names(_TRL)


def reward_names() -> frozenset[str]:
    """Names of the arguments of TRL's RewardConfig, those of TrainingArguments included."""
    return _names(_REWARD)


def vllm_names() -> frozenset[str]:
    """Names of the arguments of vLLM's engine."""
    return _names(_VLLM)


def lora_names() -> frozenset[str]:
    """Names of the arguments of PEFT's LoraConfig."""
    return _names(_PEFT)


def check(given: Iterable[str], known: frozenset[str], what: str) -> None:
    """Refuse a name that is not an argument, and offer the near ones."""
    for name in given:
        if name not in known:
            raise ConfigError(f"{name!r} is not an argument of {what}{near(name, known)}")


@cache
def _names(sources: tuple[tuple[str, str, str], ...]) -> frozenset[str]:
    return frozenset(name for package, file, kind in sources for name in _fields(package, file, kind))


def _fields(package: str, file: str, kind: str) -> list[str]:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ConfigError(f"{package} is not installed; `make setup` installs what this machine can have")
    path = Path(found.submodule_search_locations[0]) / file
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == kind:
            return [
                line.target.id
                for line in node.body
                if isinstance(line, ast.AnnAssign)
                and isinstance(line.target, ast.Name)
                and not line.target.id.startswith("_")
                and "ClassVar" not in ast.unparse(line.annotation)
            ]
    raise ConfigError(f"{path} defines no {kind}: this version of {package} is not one that selftrain knows")
