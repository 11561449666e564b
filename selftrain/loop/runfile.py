"""The run file: what can be said of a run whatever its recipe, and how YAML and `key=value` texts are read."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from selftrain.after.retention import Keep
from selftrain.backends.arguments import trl_names, trl_types, typed
from selftrain.errors import ConfigError, near
from selftrain.templates import Protocol, Shot

POLICY = "smollm2-135m"
"""The model where none is named."""


class ShotFile(BaseModel):
    """An example of a problem and its response."""

    model_config = ConfigDict(extra="forbid")

    prompt: str
    response: str


class PromptFile(BaseModel):
    """How every problem is asked."""

    model_config = ConfigDict(extra="forbid")

    suffix: str = ""
    system: str = ""
    examples: list[ShotFile] = Field(default_factory=list)

    def protocol(self) -> Protocol:
        """Return it as the run's protocol."""
        shots = tuple(Shot(prompt=each.prompt, response=each.response) for each in self.examples)
        return Protocol(suffix=self.suffix, system=self.system, examples=shots)


class RunFile(BaseModel):
    """What can be said of a run, whatever its recipe."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)

    recipe: str
    """A recipe's name, or a path to a .py file."""
    model: dict[str, str] = Field(default_factory=lambda: {"policy": POLICY})
    """Name -> a known model's name, a folder or a hub id; a plain text is the policy."""
    data: dict[str, Any] = Field(default_factory=lambda: {"name": "sums"})
    """`name` and the data set's own settings; a plain text is the name."""
    eval: dict[str, Any] | None = None
    """Other data whose valid and test splits are used instead."""
    out: Path | None = None
    pool: int = Field(default=300, ge=1)
    """Problems to train on."""
    valid: int = Field(default=150, ge=0)
    test: int = Field(default=150, ge=0)
    draw: int | None = Field(default=None, ge=1)
    """Problems a round, taken in turn from the pool; by default the recipe's choice, usually all."""
    verifier: str | None = None
    """Instead of the data set's own."""
    seed: int = Field(default=0, ge=0)
    prompt: PromptFile = Field(default_factory=PromptFile)
    sampler: dict[str, Any] = Field(default_factory=lambda: {"kind": "auto"})
    """`kind` (auto, vllm, transformers, server) and its own settings; any argument of vLLM's engine."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Any argument of TRL's config; `launch`: an accelerate config file; `python`: another interpreter."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Verifier processes; by default one per core."""
    time_limit: float | None = Field(default=None, gt=0)
    """Seconds a verifier may take for one response, instead of its own limit."""
    shard: int | None = Field(default=None, ge=1)
    """Problems in a shard; by default twice the engine's concurrency in samples."""
    contamination: Literal["block", "warn"] = "block"
    report_to: list[str] = Field(default_factory=list)
    """Trackers that get all metrics: tensorboard, wandb, mlflow, trackio."""
    control: dict[str, Any] | None = None
    """Of a control that `run --controls` has made: its `name`, and the `figures` of the run that it stands beside."""
    max_hours: float | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, ge=1)
    """Sampled tokens after which the run stops at the next stage boundary."""

    stall_minutes: float = Field(default=30, gt=0)
    """Minutes without any sign of life after which a stage is ended, and started again."""
    restarts: int = Field(default=2, ge=0)
    """How often a stage that gave no sign of life is started again before the run fails."""
    free_disk: float = Field(default=0.2, ge=0)
    """Gigabytes of disk that must stay free: with less, the run stops in order."""
    free_memory: float = Field(default=0.2, ge=0)
    """Gigabytes of memory that must stay free: with less, the run stops in order."""
    quarantine: float = Field(default=0.5, ge=0, le=1)
    """Share of a stage's samples that may be quarantined, once there are a hundred; with more, the run stops."""
    keep_checkpoints: str = "all"
    """Whose weights stay at the end of each round: all, or best,last and every:K; what is needed always stays."""

    @field_validator("pool", "valid", "test", "draw", "seed", "workers", "time_limit", "shard", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("a number is meant, not true or false")
        return value

    @field_validator("keep_checkpoints")
    @classmethod
    def _kept(cls, value: str) -> str:
        Keep.of(value)
        return value

    @field_validator("report_to", mode="before")
    @classmethod
    def _trackers(cls, value: Any) -> Any:
        names = value.split(",") if isinstance(value, str) else value or []
        return (
            [str(name).strip() for name in names if str(name).strip() != "none"] if isinstance(names, list) else names
        )

    @field_validator("verifier", mode="before")
    @classmethod
    def _spec(cls, value: Any) -> Any:
        return verifier_spec(value)


ALIASES = 20
"""How often a YAML text may refer to an anchor: nested ones multiply, and a hundred could fill any memory."""
SECRETS = frozenset({"api_key", "hf_token"})
"""Settings of samplers that are never written down; who goes on with a run says them again, or has them in the
environment."""
SHORT = {"model": "policy", "data": "name", "eval": "name", "sampler": "kind"}
"""Keys of the run file that may be a plain text, and what the text then sets."""


def read_file(path: Path) -> dict[str, Any]:
    """Return a run file's keys; raises ConfigError if it isn't there, isn't YAML, or names no recipe."""
    content = read_yaml(path)
    if "recipe" not in content:
        raise ConfigError(f"the run file {path} has no key `recipe`")
    return {key: value for key, value in content.items() if key != "format"}


def overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Return `key=value` texts as a mapping, values read as YAML; raises ConfigError for anything else."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{pair!r} is not a setting; write key=value")
        read = _number(parsed(value, f"the value of {key}")) if value else ""
        # A plain text keeps the spaces around it: a suffix often begins with one.
        found[key.strip()] = value if read == value.strip() else read
    return found


def run_file(said: Mapping[str, Any]) -> RunFile:
    """Return settings as a run file; raises ConfigError for what is wrong in them."""
    placed: dict[str, Any] = {}
    for key, value in said.items():
        head, _, tail = key.partition(".")
        place(placed, head, tail, value)
    if isinstance(placed.get("model"), dict):
        # Who names another model of the recipe alone means the usual policy.
        placed["model"] = {"policy": POLICY, **placed["model"]}
    try:
        file = RunFile.model_validate(placed)
    except ValidationError as error:
        raise ConfigError(_one_line(error)) from None
    for name in ("data", "eval"):
        mapping = getattr(file, name)
        if mapping is not None and not isinstance(mapping.get("name"), str):
            raise ConfigError(f"{name} needs a name: {name}=sums, or {name}.name=sums")
    for name in file.trainer:
        if name not in trl_names() | {"launch", "python"}:
            raise ConfigError(f"trainer has no setting {name!r}{near(name, trl_names() | {'launch', 'python'})}")
    file.trainer = typed(file.trainer, {**trl_types(), "launch": str, "python": str}, "trainer.")
    kinds = ("auto", "vllm", "transformers", "server")
    if file.sampler.get("kind", "auto") not in kinds:
        raise ConfigError(f"sampler is {file.sampler['kind']!r}; it can be {', '.join(kinds)}")
    return file


def place(said: dict[str, Any], head: str, tail: str, value: Any) -> None:
    """Set head or head.tail; a mapping is merged into what is there, a plain text sets the head's main entry."""
    if tail:
        there = said.setdefault(head, {})
        if not isinstance(there, dict):
            raise ConfigError(f"{head} was set to {there!r}, so {head}.{tail} has no place")
        there[tail] = value
    elif isinstance(value, Mapping):
        said[head] = {**said.get(head, {}), **value} if isinstance(said.get(head, {}), dict) else dict(value)
    elif head in SHORT and value is not None:
        if not isinstance(value, str):
            value = str(value)
        said[head] = {**said.get(head, {}), SHORT[head]: value}
    else:
        said[head] = value


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML file's mapping; raises ConfigError if it cannot be read or is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no run file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the run file {path} cannot be read: {error}") from error
    content = parsed(text, f"the run file {path}")
    if not isinstance(content, dict):
        raise ConfigError(f"the run file {path} must be a mapping of settings, but is a {type(content).__name__}")
    return {str(key): value for key, value in content.items()}


def parsed(text: str, what: str) -> Any:
    """Return what a YAML text says, read safely; raises ConfigError for what is none, or grows without measure."""
    try:
        if sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)) > ALIASES:
            raise ConfigError(f"{what} refers to more than {ALIASES} anchors (*name); write the values out")
        return yaml.safe_load(text)
    except RecursionError:
        raise ConfigError(f"{what} is nested too deeply to be read") from None
    except ConfigError:
        raise
    # A date of no calendar, or a number of thousands of digits, fails inside Python.
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise ConfigError(f"{what} is not YAML: {' '.join(str(error).split())}") from error


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(each) for each in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}={first['input']!r}: {said[0].lower() + said[1:]}"


def verifier_spec(value: Any) -> Any:
    """Return a verifier with settings as the JSON it is known by; YAML reads that as a mapping."""
    return json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value


def _number(value: Any) -> Any:
    """Read 1e-4 as a number, which YAML 1.1 takes for a text."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value
