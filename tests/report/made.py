"""A run by the real engine with a fake model, whose texts are as bad as texts of models can be."""

import random
import re
from pathlib import Path
from typing import Any

import yaml

from selftrain.loop import config
from selftrain.records import Problem
from selftrain.testing import FakeBackends, adds, fake_run, sums

NASTY = (
    '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=2"><svg onload="window.hacked=3">'
    "{{ 7 }}{% raw %}${hacked}<!-- \x1b[31mred\x07 \u202eback\u202c zero\u200bwidth \u0639\u0631\u0628\u064a"
)
SETTINGS = {"model": "nano", "data": "sums", "samples": 3, "keep": 2, "max_new_tokens": 400, "evaluate.samples": 2}


def says(prompt: str, skill: float, stream: random.Random) -> str:
    """Answer a sum after something nasty; the easy ones rightly, the others by skill."""
    _, second = re.findall(r"(\d+)\+(\d+)=", prompt)[-1]
    return f"{NASTY}\n{adds(prompt, 1.0 if int(second) % 5 == 0 else skill, stream)}"


def asked(count: int, split: str, first: int) -> list[Problem]:
    """Sums with something nasty before them."""
    return [
        Problem.of(f"<b>{NASTY}</b> {each.text}", answer=each.answer, verifier="number", split=split)
        for each in sums(count, split, first)
    ]


def make_run(root: Path, *, rounds: int = 2, gain: float = 0.3, recipe: str = "rest_em", **more: Any) -> Path:
    """Store a run in a folder, with a run file as a real one has it; `more` are settings of the recipe."""
    job = config.load(recipe, {**(SETTINGS if recipe == "rest_em" else {"model": "nano"}), "rounds": rounds, **more})
    problems = {"train": asked(10, "train", 0), "valid": asked(6, "valid", 200), "test": asked(6, "test", 400)}
    fake_run(job.recipe, root, problems=problems, backends=FakeBackends(says, gain))
    (root / "run.yaml").write_text(f"format: 1\n{yaml.safe_dump(job.as_file())}", encoding="utf-8")
    (root / "environment.json").write_text('{"python": "3.11", "cores": 2, "cuda": false, "packages": {}}\n')
    return root
