"""What a recipe file returned, held to its types before anything else reads it."""

import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from types import ModuleType
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from selftrain.errors import ConfigError, PluginError, RecipeError
from selftrain.plugins import guarded
from selftrain.recipe import Model, Recipe, Stage, Stages

OURS = "selftrain.stages"
"""Stages whose fields' annotations are types that a value can be held to; those of plug-ins may mean anything."""


def built(module: ModuleType, args: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a plug-in's function makes of its arguments.

    Raises ConfigError for a missing argument, PluginError where the function fails or returns no recipe, RecipeError
    for a recipe whose fields or stages are of wrong types.
    """
    if inspect.iscoroutinefunction(module.recipe):
        raise PluginError(f"recipe() of {module.__file__} must be a plain function, not an async one")
    for name, parameter in inspect.signature(module.recipe).parameters.items():
        optional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise PluginError(f"recipe() of {module.__file__}: its argument {name!r} must have a name to be given by")
        if not optional and parameter.default is parameter.empty and name not in args:
            raise ConfigError(f"the recipe needs its argument {name!r}; say {name}=VALUE, or give it a default")
    recipe = guarded("the recipe", lambda: module.recipe(**args))
    if not isinstance(recipe, Recipe):
        raise PluginError(f"recipe() of {module.__file__} must return a Recipe, not {type(recipe).__name__}")
    _check(recipe)
    return recipe


def _check(recipe: Recipe) -> None:
    for name, kind, words in (("paper", str, "a text"), ("rounds", int, "a number"), ("control", str, "a text")):
        _expect(name, getattr(recipe, name), kind, words)
    if recipe.draw is not None:
        _expect("draw", recipe.draw, int, "a number")
    _expect("models", recipe.models, Mapping, "a mapping of names to Model()")
    for name, model in recipe.models.items():
        _expect(f"models[{name!r}]", model, Model, "a Model()")
    _check_stages("before", recipe.before)
    given = recipe.each_round
    if callable(given):
        given = guarded("the recipe's each_round", recipe.given)
    _check_stages("each_round", given)
    _check_stages("after", recipe.after)
    if not given:
        raise RecipeError("the recipe's each_round has no stage; a round samples, judges, chooses and trains")


def _check_stages(name: str, stages: Stages) -> None:
    _expect(name, stages, Sequence, "a list of stages")
    for stage in stages:
        _expect(f"{name}: {stage!r}", stage, Stage, "a stage, made as in Generate(n=4)")
        if not type(stage).__module__.startswith(OURS):
            continue
        for field, adapter in _adapters(type(stage)).items():
            value = getattr(stage, field)
            try:
                adapter.validate_python(value)
            except ValidationError as error:
                said = error.errors()[0]["msg"]
                raise RecipeError(f"stage {stage.name!r}: {field}={value!r}: {said[0].lower()}{said[1:]}") from None


def _expect(name: str, value: object, kind: type, words: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, str) and kind is Sequence):
        raise RecipeError(f"the recipe's {name} must be {words}, not {type(value).__name__}")


@cache
def _adapters(kind: type[Stage]) -> dict[str, "TypeAdapter[Any]"]:
    hints = typing.get_type_hints(kind)
    usual = ConfigDict(arbitrary_types_allowed=True)
    return {f.name: TypeAdapter(hints[f.name], config=usual) for f in fields(kind)}
