"""What a stage's stored records depend on, as plain data: its key. And stages as plain data, there and back."""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from selftrain.errors import RecipeError, StoreError, UserError
from selftrain.lab import Lab
from selftrain.recipe import Stage
from selftrain.records import Json, digest
from selftrain.round import PROBLEMS, Round

ENGINE = tuple(
    f"selftrain.{each}" for each in ("after", "backends", "cli", "loop", "report", "store", "plugins", "new")
)
"""Modules whose functions no plan has a use for."""


def stage_key(stage: Stage, round: Round, lab: Lab) -> Json:
    """Return everything that changes what a stage stores: settings, versions, models, prompts, and what it reads.

    Batch sizes, workers and trackers are no part of it, nor is the number of rounds.
    """
    key: dict[str, Any] = {
        "stage": type(stage).__name__,
        "version": stage.version,
        "settings": {name: value for name, value in encoded(stage).items() if name != "@"},
        "reads": {each.name: round.folder(each.name).key() for each in round.sources(stage)},
        "problems": round.store.stage(0, 0, PROBLEMS).key(),
    }
    if source := _foreign_source(type(stage)):
        key["source"] = source
    if rules := {name: source for name, source in _rule_sources(stage).items() if source}:
        key["rules"] = rules
    if "train" in stage.splits and stage.scope == "problem":
        key["drawn"] = digest(sorted((shard, list(positions)) for shard, positions in round.drawn.items()))
    if stage.reach == "run":
        key["earlier"] = {
            f"round {each.number}": digest([f.key() for f in round.store.stages(each.number).values()])
            for each in round.history.standing()
        }
    for model, which in stage.weights:
        checkpoint = round.checkpoint(model, which, stage)
        key.setdefault("weights", {})[f"{model}/{which}"] = checkpoint.id
    if "tokens" in stage.uses:
        role, which = stage.weights[0] if stage.weights else (getattr(stage, "model", "policy"), "latest")
        key["tokenizer"] = lab.tokens(round.checkpoint(role, which, stage)).id
        key["prompt"] = encoded(lab.protocol)
    for resource in ("sampler", "trainer", "verifiers"):
        if resource in stage.uses:
            key[resource] = lab.backends.identity(resource)
    if {"sampler", "trainer"} & set(stage.uses):
        key["seed"] = lab.seed
    return key


def encoded(value: Any) -> Any:
    """Return a stage, rule or setting as plain data; fields marked free are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        free = {f.name for f in fields(value) if f.metadata.get("free")}
        # A run made before there was such a field goes on.
        free |= {f.name for f in fields(value) if f.metadata.get("later") and not getattr(value, f.name)}
        kept = {f.name: encoded(getattr(value, f.name)) for f in fields(value) if f.name not in free}
        return {"@": f"{kind.__module__}:{kind.__qualname__}", **kept}
    if inspect.isfunction(value):
        return {"@": f"{value.__module__}:{value.__qualname__}"}
    if isinstance(value, Mapping):
        return {str(name): encoded(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [encoded(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise RecipeError(f"{value!r} cannot be a stage's setting: it cannot be written down as plain data")


def decoded(data: Any) -> Any:
    """Return what `encoded` made plain; raises StoreError if a name in it is gone."""
    if isinstance(data, list):
        return tuple(decoded(each) for each in data)
    if not isinstance(data, dict):
        return data
    values = {name: decoded(each) for name, each in data.items() if name != "@"}
    if "@" not in data:
        return values
    found = _named(str(data["@"]))
    try:
        return found if inspect.isfunction(found) else found(**values)
    except (TypeError, UserError) as error:
        raise StoreError(f"the stored plan has a {data['@']} that can't be made: {error}") from error


def _named(text: str) -> Any:
    """Return the dataclass or function that a stored name means.

    A plan may come from elsewhere with its run, so that it can name nothing but selftrain's own and what a recipe that
    is loaded has brought along; no module is imported for it, and nothing of Python's own library is there.
    """
    module, _, name = text.partition(":")
    try:
        if module.startswith("selftrain."):
            importlib.import_module(module)
        found: Any = sys.modules[module]
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, KeyError) as error:
        raise StoreError(f"the stored plan names {text}, which is not there any more: {error}") from error
    ours = module.partition(".")[0] not in sys.stdlib_module_names and getattr(found, "__module__", "") == module
    # A function is a rule or the like: called with attempts, and those of selftrain's engine are none.
    function = inspect.isfunction(found) and "." not in name and not module.startswith(ENGINE)
    if not (ours and (function or (isinstance(found, type) and is_dataclass(found)))):
        raise StoreError(f"the stored plan names {text}, which is no stage, rule or setting")
    return found


def _rule_sources(stage: Stage) -> dict[str, str]:
    """Hash of the source of each rule or pairing of a stage that does not come with selftrain."""
    values = [getattr(stage, f.name) for f in fields(stage)]
    rules = [each for value in values for each in (value if isinstance(value, tuple) else (value,))]
    kinds = [each if inspect.isfunction(each) else type(each) for each in rules]
    return {
        each.__qualname__: _foreign_source(each) for each in kinds if inspect.isfunction(each) or is_dataclass(each)
    }


def _foreign_source(kind: Any) -> str:
    """Hash of the file that defines a class or function, or '' if it comes with selftrain and has a version."""
    if kind.__module__.startswith("selftrain.") and not kind.__module__.startswith("selftrain.pipelines"):
        return ""
    return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()[:16]
