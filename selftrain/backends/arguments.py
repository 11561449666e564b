"""Which arguments TRL, PEFT and vLLM take, and which values: known before a run, without importing them."""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from selftrain.backends import annotations
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
_ALIASES: Mapping[str, str] = {"transformers": "train*.py", "vllm": "config/*.py"}
"""Files of a package in which its annotations' names are explained."""

_PART = Annotated[float, Field(ge=0, lt=1)]
_COUNT = Annotated[int, Field(ge=1)]
_AMOUNT = Annotated[float, Field(ge=0)]
BOUNDS: Mapping[str, Any] = {
    **dict.fromkeys(("adam_beta1", "adam_beta2", "lora_dropout"), _PART),
    **dict.fromkeys(("learning_rate", "max_grad_norm", "warmup_steps", "weight_decay"), _AMOUNT),
    **dict.fromkeys(("dataloader_num_workers", "logging_steps"), _AMOUNT),
    **dict.fromkeys(("per_device_train_batch_size", "gradient_accumulation_steps", "save_total_limit", "r"), _COUNT),
    **dict.fromkeys(("block_size", "max_num_seqs", "tensor_parallel_size", "pipeline_parallel_size"), _COUNT),
    **dict.fromkeys(("max_length", "max_num_batched_tokens", "kv_cache_memory_bytes"), _COUNT),
    "num_train_epochs": Annotated[float, Field(gt=0)],
    "max_steps": Annotated[int, Field(ge=-1)],
    "gpu_memory_utilization": Annotated[float, Field(gt=0, le=1)],
    "max_model_len": Annotated[int, Field(ge=-1)],
}
"""Arguments whose libraries say no more than the type, and fail with a value out of range when work has begun."""
MANY = 8
"""Values of which only the near ones are named."""
_CHECKS = ConfigDict(coerce_numbers_to_str=True, allow_inf_nan=False, arbitrary_types_allowed=True)


def trl_types() -> Mapping[str, Any]:
    """Arguments of TRL's SFTConfig, those of TrainingArguments included, with their types."""
    return _types(_TRL)


def reward_types() -> Mapping[str, Any]:
    """Arguments of TRL's RewardConfig, those of TrainingArguments included, with their types."""
    return _types(_REWARD)


def vllm_types() -> Mapping[str, Any]:
    """Arguments of vLLM's engine, with their types."""
    return _types(_VLLM)


def lora_types() -> Mapping[str, Any]:
    """Arguments of PEFT's LoraConfig, with their types."""
    return _types(_PEFT)


def trl_names() -> frozenset[str]:
    """Names of the arguments of TRL's SFTConfig, those of TrainingArguments included."""
    return frozenset(trl_types())


def vllm_names() -> frozenset[str]:
    """Names of the arguments of vLLM's engine."""
    return frozenset(vllm_types())


def lora_names() -> frozenset[str]:
    """Names of the arguments of PEFT's LoraConfig."""
    return frozenset(lora_types())


def check(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse a name that is not an argument, and offer the near ones."""
    for name in given:
        if name not in known:
            raise ConfigError(f"{name!r} is not an argument of {what}{near(name, known)}")


def typed(given: Mapping[str, Any], types: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return values as the arguments' types have them ("1e-4" from a YAML file is a number); refuse what is none.

    `where` stands before the name in what is said of a wrong value. None means an argument's default.
    """
    return {name: _value(name, value, types.get(name, Any), where) for name, value in given.items()}


def _value(name: str, value: Any, hint: Any, where: str) -> Any:
    if value is None:
        return None
    try:
        found = _adapter(name, hint).validate_python(value)
        if name in BOUNDS and isinstance(found, int | float):
            found = TypeAdapter(BOUNDS[name]).validate_python(found)
    except ValidationError as error:
        raise ConfigError(f"{where}{name}={value!r}: {_said(value, hint, error)}") from None
    if isinstance(value, bool) and not isinstance(found, bool):
        raise ConfigError(f"{where}{name}={value!r}: input should be {_words(hint)}, not true or false")
    # 2 stays 2 where 2.0 would do: stages are known by what was written.
    return value if found == value else found


@cache
def _adapter(name: str, hint: Any) -> "TypeAdapter[Any]":
    return TypeAdapter(hint, config=_CHECKS)


def _said(value: Any, hint: Any, error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    known = [str(each) for each in get_args(hint)] if first["type"] == "literal_error" else []
    if len(known) > MANY:
        return f"it is none of its {len(known)} values{near(str(value), known) or f', such as {known[0]}'}"
    return f"{first['msg'][0].lower()}{first['msg'][1:]}"


def _words(hint: Any) -> str:
    return {int: "a whole number", float: "a number", str: "a text"}.get(hint, "of another type")


@cache
def _types(sources: tuple[tuple[str, str, str], ...]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for source in sources:
        # What a class says of a field goes before what its parents say.
        found = {**_fields(*source), **found}
    return found


def _fields(package: str, file: str, kind: str) -> dict[str, Any]:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ConfigError(f"{package} is not installed; `make setup` installs what this machine can have")
    root = Path(found.submodule_search_locations[0])
    aliases = sorted(root.glob(_ALIASES[package])) if package in _ALIASES else []
    fields = annotations.fields(root / file, kind, aliases)
    if fields is None:
        raise ConfigError(f"{root / file} defines no {kind}: this version of {package} is not one that selftrain knows")
    return fields
