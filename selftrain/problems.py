"""Load problems: data sets by name, files, hub sets; splits that share nothing, the same for the same seed.

A data file defines `load(*, train, valid, test, seed, <settings>)` and returns problems for "train", "valid" and
"test", as many as asked for. It takes `what` where a spec has a second part (`gym:chain_sum`), may say `natural = True`
for texts that people wrote (the contamination check then compares their wording too), and `bundled()` returns a few of
its problems without a download.
"""

import inspect
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

import pyarrow as pa

from selftrain import plugins, tables
from selftrain.errors import ConfigError, DataError, PluginError, near
from selftrain.records import Json, Problem, digest, seed_of
from selftrain.verification.answers import normal

SPLITS = ("test", "valid", "train")
"""Held-out splits first: a train draw that hits one of theirs is rejected, not the other way round."""
PATIENCE = 2_000
"""Draws in a row that may hit known problems before a generated set counts as used up."""
SHARES = {"test": (0,), "valid": (1,), "train": (2, 3)}
"""Which quarters of all problems that a generator can make a split draws from: easy ones are few, and no split shall
take them all."""
STORING = (TypeError, ValueError, pa.ArrowException)
"""What storing a record raises whose fields are of other types, or of texts that are none."""
_COUNTS = {"train", "valid", "test", "seed", "what"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """A data set's problems; no two have the same id or the same prompt."""

    source: str
    train: tuple[Problem, ...]
    valid: tuple[Problem, ...]
    test: tuple[Problem, ...]
    natural: bool
    """Whether people wrote the texts."""


def load_problems(spec: str, *, train: int, valid: int, test: int, seed: int, settings: Json | None = None) -> Splits:
    """Load a data set: `sums`, `gym:chain_sum`, `gsm8k`, `hub:owner/name`, `./questions.jsonl`, `./mine.py`.

    Raises ConfigError for a setting it doesn't have, and DataError where the problems can't be had.
    """
    counts = {"train": train, "valid": valid, "test": test}
    for split, count in counts.items():
        if count < 0:
            raise ConfigError(f"data: {split}={count}; a split's size is 0 or more")
    name, what = _parts(spec)
    module = plugins.load("data", name)
    load = getattr(module, "load", None)
    if not callable(load):
        raise PluginError(f"data {name!r} must define a function load")
    parameters = inspect.signature(load).parameters
    lacks = [each for each in (*counts, "seed") if each not in parameters]
    if lacks and not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        raise PluginError(f"data {name!r}: its load must take train, valid, test and seed; it lacks {', '.join(lacks)}")
    arguments = _checked_settings(spec, load, settings or {})
    if "what" in inspect.signature(load).parameters:
        if not what:
            raise ConfigError(f"data {name!r} needs a second part: {name}:NAME")
        arguments["what"] = what
    elif what:
        raise ConfigError(f"data {name!r} has no second part, but {spec!r} names one")
    loaded = plugins.guarded(f"data {spec!r}", lambda: load(**counts, seed=seed, **arguments))
    found = _checked_splits(spec, loaded, counts)
    return Splits(source=spec, natural=bool(getattr(module, "natural", False)), **found)


def fill(source: str, streams: Mapping[str, Iterable[Problem]], counts: Mapping[str, int]) -> dict[str, list[Problem]]:
    """Draw each split's problems from its own stream, held-out splits first, leaving out what was drawn before.

    Raises DataError, with the number there is, when a stream ends or brings nothing new any more.
    """
    known: set[str] = set()
    splits: dict[str, list[Problem]] = {}
    for split in SPLITS:
        splits[split] = []
        misses = 0
        stream = iter(streams[split])
        while len(splits[split]) < counts[split]:
            problem = next(stream, None)
            if problem is None or misses > PATIENCE:
                raise _too_few(source, split, counts, splits)
            key = normal(problem.text)
            misses = misses + 1 if key in known else 0
            if key not in known:
                known.add(key)
                splits[split].append(problem)
    return splits


def in_share(source: str, seed: int, split: str, text: str) -> bool:
    """Whether a generated problem lies in a split's part of all problems; its text decides."""
    return seed_of(source, seed, text) % 4 in SHARES[split]


def fill_by_level(
    source: str,
    draw: Callable[[random.Random, int], Problem],
    counts: Mapping[str, int],
    *,
    seed: int,
    levels: tuple[int, int],
    hardest: int,
) -> dict[str, list[Problem]]:
    """Draw each split's problems at random, all levels of the range equally often, from the split's part of them.

    Raises DataError for a range of levels that there is not, and where there are too few problems.
    """
    easiest, last = levels
    if not 1 <= easiest <= last <= hardest:
        raise DataError(
            f"{source}: min_level={easiest}, max_level={last}; both between 1 and {hardest} and in this order"
        )

    def drawn(split: str) -> Iterator[Problem]:
        stream = random.Random(seed_of(source, seed, split))
        misses = 0
        while misses <= PATIENCE:
            problem = draw(stream, stream.randint(easiest, last))
            mine = in_share(source, seed, split, problem.text)
            misses = 0 if mine else misses + 1
            if mine:
                yield problem

    return fill(source, {split: drawn(split) for split in SPLITS}, counts)


def divide(
    source: str,
    problems: Iterable[Problem],
    counts: Mapping[str, int],
    *,
    seed: int,
    test: Iterable[Problem] | None = None,
) -> dict[str, list[Problem]]:
    """Divide given problems by the hash of their content: their order in the file has no say.

    The test split is drawn from `test` where a set has its own.
    """
    given = iter(_by_hash(problems, seed))
    official = given if test is None else iter(_by_hash(test, seed))
    return fill(source, {"test": official, "valid": given, "train": given}, counts)


def unique(problems: Iterable[tuple[str, Problem]]) -> Iterator[Problem]:
    """Yield problems without repetitions; raises DataError, with both places, for one id with two contents."""
    seen: dict[str, tuple[str, Problem]] = {}
    for where, problem in problems:
        first = seen.setdefault(problem.id, (where, problem))
        if first[0] == where:
            yield problem
        elif _content(first[1]) != _content(problem):
            raise DataError(f"{where}: the id {problem.id!r} is that of another problem at {first[0]}")


def _parts(spec: str) -> tuple[str, str]:
    """Return a spec's plug-in, and what it is asked for."""
    name, _, what = spec.partition(":")
    if spec.endswith(".py") or (name in plugins.available("data")):
        return (spec, "") if spec.endswith(".py") else (name, what)
    looks_like_a_file = spec.startswith((".", "/", "~")) or "." in spec.rpartition("/")[2]
    return ("file", spec) if looks_like_a_file else (name, what)


def _checked_settings(spec: str, load: Callable[..., object], settings: Json) -> dict[str, Any]:
    parameters = inspect.signature(load).parameters
    known = [
        name
        for name in parameters
        if name not in _COUNTS and parameters[name].kind is not inspect.Parameter.VAR_KEYWORD
    ]
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        extra = {name: value for name, value in settings.items() if name not in known}
    else:
        extra = {}
    hints = get_type_hints(load)
    checked: dict[str, Any] = dict(extra)
    for name, value in settings.items():
        if name in extra:
            continue
        if name not in known:
            offer = f"it has {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"data {spec!r} has no setting {name!r}{near(name, known)} ({offer})")
        checked[name] = _typed(spec, name, value, hints.get(name, Any))
    missing = [n for n in known if n not in settings and parameters[n].default is inspect.Parameter.empty]
    if missing:
        raise ConfigError(f"data {spec!r} needs the setting {missing[0]!r}")
    return checked


def _typed(spec: str, name: str, value: object, hint: Any) -> object:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"data {spec!r}: {name}: {first['msg']} (it was {value!r})") from error


def _checked_splits(
    spec: str, loaded: Mapping[str, Sequence[Problem]], counts: Mapping[str, int]
) -> dict[str, tuple[Problem, ...]]:
    """Hold a data set to its contract: the numbers asked for, and nothing twice."""
    ids: dict[str, str] = {}
    prompts: dict[str, str] = {}
    splits: dict[str, tuple[Problem, ...]] = {}
    if not isinstance(loaded, Mapping):
        raise PluginError(f"data {spec!r}: load must return problems for train, valid and test, not {_kind(loaded)}")
    for split in SPLITS:
        problems = loaded.get(split, ())
        if not isinstance(problems, Sequence) or not all(isinstance(each, Problem) for each in problems):
            found = (
                next((each for each in problems if not isinstance(each, Problem)), None)
                if (isinstance(problems, Sequence))
                else problems
            )
            raise PluginError(f"data {spec!r}: load must return a list of Problem for {split}; met {_kind(found)}")
        if len(problems) != counts[split]:
            raise DataError(f"data {spec!r} has {len(problems)} {split} problems, not the {counts[split]} asked for")
        for problem in problems:
            for seen, key, what in ((ids, problem.id, "id"), (prompts, normal(problem.text), "prompt")):
                if key in seen:
                    raise DataError(
                        f"data {spec!r}: two problems, in {seen[key]} and in {split}, have the {what} {key!r}"
                    )
                seen[key] = split
        splits[split] = tuple(replace(problem, split=split) for problem in problems)
        _check_storable(spec, splits[split])
    return splits


def _check_storable(spec: str, problems: Sequence[Problem]) -> None:
    """Refuse problems that could be given to a run but not be written by it."""
    for problem in problems:
        if not problem.verifier:
            raise DataError(f"data {spec!r}: problem {problem.id} names no verifier; say verifier=NAME")
    try:
        tables.to_table(Problem, problems)
    except STORING:
        for problem in problems:
            try:
                tables.to_table(Problem, [problem])
            except STORING as error:
                why = str(error).splitlines()[0]
                raise DataError(f"data {spec!r}: problem {problem.id!r} cannot be stored: {why}") from error
        raise


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _by_hash(problems: Iterable[Problem], seed: int) -> list[Problem]:
    return sorted(problems, key=lambda problem: digest("split", seed, normal(problem.text)))


def _content(problem: Problem) -> tuple[object, ...]:
    return problem.prompt, problem.answer, problem.solution, problem.tests


def _too_few(source: str, split: str, counts: Mapping[str, int], splits: Mapping[str, Sequence[Problem]]) -> DataError:
    asked = ", ".join(f"{name} {counts[name]}" for name in reversed(SPLITS))
    there = sum(map(len, splits.values()))
    short = f"{split} gets {len(splits[split])} of {counts[split]}"
    return DataError(f"data {source!r} has {there} distinct problems, too few for {asked}: {short}; ask for fewer")
