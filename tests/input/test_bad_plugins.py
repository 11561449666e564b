"""Recipes, data sets and verifiers of one's own, with each kind of mistake."""

from pathlib import Path

import pytest

from tests.front_door import call
from tests.input.kinds import NANO, SMALL, Kind, check, put, tabled

HEAD = """from selftrain.recipe import Model, Recipe
from selftrain.rules import passed
from selftrain.stages import DPO, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify

"""
STAGES = "[Generate(), Verify(), Select(rules=(passed,)), MakeExamples(), Train(), Evaluate(), Gate()]"
RECIPE = f'{HEAD}def recipe():\n    return Recipe(paper="mine", each_round={STAGES})\n'


def changed(stage: str, made: str) -> str:
    """A recipe in which a stage is made otherwise."""
    return f'Recipe(paper="x", each_round={STAGES.replace(stage, made)})'


FILES: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "must define recipe"),
    "bytes that are no text": (b"\xff\xfe", "does not load: SyntaxError"),
    "a zero byte": ("\0", "does not load: SyntaxError"),
    "a syntax error": ("def recipe(:", "does not load: SyntaxError"),
    "a module that is not there": ("import nosuch", "does not load: ModuleNotFoundError"),
    "an error at its import": ("1/0", "does not load: ZeroDivisionError"),
    "an exit at its import": ("import sys; sys.exit('bye')", "does not load: SystemExit: bye"),
    "a recipe that is a number": ("recipe = 3", "must define recipe"),
    "a recipe that needs an argument": ("def recipe(a): return a", "the recipe needs its argument 'a'; say a=VALUE"),
    "an argument without a name": ("def recipe(a, /): return a", "must have a name"),
    "an argument named like a key": ("def recipe(*, model=3): pass", "is a key of the run file; rename it"),
    "an async recipe": ("async def recipe(): pass", "must be a plain function"),
    "an error in the recipe": ("def recipe(): raise ValueError('a\\nb')", "mine.py line 1: ValueError: a b"),
    "an exit in the recipe": ("def recipe(): raise SystemExit(0)", "fails at"),
    "a recipe that calls itself": ("def recipe(): return recipe()", "RecursionError"),
    "a recipe that returns nothing": ("def recipe(): pass", "must return a Recipe, not NoneType"),
}
PARTS: dict[str, tuple[str, str]] = {
    "no fields": ("Recipe()", "missing 2 required keyword-only arguments"),
    "no stages": ('Recipe(paper="x", each_round=[])', "has no stage"),
    "a paper that is a number": (f"Recipe(paper=3, each_round={STAGES})", "paper must be a text"),
    "rounds in words": (f'Recipe(paper="x", rounds="3", each_round={STAGES})', "rounds must be a number"),
    "no rounds": (f'Recipe(paper="x", rounds=0, each_round={STAGES})', "a run needs at least 1"),
    "a draw of none": (f'Recipe(paper="x", draw=0, each_round={STAGES})', "at least 1 problem"),
    "a control that is a number": (f'Recipe(paper="x", control=3, each_round={STAGES})', "control must be a text"),
    "models in a list": (f'Recipe(paper="x", models=["policy"], each_round={STAGES})', "a mapping of names to Model()"),
    "a model that is none": (f'Recipe(paper="x", models={{"a": 1}}, each_round={STAGES})', "must be a Model()"),
    "a model's name with a slash": (
        f'Recipe(paper="x", models={{"policy": Model(), "../a": Model()}}, each_round={STAGES})',
        "a model is named '../a'",
    ),
    "stages that are nothing": ('Recipe(paper="x", each_round=None)', "must be a list of stages"),
    "a stage that is a number": ('Recipe(paper="x", each_round=[1])', "must be a stage"),
    "a stage that is not made": ('Recipe(paper="x", each_round=[Generate])', "must be a stage, made as in Generate"),
    "a round's function without arguments": ('Recipe(paper="x", each_round=lambda: [])', "each_round fails at"),
    "a round's function that fails": ('Recipe(paper="x", each_round=lambda h: 1 / 0)', "ZeroDivisionError"),
    "a round's function that returns a number": ('Recipe(paper="x", each_round=lambda h: 3)', "a list of stages"),
    "a stage's name with a path": ('Recipe(paper="x", each_round=[Generate(name="../x")])', "a stage is named '../x'"),
    "a stage's name with a space": ('Recipe(paper="x", each_round=[Generate(name="a b")])', "a stage is named 'a b'"),
    "two stages of a name": ('Recipe(paper="x", each_round=[Generate(), Generate()])', "two stages are named"),
    "samples in words": ('Recipe(paper="x", each_round=[Generate(n="x")])', "stage 'generate': n='x'"),
    "stops in one text": ('Recipe(paper="x", each_round=[Generate(stop="ab")])', "stage 'generate': stop='ab'"),
    "a loss that is a number": (changed("Train()", "Train(loss=3)"), "loss=3"),
    "a training argument of TRL's": (changed("Train()", "Train(settings={'optim': 'x'})"), "optim='x'"),
    "a verifier that is not there": (changed("Verify()", "Verify(by='numbr')"), "did you mean number"),
    "a stage without its input": ('Recipe(paper="x", each_round=[Train()])', "reads Row records"),
}
KINDS = [
    Kind(f"a recipe with {name}", ("run", "./mine.py", *NANO[:4], "data=sums", "--dry-run"), said, {"mine.py": source})
    for name, (source, said) in {
        **FILES,
        **{name: (f"{HEAD}def recipe():\n    return {made}\n", said) for name, (made, said) in PARTS.items()},
    }.items()
]

LOAD = "def load(*, train, valid, test, seed): "
EACH = "{k: [%s for i in range(n)] for k, n in (('train', train), ('valid', valid), ('test', test))}"
OF = "from selftrain.records import Problem\n" + LOAD + "return " + EACH
DATA: dict[str, tuple[str, str]] = {
    "nothing": ("", "must define load"),
    "a load that is a number": ("load = 3", "must define load"),
    "a load without sizes": ("def load(): return {}", "it lacks train, valid, test, seed"),
    "a load that needs a setting": (LOAD.replace("seed", "seed, more") + "return {}", "needs the setting 'more'"),
    "an exit": (LOAD + "raise SystemExit(1)", "SystemExit: 1"),
    "an error": (LOAD + "return 1 / 0", "mine.py line 1: ZeroDivisionError"),
    "no splits": (LOAD + "return None", "load must return problems for train, valid and test, not None"),
    "a list for the splits": (LOAD + "return []", "not a list"),
    "too few problems": (LOAD + "return {}", "has 0 test problems, not the 2 asked for"),
    "texts for problems": (LOAD + "return " + EACH % "'x'", "a list of Problem for test; met a str"),
    "a generator of problems": (LOAD + "return {'test': (x for x in 'ab')}", "met a generator"),
    "one problem twice": (OF % "Problem.of('same', answer='1')", "two problems"),
    "an answer that is a number": (OF % "Problem.of(f'{k}{i}', answer=3)", "cannot be stored"),
    "meta that is no data": (OF % "Problem.of(f'{k}{i}', answer='3', meta={'x': object()})", "cannot be stored"),
    "half a surrogate pair": (OF % "Problem.of(f'\\ud800{k}{i}', answer='3')", "cannot be stored"),
    "a verifier that is not there": (OF % "Problem.of(f'{k}{i}', answer='3', verifier='numbr')", "did you mean number"),
}
RIGHT = {"mine.py": OF % "Problem.of(f'What is {i} in {k}?', answer=str(i), verifier='number')"}
KINDS += [
    Kind(
        f"a data set with {name}",
        ("run", "rest_em", "data=./mine.py", *NANO, "--dry-run"),
        said,
        {"mine.py": source},
    )
    for name, (source, said) in DATA.items()
]

VERIFY = "def verify(*, problem, response): return True\n"
VERIFIERS: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "must define Verifier or verify or verify_group"),
    "bytes that are no text": (b"\xff", "does not load: SyntaxError"),
    "an exit at its import": ("raise SystemExit(0)", "does not load: SystemExit"),
    "a verify that is a number": ("verify = 3", "must define"),
    "a verify without arguments": ("def verify(): return True", "it lacks problem, response"),
    "an async verify": ("async def verify(*, problem, response): return True", "must be a plain function"),
    "an argument nobody can give": ("def verify(*, problem, response, sanbox): return True", "it can ask for sandbox"),
    "a group's verify for one response": (
        "def verify_group(*, problem, response): return []",
        "has a parameter 'response'",
    ),
    "a time limit in words": (VERIFY + "time_limit = 'x'", "a number of seconds above 0"),
    "a time limit below 0": (VERIFY + "time_limit = -1", "a number of seconds above 0"),
    "cases that are a number": (VERIFY + "cases = 3", "its cases must be a list"),
    "a case that is a number": (VERIFY + "cases = [3]", "must be made as in Case(response=...)"),
    "parts that are a number": (VERIFY + "parts = 3", "its parts must be a list"),
    "a part that is a number": (VERIFY + "parts = [3]", "must be specs of verifiers"),
    "a part that is not there": (VERIFY + "parts = ['numbr']", "did you mean number"),
    "a file that is not there": (VERIFY + "files = ['nosuch.txt']", "nosuch.txt is not"),
    "a class that is no dataclass": ("class Verifier:\n    pass", "must be a dataclass"),
    "an error at its import": ("1/0", "does not load: ZeroDivisionError"),
}
KINDS += [
    Kind(
        f"a verifier with {name}",
        ("run", "rest_em", *SMALL, "verifier=./mine.py", "--dry-run"),
        said,
        {"mine.py": source},
    )
    for name, (source, said) in VERIFIERS.items()
]


@tabled(KINDS)
def test_a_plug_in_with_a_mistake(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check(kind, tmp_path)


@tabled(
    [
        Kind("a recipe", ("run", "./mine.py", *NANO[:4], "data=sums", "--dry-run"), "", {}, {"mine.py": RECIPE}),
        Kind("a data set", ("run", "rest_em", "data=./mine.py", *NANO, "--dry-run"), "", {}, RIGHT),
        Kind("a verifier", ("run", "rest_em", *SMALL, "verifier=./mine.py", "--dry-run"), "", {}, {"mine.py": VERIFY}),
    ]
)
def test_a_plug_in_without_one(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, kind.mended)
    answer = call(*kind.command)
    assert answer.code == 0, answer
