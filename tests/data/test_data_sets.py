"""Every data set keeps the contract: problems without a download, distinct, disjoint, the same for the same seed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from selftrain import plugins
from selftrain.backends.sandbox import open_sandbox
from selftrain.lab import Sandbox
from selftrain.problems import Splits, load_problems
from selftrain.records import Json, Problem
from selftrain.verification.answers import normal
from selftrain.verification.verify import load_verifier

NAMES = sorted(plugins.available("data"))


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, tuple[str, Json]]:
    """A spec and settings for every built-in data set, without a network."""
    rows = [json.dumps({"prompt": f"What is {n}+{n}?", "answer": 2 * n}) for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.jsonl").write_text("\n".join(rows))
    gsm8k = (plugins.available("data")["gsm8k"].path).with_suffix(".jsonl").read_text().splitlines()
    (tmp_path / "train.jsonl").write_text("\n".join(gsm8k[:14]))
    (tmp_path / "test.jsonl").write_text("\n".join(gsm8k[14:]))
    functions = [
        {
            "task_id": f"T/{n}",
            "prompt": f"def plus_{n}(x):\n",
            "canonical_solution": f"    return x + {n}\n",
            "test": f"def check(candidate):\n    assert candidate(1) == {n + 1}\n",
            "entry_point": f"plus_{n}",
        }
        for n in range(30)
    ]
    (tmp_path / "HumanEval.jsonl").write_text("\n".join(map(json.dumps, functions)))
    return {
        "sums": ("sums", {"max_digits": 1}),
        "gym": ("gym:chain_sum", {"max_terms": 3, "max_digits": 2}),
        "gsm8k": ("gsm8k", {"path": str(tmp_path)}),
        "file": (str(tmp_path / "rows.jsonl"), {}),
        "humaneval": ("humaneval", {"path": str(tmp_path / "HumanEval.jsonl")}),
        "hub": (f"hub:{tmp_path / 'hub'}", {}),
        "programs": ("programs", {"max_operations": 3}),
        "products": ("products", {"max_level": 2}),
        "countdown": ("countdown", {"max_level": 1}),
        "inference": ("inference", {"max_level": 4, "words": True}),
        "translation": ("translation", {"min_level": 3}),
        "instructions": ("instructions", {"max_level": 2}),
    }


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as opened:
        yield opened


def ids(splits: Splits) -> list[list[str]]:
    return [[problem.id for problem in split] for split in (splits.train, splits.valid, splits.test)]


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_yields_problems_without_a_download(name: str, sandbox: Sandbox) -> None:
    problems: list[Problem] = list(plugins.load("data", name).bundled())
    assert problems
    assert len({problem.id for problem in problems}) == len(problems)
    for problem in problems:
        assert problem.text.strip()
        # What the data says is right must pass by the verifier that the data names.
        response = problem.solution or f"The answer is {problem.answer}"
        verifier = load_verifier(problem.verifier, {"sandbox": sandbox}.__getitem__)
        assert verifier.judge(problem=problem, response=response).status == "pass"


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_disjoint_and_follow_from_the_seed(name: str, sources: dict[str, tuple[str, Json]]) -> None:
    spec, settings = sources[name]
    first, again, other = (
        load_problems(spec, train=9, valid=4, test=5, seed=seed, settings=settings) for seed in (1, 1, 2)
    )
    assert [len(split) for split in ids(first)] == [9, 4, 5]
    everything = [*first.train, *first.valid, *first.test]
    assert len({normal(problem.text) for problem in everything}) == 18
    assert {problem.split for problem in first.test} == {"test"}
    assert first == again
    assert ids(first) != ids(other)


@pytest.mark.parametrize("name", NAMES)
def test_held_out_problems_do_not_depend_on_the_number_of_train_problems(
    name: str, sources: dict[str, tuple[str, Json]]
) -> None:
    spec, settings = sources[name]
    few, more = (load_problems(spec, train=n, valid=3, test=3, seed=0, settings=settings) for n in (2, 8))
    assert (few.valid, few.test) == (more.valid, more.test)
    assert more.train[:2] == few.train


def test_a_split_may_be_empty(sources: dict[str, tuple[str, Json]]) -> None:
    for spec, settings in sources.values():
        splits = load_problems(spec, train=0, valid=0, test=2, seed=0, settings=settings)
        assert (len(splits.train), len(splits.valid), len(splits.test)) == (0, 0, 2)
