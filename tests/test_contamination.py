import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain import plugins
from selftrain.contamination import check
from selftrain.problems import load_problems
from selftrain.records import Problem

BUNDLED: list[Problem] = list(plugins.load("data", "gsm8k").bundled())
FOLDER = os.environ.get("SELFTRAIN_GSM8K")

EDITS: dict[str, Callable[[str], str]] = {
    "case": str.upper,
    "white space": lambda text: f"\n {text}".replace(" ", "   \n"),
    "punctuation": lambda text: re.sub(r"[.,?'](?!\d)", "", text),
    "a typographic quote": lambda text: text.replace("'", "’") + " ",
    "a word in the middle": lambda text: re.sub(r"^((?:\S+\s+){12})\S+", r"\1splendid", text),
    "a word at the beginning": lambda text: re.sub(r"^\S+", "Once", text),
    "names": lambda text: re.sub(r"(?<=[a-z,] )[A-Z][a-z]+|^[A-Z][a-z]+(?= [a-z])", "Quentin", text),
    "a sentence after it": lambda text: text + " Explain each step in your own words, then give the result.",
    "a sentence before it": lambda text: "Here is a problem from an old school book. " + text,
    "the first words left out": lambda text: text.split(" ", 3)[3],
    "two words": lambda text: re.sub(r"^((?:\S+\s+){5})\S+((?:\s+\S+){9}\s+)\S+", r"\1maybe\2rather", text),
}


def planted(problem: Problem, edit: Callable[[str], str]) -> Problem:
    copy = Problem.of(edit(problem.text), answer=problem.answer)
    assert copy.text != problem.text
    return copy


@pytest.mark.parametrize("edit", sorted(EDITS))
def test_near_copies_of_bundled_problems_are_found(edit: str) -> None:
    held_out = [replace(problem, split="test") for problem in BUNDLED[:10]]
    copies = [planted(problem, EDITS[edit]) for problem in held_out]
    hits = check(BUNDLED[10:] + copies, held_out, natural=True)
    assert {(hit.train.id, hit.held_out.id) for hit in hits} == {
        (copy.id, problem.id) for copy, problem in zip(copies, held_out, strict=True)
    }


def test_distinct_problems_pass() -> None:
    assert check(BUNDLED[:10], BUNDLED[10:], natural=True) == []


def test_a_hit_names_the_pair_and_the_overlap() -> None:
    near = check([planted(BUNDLED[0], EDITS["names"])], BUNDLED, natural=True)[0]
    assert 0.6 < near.overlap < 1
    assert re.fullmatch(r"train \w{16} '.+\.\.\.' and train \w{16} '.+\.\.\.' \(\d\d% of the words\)", str(near))
    same = check([planted(BUNDLED[0], EDITS["case"])], BUNDLED, natural=True)[0]
    assert "(the same prompt)" in str(same)


def test_other_numbers_make_another_problem() -> None:
    train = "A train travels 360 miles in 3 hours. At the same rate, how many hours would it take to travel 240 miles?"
    plane = (
        "A plane travels 1200 miles in 3 hours. At the same rate, how many hours would it take to travel 2000 miles?"
    )
    assert check([Problem.of(train)], [Problem.of(plane)], natural=True) == []


def test_of_generated_problems_only_the_same_are_found() -> None:
    splits = load_problems("gym:chain_sum", train=300, valid=50, test=50, seed=0)
    held_out = [*splits.valid, *splits.test]
    assert check(splits.train, held_out, natural=False) == []
    copy = Problem.of(held_out[7].text.upper() + "  ")
    assert [hit.held_out for hit in check([*splits.train, copy], held_out, natural=False)] == [held_out[7]]


def test_a_template_does_not_make_texts_alike() -> None:
    ask = "Please read the following problem with care, think about it, and then write down your answer: {} + {} - {} ="
    train = [Problem.of(ask.format(n, n + 1, n + 2)) for n in range(100)]
    held_out = [Problem.of(ask.format(n + 2, n + 1, n)) for n in range(100)]
    assert check(train, held_out, natural=True) == []


def test_empty_sides_are_fine() -> None:
    assert check([], BUNDLED, natural=True) == check(BUNDLED, [], natural=True) == []
    assert check([Problem.of("?!")], [Problem.of("...")], natural=True) == []


@given(st.lists(st.lists(st.sampled_from("abcde1"), max_size=12), max_size=30))
def test_any_texts_can_be_compared(texts: list[list[str]]) -> None:
    problems = [Problem.of(" ".join(words) or "?") for words in texts]
    assert {hit.train.text for hit in check(problems, problems, natural=True)} == {p.text for p in problems}


@pytest.mark.skipif(FOLDER is None, reason="SELFTRAIN_GSM8K names no folder with GSM8K's train and test files")
def test_gsm8k_passes_against_itself_and_copies_of_its_test_problems_are_found() -> None:
    settings = {"path": str(Path(FOLDER or ""))}
    splits = load_problems("gsm8k", train=7400, valid=0, test=1300, seed=0, settings=settings)
    started = time.monotonic()
    assert check(splits.train, splits.test, natural=True) == []
    assert time.monotonic() - started < 20
    for name, edit in EDITS.items():
        copies = [planted(problem, edit) for problem in splits.test[:400] if edit(problem.text) != problem.text]
        assert len(copies) > 100
        found = {hit.train.id for hit in check(copies, splits.test, natural=True)}
        missed = [copy.text for copy in copies if copy.id not in found]
        assert len(missed) <= 0.01 * len(copies), (name, missed)
