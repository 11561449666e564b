"""The run file and its overrides: one name space for everything that can be set.

A key means, in this order: a key of the run file; `stage.field`, a field of one of the recipe's stages; an argument of
the recipe; an argument of vLLM's engine or of TRL's config, passed through by name. What means nothing is refused, with
the near names.
"""

import inspect
import typing
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from selftrain import plugins
from selftrain.backends import trainer
from selftrain.backends.arguments import lora_names, trl_names, vllm_names
from selftrain.errors import ConfigError, RecipeError, near
from selftrain.loop import controls
from selftrain.loop.runfile import SECRETS, RunFile, place, read_file, read_yaml, run_file, verifier_spec
from selftrain.loop.soundness import built
from selftrain.recipe import Recipe, Stage
from selftrain.stages import Audit
from selftrain.templates import Protocol

LONGEST = 1000
"""Bits of a number."""
DEEP = 20
"""How deep texts are looked for in settings: YAML can nest them without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run file with everything resolved: what the controller runs."""

    file: RunFile
    recipe: Recipe
    args: Mapping[str, Any]
    """The recipe's arguments, defaults included."""
    stages: Mapping[str, Mapping[str, Any]]
    """Overrides of stage fields, by stage."""
    protocol: Protocol

    def as_file(self) -> dict[str, Any]:
        """Return it as a run file that gives the same run, without the secrets that it was told."""
        said = self.file.model_dump(mode="json", exclude_none=True)
        said["sampler"] = {name: value for name, value in said["sampler"].items() if name not in SECRETS}
        # With its field in the key, since an argument may have a stage's name.
        stages = {
            f"{stage}.{field}": value for stage, changes in self.stages.items() for field, value in changes.items()
        }
        return {**said, **{name: _plain(value) for name, value in self.args.items()}, **stages}

    def decides(self) -> dict[str, Any]:
        """Return what of it decides a round's stages, as plain data; the number of rounds and free fields do not."""
        known = _stage_fields(self.recipe)
        free = {
            f"{stage}.{name}"
            for stage, changes in self.stages.items()
            for name in changes
            if (field := known.get(stage, {}).get(name)) and field.metadata.get("free")
        }
        outside = {"rounds", *free, *RunFile.model_fields} - {"draw", "control"}
        said = {name: value for name, value in self.as_file().items() if name not in outside}
        trainer = {name: value for name, value in self.file.trainer.items() if name not in ("launch", "python")}
        return {"recipe": Path(self.file.recipe).stem, **said, "trainer": trainer}


def load(recipe_or_file: str, settings: Mapping[str, Any], *, preset: str | None = None) -> Job:
    """Return the job that a recipe's name or a run file describes, with settings that go before the file's.

    Raises ConfigError, PluginError or RecipeError, each with one line that says what to change.
    """
    given: dict[str, Any] = {"recipe": recipe_or_file}
    if recipe_or_file.endswith((".yaml", ".yml")):
        given = read_file(Path(recipe_or_file))
    asked = {**given, **settings}
    _check_leaves(asked)
    module = plugins.load("recipe", _text(asked.get("recipe"), "recipe"))
    accepted = inspect.signature(module.recipe).parameters
    # A preset goes with any recipe: what this one has no argument for is left out of it.
    fitting = {key: value for key, value in _preset(preset).items() if key in accepted or not _an_argument(key)}
    return resolve(module, [fitting, given, settings])


def stored(root: Path) -> Job:
    """Return the job of a run's folder, as it was resolved; looking at a run executes nothing that lies in it."""
    asked = read_file(root / "run.yaml")
    with plugins.none_of(root):
        return load(str(asked["recipe"]), {key: value for key, value in asked.items() if key != "recipe"})


def resolve(module: ModuleType, layers: Sequence[Mapping[str, Any]]) -> Job:
    """Put layers of settings, later ones first in rank, into the recipe, its stages and the run file.

    The first layer is a preset's: how the recipe itself trains goes before it.
    """
    accepted = inspect.signature(module.recipe).parameters
    shadowing = set(accepted) & set(RunFile.model_fields)
    if shadowing:
        raise RecipeError(f"the recipe's argument {sorted(shadowing)[0]!r} is a key of the run file; rename it")
    args = {
        key: _checked(accepted[key].annotation, value, key)
        for layer in layers
        for key, value in layer.items()
        if key in accepted
    }
    recipe = built(module, args)
    names = _stage_fields(recipe)
    taken = set(names) & set(RunFile.model_fields)
    if taken:
        raise RecipeError(f"a stage is named {sorted(taken)[0]!r}, which is a key of the run file; rename it")
    said: dict[str, Any] = {}
    preset, overridden = _outranked(recipe, layers, but={*RunFile.model_fields, *accepted, *names})
    for layer in (preset, *layers[1:]):
        for head in ("data", "eval"):
            if _named(layer, head) not in (None, (said.get(head) or {}).get("name")):
                # Settings of a preset's or a file's data set mean nothing to another one.
                said.pop(head, None)
        for key, value in layer.items():
            head, _, tail = key.partition(".")
            if head in RunFile.model_fields:
                place(said, head, tail, value)
            elif key not in accepted:
                _place(key, value, names, said, overridden, known=[*RunFile.model_fields, *accepted])
    file = run_file(said)
    recipe = _applied(recipe, overridden, file)
    if file.control is not None:
        recipe = controls.transformed(recipe, file.control)
    recipe.check()
    _check_models(file, recipe)
    defaults = {k: p.default for k, p in accepted.items() if p.default is not inspect.Parameter.empty}
    return Job(file=file, recipe=recipe, args={**defaults, **args}, stages=overridden, protocol=file.prompt.protocol())


def _outranked(
    recipe: Recipe, layers: Sequence[Mapping[str, Any]], but: Set[str]
) -> tuple[Mapping[str, Any], dict[str, dict[str, Any]]]:
    """Return the preset without the training arguments that the recipe sets itself, and those for its other stages.

    What a later layer says of them goes before both; keys in `but` are no training arguments.
    """
    preset, *later = layers
    mappings = [each for each in (layer.get("trainer") for layer in later) if isinstance(each, Mapping)]
    said = {key for layer in later for key in layer} | {f"trainer.{key}" for each in mappings for key in each}
    own = {
        stage.name: getattr(stage, "settings", {})
        for stage in (*recipe.before, *recipe.given(), *recipe.after)
        if "trainer" in stage.uses
    }
    kept = dict(preset)
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for key in preset.keys() & trl_names() - but - said:
        if f"trainer.{key}" not in said and any(key in settings for settings in own.values()):
            value = kept.pop(key)
            for stage in (name for name, settings in own.items() if key not in settings):
                found[stage][f"settings.{key}"] = value
    return kept, dict(found)


def _named(layer: Mapping[str, Any], head: str) -> Any:
    """Return the data set that a layer of settings names, if any."""
    data = layer.get(head)
    return layer.get(f"{head}.name", data.get("name") if isinstance(data, Mapping) else data)


def _place(
    key: str,
    value: Any,
    names: Mapping[str, Mapping[str, Any]],
    said: dict[str, Any],
    overridden: dict[str, dict[str, Any]],
    known: Sequence[str],
) -> None:
    """Put a key that is neither the run file's nor the recipe's where it belongs."""
    head, _, tail = key.partition(".")
    if head in names:
        changes = {tail: value} if tail else value
        if not isinstance(changes, Mapping):
            raise ConfigError(f"{key} is a stage; set one of its fields ({', '.join(names[head])})")
        for field, setting in changes.items():
            top = str(field).partition(".")[0]
            if top not in names[head]:
                raise ConfigError(f"stage {head!r} has no field {top!r}{near(top, names[head])}")
            there = overridden.setdefault(head, {})
            # Last in order too: a whole field that was said before must not replace this entry of it.
            there.pop(str(field), None)
            there[str(field)] = setting
        return
    engine, config = key in _engine_names(), key in trl_names()
    if engine and config:
        raise ConfigError(f"{key} is an argument of both vLLM and TRL; write sampler.{key} or trainer.{key}")
    if engine or config:
        place(said, "sampler" if engine else "trainer", key, value)
        return
    candidates = [*known, *names, *(f"{stage}.{field}" for stage, found in names.items() for field in found)]
    best = get_close_matches(key, [*candidates, *_engine_names(), *trl_names()], n=3, cutoff=0.6)
    raise ConfigError(
        f"unknown setting {key!r}"
        + (
            f"; did you mean {', '.join(best)}?"
            if best
            else f" (stages: {', '.join(names)}; arguments: {', '.join(known)})"
        )
    )


def _applied(recipe: Recipe, overridden: Mapping[str, Mapping[str, Any]], file: RunFile) -> Recipe:
    """Return the recipe with stage overrides, the trainer's arguments and the draw put in."""
    arguments = {k: v for k, v in file.trainer.items() if k not in ("launch", "python")}

    def change(stage: Stage) -> Stage:
        # A stage that trains takes the run's TRL arguments; what the user says goes before the recipe's own.
        if "trainer" in stage.uses and arguments:
            stage = with_fields(stage, {"settings": {**getattr(stage, "settings", {}), **arguments}})
        return _trainable(with_fields(stage, overridden.get(stage.name, {})))

    changed = replace(recipe.changed(change), audit=recipe.audit or Audit())
    return replace(changed, draw=file.draw) if file.draw is not None else changed


def _trainable(stage: Stage) -> Stage:
    """Hold what a training stage hands on to TRL and PEFT to their types: they would refuse it after the sampling."""
    given = {f.name: getattr(stage, f.name) for f in fields(stage) if f.name in ("settings", "lora")}
    if "trainer" not in stage.uses or not any(given.values()):
        return stage
    loss = str(getattr(getattr(stage, "loss", None), "name", "sft"))
    try:
        taken = trainer.check(given.get("settings", {}), given.get("lora", {}), loss)._asdict()
    except ConfigError as error:
        raise ConfigError(f"stage {stage.name!r}: {error}") from None
    return replace(stage, **{name: taken[name] for name in given if taken[name] != given[name]})


def with_fields(stage: Stage, changes: Mapping[str, Any]) -> Stage:
    """Return a stage with fields changed; `field.name` sets one entry of a field that is a mapping."""
    hints = typing.get_type_hints(type(stage))
    values: dict[str, Any] = {}
    for key, value in changes.items():
        field, _, entry = key.partition(".")
        there = values.get(field, getattr(stage, field))
        if entry:
            value = {entry: value} if is_dataclass(there) else {**_mapping(there, stage.name, key), entry: value}
        if is_dataclass(there) and isinstance(value, Mapping):
            values[field] = _changed(there, value, f"{stage.name}.{field}")
            continue
        if field == "by":
            value = verifier_spec(value)
        if field == "lora":
            unknown = [name for name in _mapping(value, stage.name, key) if name not in lora_names()]
            if unknown:
                raise ConfigError(f"LoRA has no setting {unknown[0]!r}{near(unknown[0], lora_names())}")
        values[field] = _checked(hints[field], value, f"{stage.name}.{key}")
    return replace(stage, **values) if values else stage


def _mapping(value: Any, stage: str, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{stage}.{key}: {value!r} is no mapping of names to values")
    return value


def _changed(there: Any, changes: Mapping[str, Any], key: str) -> Any:
    """Return a setting that is a record, such as a loss, with some of its fields changed."""
    hints = typing.get_type_hints(type(there))
    names = [f.name for f in fields(there)]
    for name in changes:
        if name not in names:
            known = near(name, names) or (f" (it has {', '.join(names)})" if names else " (it has none)")
            raise ConfigError(f"{key} is {type(there).__name__} and has no field {name!r}{known}")
    return replace(there, **{name: _checked(hints[name], each, f"{key}.{name}") for name, each in changes.items()})


def _stage_fields(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Stage name -> the names of its fields, for the stages a run file can set."""
    every = [*recipe.before, *recipe.given(), *recipe.after]
    return {stage.name: {f.name: f for f in fields(stage) if f.name != "name"} for stage in every}


def _check_models(file: RunFile, recipe: Recipe) -> None:
    for name in file.model:
        if name not in recipe.models:
            raise ConfigError(f"the recipe has no model {name!r}{near(name, recipe.models)}")
    fixed = file.sampler.get("kind") == "server" and file.sampler.get("update", "none") == "none"
    if fixed and recipe.rounds > 1:
        raise ConfigError("a server whose weights cannot be changed (update: none) allows rounds=1 only")


def _an_argument(key: str) -> bool:
    """Whether a key can only be a recipe's argument."""
    return "." not in key and key not in {*RunFile.model_fields, *_engine_names(), *trl_names()}


def _preset(name: str | None) -> Mapping[str, Any]:
    """Return a preset's settings: a YAML file that lies beside the recipes."""
    if name is None:
        return {}
    known = plugins.presets()
    if name not in known:
        raise ConfigError(f"there is no preset {name!r}{near(name, known)}; presets: {', '.join(known) or 'none'}")
    return read_yaml(known[name])


def _checked(hint: Any, value: Any, key: str) -> Any:
    if hint is inspect.Parameter.empty:
        return value
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{key}={value!r}: {first['msg'][0].lower() + first['msg'][1:]}") from None
    except Exception as error:  # a hint that has no reading as data, such as a rule
        raise ConfigError(f"{key} cannot be set from a run file ({type(error).__name__}); write a recipe") from error


def _adapter(hint: Any) -> "TypeAdapter[Any]":
    usual = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False, extra="forbid")
    try:
        return TypeAdapter(hint, config=usual)
    except PydanticUserError:  # a record has a configuration of its own
        return TypeAdapter(hint)


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key} must be a name, but is {value!r}")
    return value


def _plain(value: Any) -> Any:
    """Return a recipe's argument as YAML can hold it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(each) for each in _ordered(value)]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _leaves(value: Any, deep: int = DEEP) -> Iterator[Any]:
    """Yield what plain data holds that is neither list nor mapping."""
    if deep and isinstance(value, Mapping | list):
        for each in (*value.keys(), *value.values()) if isinstance(value, Mapping) else value:
            yield from _leaves(each, deep - 1)
    else:
        yield value


def _check_leaves(asked: Mapping[str, Any]) -> None:
    """Refuse what no file can hold, no folder be named by and no message show."""
    for key, value in asked.items():
        for leaf in _leaves(value):
            if isinstance(leaf, int) and leaf.bit_length() > LONGEST:
                raise ConfigError(f"{key} holds a number of {leaf.bit_length()} bits, which is beyond all measure")
            if not isinstance(leaf, str):
                continue
            try:
                leaf.encode()
            except UnicodeEncodeError:
                raise ConfigError(f"{key}={leaf!r} is no text in UTF-8; take out what is cut off in it") from None
            if "\0" in leaf:
                raise ConfigError(f"{key}={leaf!r} holds a zero byte; take it out")


def _engine_names() -> frozenset[str]:
    return vllm_names() if find_spec("vllm") else frozenset()


def _ordered(values: Iterable[Any]) -> list[Any]:
    return sorted(values) if isinstance(values, set) else list(values)
