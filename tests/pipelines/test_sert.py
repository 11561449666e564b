"""SERT: own rationales pass the filters and are trained on first, the teacher's after them."""

from pathlib import Path
from random import Random
from typing import Any

from selftrain import plugins
from selftrain.records import Checkpoint, Verdict
from selftrain.round import Attempt
from selftrain.testing import adds, fake_run, sums
from tests.pipelines.stored import kept, made, read, samples, settings, trained_on, unlabelled
from tests.pipelines.test_iwsi import Backends
from tests.stages.bench import sample

SMALL: dict[str, Any] = {"samples": 6, "least": 10, "max_new_tokens": 60}


def mixed(prompt: str, skill: float, stream: Random) -> str:
    """Reasons, gives a bare number, or repeats itself."""
    said = adds(prompt, skill, stream)
    return [f"well\n{said}", said.rpartition(" ")[2], f"{said}\n{said}"][stream.randrange(3)]


def test_repeated_lines_are_found() -> None:
    unrepeated = plugins.load("recipe", "sert").unrepeated
    texts = ["one\ntwo", "one\n\n ONE ", "one", "a\n\n\nb"]
    attempts = [Attempt(sums(1)[0], sample(sums(1)[0], at, text)) for at, text in enumerate(texts)]
    assert [each.sample.index for each in unrepeated(attempts)] == [0, 2, 3]


def test_what_is_kept_is_long_likely_and_not_repeated(tmp_path: Path) -> None:
    fake_run(made("sert", **SMALL), tmp_path, backends=Backends(mixed))
    sampled = samples(tmp_path, "generate")
    scores = {v.sample: v.score or 0.0 for v in read(tmp_path, Verdict, "verify")}
    line = settings(tmp_path, "find")["likely"]
    assert kept(tmp_path)
    for id in kept(tmp_path):
        assert len(sampled[id].completion_ids) >= 10
        assert sampled[id].text.startswith("well")
        assert scores[id] >= line
    assert any(score < line for score in scores.values())


def test_the_teacher_comes_second_and_goes_on_from_the_first_training(tmp_path: Path) -> None:
    history = fake_run(made("sert", **SMALL), tmp_path, backends=Backends(mixed))
    own, teacher = (read(tmp_path, Checkpoint, stage)[0] for stage in ("train", "distil"))
    assert own.parent == history.rounds[0].checkpoints["policy"].id
    assert teacher.parent == own.id
    assert trained_on(tmp_path, "build") == kept(tmp_path)
    assert trained_on(tmp_path, "build-gold") == set(samples(tmp_path, "gold"))


def test_its_first_stage_alone_needs_no_label(tmp_path: Path) -> None:
    assert made("sert", distil=False, gate=False).labels == "none"
    assert unlabelled("sert", tmp_path, distil=False, gate=False, **SMALL)
