import subprocess
import sys

import pytest

from selftrain.errors import ConfigError, DataError
from selftrain.problems import load_problems
from selftrain.records import Json


def load(spec: str, settings: Json | None = None, *, train: int = 3, seed: int = 0) -> tuple[str, ...]:
    splits = load_problems(spec, train=train, valid=2, test=2, seed=seed, settings=settings)
    return tuple(problem.text for problem in (*splits.train, *splits.valid, *splits.test))


def test_numbers_are_judged_by_number_and_the_rest_by_exact() -> None:
    numbers = load_problems("gym:chain_sum", train=2, valid=0, test=0, seed=0).train
    words = load_problems("gym:palindrome_generation", train=2, valid=0, test=0, seed=0).train
    assert {problem.verifier for problem in numbers} == {"number"}
    assert {problem.verifier for problem in words} == {"exact"}
    assert numbers[0].meta["source_dataset"] == "chain_sum"


def test_the_tasks_settings_reach_it() -> None:
    splits = load_problems(
        "gym:chain_sum", train=20, valid=0, test=0, seed=0, settings={"min_terms": 4, "max_terms": 4}
    )
    assert {problem.meta["num_terms"] for problem in splits.train} == {4}


def test_neighbouring_seeds_share_no_stretch_of_problems() -> None:
    assert not set(load("gym:base_conversion", train=50)) & set(load("gym:base_conversion", train=50, seed=1))


def test_a_task_that_depends_on_hash_order_draws_the_same_in_every_process() -> None:
    program = (
        "from selftrain.problems import load_problems\n"
        "print(load_problems('gym:ransom_note', train=2, valid=1, test=1, seed=3))"
    )
    drawn = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": str(n), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n in (1, 2)
    }
    assert len(drawn) == 1


@pytest.mark.parametrize(
    ("spec", "settings", "kind", "message"),
    [
        ("gym:chainsum", {}, DataError, "did you mean chain_sum"),
        ("gym:chain_sum", {"max_term": 3}, ConfigError, "no setting 'max_term'; did you mean max_terms"),
        ("gym:chain_sum", {"size": 3}, ConfigError, "no setting 'size'"),
        ("gym:chain_sum", {"min_terms": 0}, ConfigError, "min_terms must be positive"),
        ("gym:rubiks_cube", {}, DataError, "name a verifier"),
        ("gym", {}, ConfigError, "needs a second part"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(spec: str, settings: Json, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        load(spec, settings)
    assert "\n" not in str(raised.value)


def test_a_task_that_runs_out_of_problems_says_how_many_there_are() -> None:
    with pytest.raises(DataError, match=r"has 200 distinct problems.*valid gets 0 of 5"):
        load_problems(
            "gym:chain_sum",
            train=5,
            valid=5,
            test=200,
            seed=0,
            settings={"max_terms": 2, "max_digits": 1},
        )


def test_without_the_extra_the_way_to_get_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "reasoning_gym" else found(name)
    )
    with pytest.raises(DataError, match=r"pip install 'selftrain\[gym\]'"):
        load("gym:chain_sum")
