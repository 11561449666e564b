import ast
import json
import random
import runpy
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from selftrain import plugins
from selftrain.backends.models import describe, resolve
from selftrain.backends.sandbox import open_sandbox
from selftrain.records import Problem

FOLDER = resolve("nano-programs")


@pytest.fixture(scope="module")
def make() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "make.py"))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def problems(make: dict[str, Any]) -> list[Problem]:
    held_out: list[Problem] = make["held_out"](80, seed=11)
    return held_out


def test_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 8_000_000
    assert 1_000_000 <= describe(FOLDER).parameters <= 4_000_000


def test_it_reads_and_writes_what_nano_does(tokenizer: Any) -> None:
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (FOLDER / name).read_bytes() == (resolve("nano") / name).read_bytes()
    text = "def f(xs):\n    return [x for x in xs if x % 2 == 0]"
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


def test_greedy_is_partly_right_and_wrong_where_it_slips(
    make: dict[str, Any], model: Any, tokenizer: Any, problems: list[Problem]
) -> None:
    said = make["respond"](model, tokenizer, problems)
    with open_sandbox() as sandbox:
        hits = make["passes"](sandbox, problems, said)
    slips = [hit for hit, problem in zip(hits, problems, strict=True) if make["slippery"](problem)]
    others = [hit for hit, problem in zip(hits, problems, strict=True) if not make["slippery"](problem)]
    assert 0.15 <= sum(hits) / len(hits) <= 0.45
    assert sum(slips) / len(slips) + 0.1 <= sum(others) / len(others)
    assert sum(map(parses, said)) >= 60


def parses(program: str) -> bool:
    try:
        ast.parse(program)
    except SyntaxError:
        return False
    return program.startswith("def f(xs):\n")


def test_samples_get_right_what_greedy_does_not(
    make: dict[str, Any], model: Any, tokenizer: Any, problems: list[Problem]
) -> None:
    slips = [problem for problem in problems if make["slippery"](problem)][:12]
    torch.manual_seed(0)
    again = [problem for problem in slips for _ in range(8)]
    said = make["respond"](model, tokenizer, again, temperature=1.0)
    with open_sandbox() as sandbox:
        greedy = make["passes"](sandbox, slips, make["respond"](model, tokenizer, slips))
        hits = make["passes"](sandbox, again, said)
    assert sum(any(hits[at : at + 8]) for at in range(0, len(hits), 8)) >= sum(greedy) + 3


def test_table_of_the_readme_is_the_measured_one() -> None:
    measured: dict[str, float] = json.loads((FOLDER / "accuracy.json").read_text())
    text = (FOLDER / "README.md").read_text()
    for name, share in measured.items():
        assert f"| {name} | {share:.1%} |" in text
    assert 0.25 <= measured["greedy"] <= 0.45
    assert measured["pass@8 at temperature 1"] >= measured["greedy"] + 0.15


def test_slips_and_other_ways_are_what_the_script_says(make: dict[str, Any]) -> None:
    known, stream = plugins.load("data", "programs"), random.Random(0)
    with open_sandbox() as sandbox:
        for name, operation in known.OPERATIONS.items():
            steps = (known.Step(name, operation.numbers[-1]),)
            problem = known.problem(steps)
            seen = {make["response"](steps, stream) for _ in range(60)}
            wrong = [each for each in seen if not make["passes"](sandbox, [problem], [each])[0]]
            assert known.solution(steps) in seen
            assert len(seen) == 1 + (name in make["SLIPS"]) + (name in make["OTHER_WAYS"])
            assert len(wrong) == (name in make["SLIPS"])


def test_only_the_response_is_learned(make: dict[str, Any], tokenizer: Any) -> None:
    for part in next(make["batches"](tokenizer, random.Random(0), 8, 2)):
        for ids, weights in zip(part.ids.tolist(), part.weights.tolist(), strict=True):
            learned = tokenizer.decode([one for one, weight in zip(ids, weights, strict=True) if weight])
            assert learned.startswith("def f(xs):\n")
            assert learned.endswith("<|end|>")
            assert tokenizer.unk_token_id not in ids
            assert sum(map(bool, weights)) < make["LONGEST"]
