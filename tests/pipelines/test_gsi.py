"""GSI: what is unsolved gets hinted samples, the hardest quarter its quota of rows, and difficulty stays frozen."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from selftrain.recipe import Recipe
from selftrain.records import Row, Verdict
from selftrain.stages import Generate, Select
from selftrain.testing import FakeBackends, FakeTokens, adds, fake_run
from tests.pipelines.stored import as_asked, kept, made, read, samples, settings, with_stage

SMALL: dict[str, Any] = {"samples": 4, "guided": 4, "keep": 4, "max_new_tokens": 60}


def tailed(prompt: str, skill: float, stream: Random) -> str:
    """Solves the second half of the pool always and the first hardly ever, in many wordings."""
    hint = prompt.strip().splitlines()[-1].startswith("(The answer is")
    sure = 1.0 if "user: 0+0" not in prompt and int(prompt.partition("+")[2].partition("=")[0]) >= 6 else 0.0
    return f"{stream.randrange(999)}: {adds(prompt, 1.0 if hint else sure, stream)}"


def hard(root: Path) -> set[str]:
    """The hardest quarter by the pass rate in round 1's plain samples, counted here anew."""
    sampled = samples(root, "generate")
    right: Counter[str] = Counter()
    for v in read(root, Verdict, "verify"):
        right[sampled[v.sample].problem] += v.status == "pass"
    order = sorted((right[id], id) for id in {s.problem for s in sampled.values()})
    return {id for _, id in order[: len(order) // 4]}


def counted(root: Path) -> Counter[str]:
    """How many rows each problem has."""
    sampled = samples(root, "generate", "guided")
    return Counter(sampled[id].problem for id in kept(root))


def hardest_have(quota: float, root: Path, recipe: Recipe) -> bool:
    """Whether so great a share of the rows is of the hardest quarter."""
    fake_run(recipe, root, backends=FakeBackends(tailed))
    rows = counted(root)
    assert len(hard(root)) == 3
    return sum(rows[id] for id in hard(root)) >= quota * sum(rows.values())


@pytest.mark.parametrize("quota", [0.25, 0.4])
def test_the_hardest_quarter_has_its_quota_of_the_rows(tmp_path: Path, quota: float) -> None:
    assert hardest_have(quota, tmp_path, made("gsi", rounds=1, quota=quota, **SMALL))
    rows = counted(tmp_path)
    ours = sum(rows[id] for id in hard(tmp_path))
    assert ours == 12
    cap = settings(tmp_path, "select")["cap"]
    assert max(count for id, count in rows.items() if id not in hard(tmp_path)) == cap
    # One more a problem would break the quota.
    assert cap == 4 or ours < quota * (ours + 9 * (cap + 1))


def test_without_a_quota_all_problems_have_the_same_cap(tmp_path: Path) -> None:
    assert not hardest_have(0.4, tmp_path, made("gsi", rounds=1, quota=0.0, **SMALL))
    assert settings(tmp_path, "select")["cap"] == 4


def hints_the_unsolved(root: Path, recipe: Recipe) -> bool:
    """Whether exactly the problems that no plain sample solved are sampled with the hint."""
    fake_run(recipe, root, backends=FakeBackends(tailed))
    plain, guided = samples(root, "generate"), samples(root, "guided")
    solved = {plain[v.sample].problem for v in read(root, Verdict, "verify") if v.status == "pass"}
    assert solved
    return {s.problem for s in guided.values()} == {s.problem for s in plain.values()} - solved


def shows_no_hint(root: Path) -> bool:
    """Whether no row's prompt holds the hint, though some rows are of hinted samples."""
    rows = read(root, Row, "build")
    assert {id for row in rows for id in row.sources} & set(samples(root, "guided"))
    return not any("The answer is" in FakeTokens().decode(row.segments[0].ids) for row in rows)


def test_only_what_is_unsolved_is_hinted_and_no_row_shows_the_hint(tmp_path: Path) -> None:
    recipe = made("gsi", rounds=1, **SMALL)
    assert hints_the_unsolved(tmp_path / "a", recipe)
    assert shows_no_hint(tmp_path / "a")
    assert hints_the_unsolved(tmp_path / "b", as_asked(recipe))
    assert not shows_no_hint(tmp_path / "b")
    assert not hints_the_unsolved(tmp_path / "c", with_stage(recipe, Generate, "guided", only="all"))


def test_difficulty_is_that_of_the_first_samples_in_every_round(tmp_path: Path) -> None:
    def turned(prompt: str, skill: float, stream: Random) -> str:
        """After the first training it is the other half that is hard."""
        return tailed(prompt, skill, stream) if skill < 0.4 else adds(prompt, 1.0, stream)

    def frozen(root: Path, recipe: Recipe) -> bool:
        """Whether round 2 draws the line of round 1."""
        fake_run(recipe, root, backends=FakeBackends(turned))
        return bool(settings(root, "select", 2)["hard"] == settings(root, "select", 1)["hard"])

    recipe = made("gsi", rounds=2, **SMALL)
    assert frozen(tmp_path, recipe)
    # Sabotage: the samples of the second round join in saying how hard a problem is.
    assert not frozen(tmp_path / "thawed", with_stage(recipe, Select, first=8))
    passed: Counter[str] = Counter()
    second = samples(tmp_path, "generate", round=2)
    for v in read(tmp_path, Verdict, "verify", 2):
        passed[second[v.sample].problem] += v.status == "pass"
    assert all(passed[id] == 4 for id in hard(tmp_path))
