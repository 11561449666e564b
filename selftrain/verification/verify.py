"""Load verifiers by their spec, and call them.

A verifier file defines `verify(*, problem, response)`, or `verify_group(*, problem, attempts)` which gets all samples
of a problem at once, or a frozen dataclass `Verifier` with one of the two as a method and its settings as fields; with
both, `verify` is for the verifiers that it is a part of. It may set `time_limit` (seconds for one response) and `cases`
(its own test). True and False pass and fail, a float is a score, and a Score says all there is to say. What it needs
beyond problem and response it asks for by a parameter of that name (`RESOURCES`, and `judge`, which calls the other
verifiers that it names in `parts`).
"""

import inspect
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

from selftrain import plugins
from selftrain.errors import PluginError, near
from selftrain.records import Case, Json, Problem, Sample, Score, Status

TIME_LIMIT = 5.0
"""Seconds for one response where the verifier sets no `time_limit` of its own."""
RESOURCES = ("sandbox", "model", "scorer")
"""What a verifier may ask for: `lab.Sandbox`, `lab.AskedModel`, `lab.Scorer`."""
LONGEST_WHY = 1000


Give = Callable[[str], object]
"""Returns a resource by name."""


def nothing(resource: str) -> object:
    """Give no resource: for who loads a verifier only to look at it."""
    raise PluginError(f"no {resource} is there for verifiers that ask for one")


class Spec(NamedTuple):
    """A verifier's name or path, and its settings."""

    name: str
    settings: Json


@dataclass(frozen=True, kw_only=True)
class LoadedVerifier:
    """A verifier that is ready to judge, whichever way its file defines it."""

    spec: str
    name: str
    asks: frozenset[str]
    """The resources that it or one of its parts asks for."""
    time_limit: float
    cases: tuple[Case, ...]
    group: bool
    """Whether it judges all samples of a problem at once."""
    call: Callable[..., object]
    one: Callable[..., object] | None
    """What judges one response; None where it takes all samples of a problem."""
    parts: tuple["LoadedVerifier", ...] = ()
    files: tuple[str, ...] = ()
    """Files beside its source that decide what it says, as its attribute `files` names them."""
    takes: tuple[str, ...] = ()
    """Its own parameters beyond problem and response, or attempts."""
    give: Give = nothing

    def judge(self, *, problem: Problem, response: str) -> Score:
        """Judge one response."""
        if self.one is None:
            raise TypeError(f"verifier {self.name!r} judges all of a problem's samples, not one response")
        return _score(self.one(problem=problem, response=response, **self._given()), self.name)

    def judge_group(self, *, problem: Problem, attempts: Sequence[Sample]) -> list[Score]:
        """Judge all samples of a problem at once: one score each, in their order."""
        answers = self.call(problem=problem, attempts=attempts, **self._given())
        if not isinstance(answers, Sequence) or isinstance(answers, str) or len(answers) != len(attempts):
            got = f"{len(answers)}" if isinstance(answers, Sequence) else type(answers).__name__
            raise TypeError(
                f"verifier {self.name!r} must return one Score for each of {len(attempts)} samples, not {got}"
            )
        return [_score(answer, self.name) for answer in answers]

    def _given(self) -> dict[str, object]:
        return {name: self._judge if name == "judge" else self.give(name) for name in self.takes}

    def _judge(self, spec: str, *, problem: Problem, response: str) -> Score:
        return _loaded(spec or problem.verifier, self.give).judge(problem=problem, response=response)


def parse_spec(spec: str) -> Spec:
    """Read a verifier's spec: a name, a path to a .py file, or JSON with a "name" and settings."""
    if not spec.lstrip().startswith("{"):
        return Spec(spec.strip(), {})
    try:
        settings = json.loads(spec)
    except json.JSONDecodeError as error:
        raise PluginError(f"verifier {spec!r} is not JSON: {error}") from error
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise PluginError(f'verifier {spec!r} has no "name"; write {{"name": "number", "tolerance": 1e-6}}')
    return Spec(name, settings)


def load_verifier(spec: str, give: Give = nothing, *, within: tuple[str, ...] = ()) -> LoadedVerifier:
    """Load a verifier; raises PluginError if it isn't there, doesn't load, or doesn't have such settings.

    `give` hands it the resources it asks for; `within` are the verifiers that it is a part of.
    """
    name, settings = parse_spec(spec)
    module = plugins.load("verifier", name)
    source = _made(module, name, settings)
    methods = [each for each in ("verify", "verify_group") if callable(getattr(source, each, None))]
    if not methods:
        raise PluginError(f"verifier {name!r} must define verify or verify_group; it defines neither")
    call = getattr(source, methods[-1])
    takes = _takes(call, methods[-1], name)
    if _takes(getattr(source, methods[0]), methods[0], name) != takes:
        raise PluginError(f"verifier {name!r}: its verify and verify_group must ask for the same resources")
    parts = [_part(each, name, (*within, spec)) for each in _listed(source, module, "parts", name)]
    cases, files = (_listed(source, module, each, name) for each in ("cases", "files"))
    for file in files:
        if not Path(str(file)).is_file():
            raise PluginError(f"verifier {name!r}: its files must be there, for they decide verdicts; {file} is not")
    # A verifier takes as long as its parts do, one after the other.
    usual = TIME_LIMIT + sum(part.time_limit for part in parts)
    limit = _declared(source, module, "time_limit", usual)
    if not isinstance(limit, int | float) or isinstance(limit, bool) or limit <= 0:
        raise PluginError(f"verifier {name!r} says time_limit = {limit!r}; it must be a number of seconds above 0")
    return LoadedVerifier(
        spec=spec,
        name=name,
        asks=frozenset(takes).intersection(RESOURCES).union(*(part.asks for part in parts)),
        time_limit=float(limit),
        cases=cases,
        group="verify_group" in methods,
        call=call,
        one=getattr(source, "verify", None),
        parts=tuple(parts),
        files=tuple(map(str, files)),
        takes=takes,
        give=give,
    )


@lru_cache(maxsize=256)
def _loaded(spec: str, give: Give) -> LoadedVerifier:
    return load_verifier(spec, give)


def _part(spec: object, name: str, within: tuple[str, ...]) -> LoadedVerifier:
    if not isinstance(spec, str):
        raise PluginError(f"verifier {name!r}: its parts must be specs of verifiers, texts; one is {spec!r}")
    if spec in within:
        raise PluginError(f"verifier {name!r} is a part of itself")
    try:
        part = load_verifier(spec, within=within)
    except PluginError as error:
        raise PluginError(f"verifier {name!r}, its part {spec!r}: {error}") from error
    if part.one is None:
        raise PluginError(
            f"verifier {name!r}, its part {spec!r}: it judges all of a problem's samples, not one response"
        )
    return part


def _takes(call: Callable[..., object], method: str, name: str) -> tuple[str, ...]:
    """Return which parameters beyond the usual two a verifier's function has; refuses those nobody can give."""
    usual = ("problem", "response" if method == "verify" else "attempts")
    given = {n: p for n, p in inspect.signature(call).parameters.items() if p.kind is not p.VAR_KEYWORD}
    known = (*RESOURCES, "judge")
    if inspect.iscoroutinefunction(call):
        raise PluginError(f"verifier {name!r}: {method} must be a plain function, not an async one")
    for parameter in given.values():
        if parameter.name not in (*usual, *known) and parameter.default is parameter.empty:
            offer = f"it can ask for {', '.join(known)} beyond {' and '.join(usual)}"
            raise PluginError(f"verifier {name!r}: {method} has a parameter {parameter.name!r}; {offer}")
    return tuple(sorted(each for each in given if each in known))


def check_takes(verifier: LoadedVerifier) -> None:
    """Refuse a verifier that can't be called as all are, or tested: every verdict of it would be an error.

    `selftrain verify --check` says more of such a one, and so has it loaded.
    """
    for case in verifier.cases:
        if not isinstance(case, Case):
            raise PluginError(
                f"verifier {verifier.name!r}: its cases must be made as in Case(response=...); one is {case!r}"
            )
    parameters = inspect.signature(verifier.call).parameters
    method, usual = ("verify_group", "attempts") if verifier.group else ("verify", "response")
    lacks = [each for each in ("problem", usual) if each not in parameters]
    if lacks and not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        raise PluginError(
            f"verifier {verifier.name!r}: {method} must take problem and {usual}; it lacks {', '.join(lacks)}"
        )


def _made(module: ModuleType, name: str, settings: Json) -> object:
    """Return what carries the verify function: the module, or its Verifier made with the settings."""
    cls = getattr(module, "Verifier", None)
    if cls is None:
        if settings:
            raise PluginError(f"verifier {name!r} has no settings; it was given {', '.join(settings)}")
        return module
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise PluginError(f"verifier {name!r}: its class Verifier must be a dataclass, whose fields are its settings")
    known = [each.name for each in fields(cls) if each.init]
    for key in settings:
        if key not in known:
            offer = f"it has {', '.join(known)}" if known else "it has none"
            raise PluginError(f"verifier {name!r} has no setting {key!r}{near(key, known)} ({offer})")
    if not settings:
        return _without_settings(cls, name)
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(cls).validate_python(dict(settings))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise PluginError(f"verifier {name!r}: {where}: {first['msg']} (it was {first['input']!r})") from error


def _without_settings(cls: type, name: str) -> object:
    try:
        made: object = cls()
    except TypeError as error:
        raise PluginError(f"verifier {name!r} needs settings: {error}") from error
    return made


def _declared(source: object, module: ModuleType, name: str, default: Any) -> Any:
    return getattr(source, name, getattr(module, name, default))


def _listed(source: object, module: ModuleType, what: str, name: str) -> tuple[Any, ...]:
    found = _declared(source, module, what, ())
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise PluginError(f"verifier {name!r}: its {what} must be a list, not {_shown(found)}")
    return tuple(found)


def _score(answer: object, name: str) -> Score:
    """Return what a verifier returned as a Score of plain values; raises where it is none."""
    if isinstance(answer, Score):
        return _plain(answer, name)
    if isinstance(answer, bool):
        return Score(status="pass" if answer else "fail")
    if isinstance(answer, int | float):
        return _plain(Score(status="scored", score=float(answer)), name)
    # numpy's and torch's bools and numbers are neither; their item() is.
    plain = answer.item() if hasattr(answer, "item") else None
    if isinstance(plain, bool | int | float):
        return _score(plain, name)
    raise TypeError(f"verifier {name!r} must return a bool, a float or a Score; it returned {_shown(answer)}")


def _plain(answer: Score, name: str) -> Score:
    if answer.status not in get_args(Status):
        raise ValueError(
            f"verifier {name!r} returned the status {answer.status!r}; one of {', '.join(get_args(Status))}"
        )
    scores = [*answer.step_scores] + ([] if answer.score is None else [answer.score])
    if any(not math.isfinite(score) for score in scores):
        raise ValueError(f"verifier {name!r} returned a score that is not a finite number: {scores}")
    if answer.status == "scored" and not scores:
        raise ValueError(f"verifier {name!r} returned the status 'scored' without a score")
    return Score(
        status=answer.status,
        score=None if answer.score is None else float(answer.score),
        step_scores=tuple(map(float, answer.step_scores)),
        why=storable(str(answer.why)[:LONGEST_WHY]),
        answer=None if answer.answer is None else storable(str(answer.answer)),
    )


def storable(text: str) -> str:
    """Return the text as UTF-8 can hold it: half of a surrogate pair is written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _shown(answer: object) -> str:
    return "None" if answer is None else f"a {type(answer).__name__}"
