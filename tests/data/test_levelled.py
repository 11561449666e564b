"""The data sets with levels: what they say is right is right, a slip is not, and splits share nothing at any size."""

import random
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain import plugins
from selftrain.errors import DataError
from selftrain.problems import load_problems
from selftrain.records import Problem
from selftrain.verification.sentences import words as words_of
from selftrain.verification.verify import load_verifier

products, countdown, inference, translation, instructions = SETS = [
    plugins.load("data", name) for name in ("products", "countdown", "inference", "translation", "instructions")
]
NAMES = [each.__name__.rpartition(".")[2] for each in SETS]
SEEDS = st.integers(0, 2**31)


loaded = cache(load_verifier)


def status(problem: Problem, response: str, verifier: str = "") -> str:
    return loaded(verifier or problem.verifier).judge(problem=problem, response=response).status


def items(module: Any, count: int, seed: int = 0) -> list[Any]:
    stream = random.Random(seed)
    return [module.draw(stream, stream.randint(1, 3)) for _ in range(count)]


def test_known_problems_are_written_as_the_files_say() -> None:
    rules = (("r", "k"), ("d", "~b"), ("~b", "r"), ("b", "m"))
    sentence = translation.Sentence(translation.Part("fox", "red"), "sees", translation.Part("dog", "old"))
    known: list[Problem] = [
        products.problem(products.Product(7, 384)),
        countdown.problem(countdown.Game((8, 5, 1), 12)),
        inference.problem(inference.Puzzle("d", rules, "k")),
        translation.problem(sentence),
        instructions.problem(instructions.Wanted("fox", {"title": 0, "bullets": 2, "postscript": 0})),
    ]
    for module, problem in zip(SETS, known, strict=True):
        shown = " ".join((module.__doc__ or "").split())
        assert problem.text in shown
        assert problem.solution
        assert all(line in shown for line in problem.solution.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_levels_are_those_asked_for(name: str) -> None:
    every = load_problems(name, train=30, valid=5, test=5, seed=2)
    assert {each.meta["level"] for each in (*every.train, *every.valid, *every.test)} >= {1, 2}
    for level in (1, 2, 3):
        only = load_problems(name, train=8, valid=2, test=2, seed=2, settings={"min_level": level, "max_level": level})
        assert {each.meta["level"] for each in (*only.train, *only.valid, *only.test)} == {level}
    with pytest.raises(DataError, match=f"{name}: min_level=3, max_level=2; both between 1 and"):
        load_problems(name, train=1, valid=0, test=0, seed=0, settings={"min_level": 3, "max_level": 2})


@pytest.mark.parametrize("name", NAMES)
def test_splits_draw_from_different_problems_whatever_their_size(name: str) -> None:
    easy = {"min_level": 1, "max_level": 1}
    train, test = (load_problems(name, train=a, valid=0, test=b, seed=5, settings=easy) for a, b in ((20, 0), (0, 10)))
    assert not {problem.text for problem in train.train} & {problem.text for problem in test.test}


def test_too_many_problems_are_refused_with_the_number_there_is() -> None:
    with pytest.raises(DataError, match=r"has \d+ distinct problems, too few for train 50"):
        load_problems("products", train=50, valid=0, test=0, seed=0, settings={"max_level": 1})


@pytest.mark.parametrize("module", SETS, ids=NAMES)
def test_solutions_pass(module: Any) -> None:
    for item in items(module, 150):
        problem = module.problem(item)
        assert status(problem, problem.solution) == "pass", problem


def without_the_end(wanted: Any) -> str:
    kept = {name: value for name, value in wanted.wishes.items() if name not in ("postscript", "end")}
    text: str = instructions.text(wanted._replace(wishes=kept), instructions.VERBS)
    return text


def in_the_subjects_form(sentence: Any) -> str:
    words = [choices[0] for choices in translation.slots(sentence)]
    if sentence.object.adjective:
        words[-2] = words[-2][:-1] + translation.DOING
    return " ".join(words)


SLIPS: list[tuple[Any, Callable[[Any], str]]] = [
    (products, lambda item: "\n".join(products.steps(item, carried=False))),
    (countdown, lambda item: "\n".join(countdown.steps(item, most=2))),
    (inference, lambda item: "\n".join(inference.steps(item, negations=False))),
    (translation, in_the_subjects_form),
    (instructions, without_the_end),
]


@pytest.mark.parametrize(("module", "slip"), SLIPS, ids=NAMES)
def test_a_slip_fails_where_it_makes_a_difference(module: Any, slip: Callable[[Any], str]) -> None:
    told = passed = 0
    for item in items(module, 120, seed=1):
        problem = module.problem(item)
        if slip(item) == problem.solution:
            continue
        told += 1
        passed += status(problem, slip(item)) == "pass"
    assert told > 30
    assert passed == 0


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 3))
def test_every_step_of_a_product_holds(seed: int, level: int) -> None:
    problem = products.problem(products.draw(random.Random(seed), level))
    digit, number = map(int, re.findall(r"\d+", problem.text))
    assert int(problem.answer) == digit * number
    *columns, last = problem.solution.splitlines()
    assert last == f"#### {problem.answer}"
    assert len(columns) == len(str(number)) == problem.meta["level"]
    for line in columns:
        left, _, right = line.partition("=")
        assert eval(left) == int(right)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 3))
def test_every_try_of_a_countdown_holds_and_only_the_last_makes_the_target(seed: int, level: int) -> None:
    problem = countdown.problem(countdown.draw(random.Random(seed), level))
    assert problem.meta["level"] == level
    *tries, last = problem.solution.splitlines()
    values = []
    for line in tries:
        left, _, right = line.partition("=")
        assert eval(left) == int(right) >= 0
        assert sorted(map(int, re.findall(r"\d", left)), reverse=True) == problem.meta["numbers"]
        values.append(int(right))
    assert values.index(problem.meta["target"]) == len(values) - 1
    assert last == f"#### {tries[-1].partition('=')[0]}"


def test_another_way_to_make_the_target_is_right_too() -> None:
    problem = countdown.problem(countdown.Game((8, 5, 1), 12))
    assert status(problem, "#### 5 - 1 + 8") == "pass"
    assert status(problem, "#### 8+5-2") == status(problem, "#### 8+4") == "fail"


def test_the_prover_agrees_with_the_answers() -> None:
    pytest.importorskip("z3")
    seen: Counter[str] = Counter()
    for at, item in enumerate(items(inference, 40, seed=3)):
        problem = inference.problem(item, words=at % 2 == 0)
        seen[problem.answer] += 1
        steps, _, _ = problem.solution.rpartition("\n")
        for answer in problem.meta["choices"]:
            expected = "pass" if answer == problem.answer else "fail"
            assert status(problem, f"{steps}\n#### {answer}", "logic") == expected, problem
            assert status(problem, f"{steps}\n#### {answer}") == expected
    assert len(seen) == 3


def test_an_inference_needs_steps_that_hold() -> None:
    rules = (("r", "k"), ("d", "~b"), ("~b", "r"), ("b", "m"))
    problem = inference.problem(inference.Puzzle("d", rules, "k"))
    for steps in ("", "d->b\n", "d->~b\nb->m\n", "d->~b\n~b->k\n", "so: d->~b\n"):
        assert status(problem, f"{steps}#### true") == "fail"
    assert status(problem, "d->~b\n~b->r\nr->k\n#### true") == "pass"


def decided(sentence: Any, text: str) -> bool:
    """Whether a text is a translation, decided without an expression: some matching of its words to the slots."""
    choices = list(translation.slots(sentence))
    words = text.split(" ")
    return len(words) == len(choices) and any(
        all(word in slot for word, slot in zip(order, choices, strict=True)) for order in permutations(words)
    )


def test_the_pattern_takes_every_translation() -> None:
    for item in items(translation, 6, seed=4):
        problem = translation.problem(item)
        for words in product(*translation.slots(item)):
            for order in permutations(words):
                assert status(problem, " ".join(order)) == "pass"


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.integers(1, 3), st.data())
def test_the_pattern_takes_nothing_else(seed: int, level: int, data: st.DataObject) -> None:
    sentence = translation.draw(random.Random(seed), level)
    right = [word for choices in translation.slots(sentence) for word in choices]
    others = [word[:-1] + ending for word in right for ending in "aoi"]
    text = " ".join(data.draw(st.lists(st.sampled_from(right + others), min_size=1, max_size=len(right) + 1)))
    expected = "pass" if decided(sentence, text) else "fail"
    assert status(translation.problem(sentence), text) == expected


def test_no_stem_stands_for_two_words() -> None:
    stems = [
        stem
        for words in (translation.NOUNS, translation.ADJECTIVES, translation.VERBS)
        for each in words.values()
        for stem in each
    ]
    assert len(stems) == len(set(stems))


def test_each_instruction_is_needed() -> None:
    for wanted in items(instructions, 60, seed=6):
        problem = instructions.problem(wanted)
        assert len(problem.meta["instructions"]) == 1 + problem.meta["level"]
        for name, value in wanted.wishes.items():
            rest = {other: each for other, each in wanted.wishes.items() if other != name}
            fewer = instructions.text(wanted._replace(wishes=rest), instructions.VERBS)
            # The other instructions alone may make it long enough.
            enough = name == "words" and len(words_of(fewer)) >= int(value)
            assert (status(problem, fewer) == "pass") is enough, (problem, fewer)
        assert status(problem, problem.solution.replace(wanted.topic, "cow")) == "fail"
