"""nano's reward and process models: what they are, and that they tell right sums from wrong ones."""

import json
import random
import runpy
from collections.abc import Iterator
from typing import Any

import pytest

from selftrain.backends import classifiers
from selftrain.backends.models import resolve
from selftrain.backends.pool import VerifierPool
from selftrain.records import Problem, Sample, Verdict
from tests.verifiers.asked import samples

NANO = resolve("nano")
REWARD, PROCESS = resolve("nano-reward"), resolve("nano-process")


@pytest.fixture(scope="module")
def make() -> dict[str, Any]:
    return runpy.run_path(str(NANO / "make_reward.py"))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierPool]:
    with VerifierPool(workers=1, log=tmp_path_factory.mktemp("pool") / "log") as pool:
        yield pool


def test_they_are_small_and_of_their_kinds() -> None:
    size = sum(path.stat().st_size for folder in (REWARD, PROCESS) for path in folder.iterdir())
    assert size < 8_000_000
    assert (classifiers.kind_of(REWARD), classifiers.kind_of(PROCESS)) == ("reward", "steps")


def test_the_readme_says_what_was_measured() -> None:
    text = (NANO / "README.md").read_text(encoding="utf-8")
    for folder in (REWARD, PROCESS):
        measured: dict[str, dict[str, float]] = json.loads((folder / "accuracy.json").read_text())
        names = [name for name in measured["written"] if name != "solutions"]
        for name in names:
            assert f"| {name} | {measured['written'][name]:.3f} | {measured['sampled by nano'][name]:.3f} |" in text


def test_labels_end_at_the_first_wrong_line(make: dict[str, Any]) -> None:
    for text, labels in (
        ("7+5=12\n8+4+1=13\n#### 132", (1, 1, 1)),
        ("7+5=12\n4+8=12\n#### 122", (1, 0, 0)),
        ("7+5=12\n4+8+1=13\n#### 123", (1, 1, 0)),
        ("7+5=12\n4+8+1=13", (1, 1)),
        ("7+5=12\n4+8+1=13\n#### 132\n#### 132", (1, 1, 1, 0)),
    ):
        assert make["labelled"]((47, 85), text).labels == labels
    stream = random.Random(0)
    for terms in make["drawn"](stream, 200):
        assert set(make["right"](terms, stream).labels) == {1.0}
        assert 0.0 in make["wrong"](terms, stream).labels


@pytest.mark.parametrize(("name", "model"), [("reward_model", "nano-reward"), ("process_reward", "nano-process")])
def test_right_solutions_score_higher_than_wrong_ones_more_often_than_chance(
    pool: VerifierPool, make: dict[str, Any], name: str, model: str
) -> None:
    items: list[tuple[Problem, Sample]] = []
    stream = random.Random(5)
    for terms in make["drawn"](stream, 200):
        problem = make["sums"].problem(terms)
        texts = ["".join(make[kind](terms, stream).lines).removesuffix("\n") for kind in ("right", "wrong")]
        items += [(problem, each) for each in samples(problem, texts)]
    verdicts: dict[str, Verdict] = {
        verdict.sample: verdict for verdict in pool.verify(json.dumps({"name": name, "model": model}), items)
    }
    scores = [verdicts[sample.id].score for _, sample in items]
    better = [a > b for a, b in zip(scores[::2], scores[1::2], strict=True) if a is not None and b is not None]
    assert len(better) == 200
    # Chance is 100, give or take 7.
    assert sum(better) > 130
