"""ENVISIONS: refinements take a candidate's place, likelihood ranks the pool, the pool lasts, left-over ones repair."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from selftrain.lab import Completion, Request
from selftrain.recipe import Stage
from selftrain.records import Problem, Row, Sample, Verdict
from selftrain.testing import FakeBackends, FakeSampler, FakeTokens, adds, fake_run
from tests.pipelines.stored import made, problems, read, samples, trained_on

SMALL: dict[str, Any] = {"samples": 4, "keep": 3, "max_new_tokens": 60}


def worded(text: str, skill: float, draw: Random) -> str:
    """Sums in many wordings."""
    return f"{draw.randrange(9999)}: {adds(text, 0.5, draw)}"


class Likely(FakeSampler):
    """A model that likes some wordings better than others."""

    def sample(self, requests: Sequence[Request], *, seed: int) -> Iterator[Completion]:
        asked = {request.id: request for request in requests}
        for done in super().sample(requests, seed=seed):
            said = asked[done.id].sampling.logprob
            yield replace(done, logprob=-float(done.text.partition(":")[0]) if said else None)


class LikelyBackends(FakeBackends):
    def sampler(self, checkpoint: Path) -> Likely:
        self.samplers.append(Likely(checkpoint, self.answer))
        return Likely(checkpoint, self.answer)


def mean(sample: Sample) -> float:
    assert sample.logprob is not None
    return sample.logprob / len(sample.completion_ids)


def statuses(root: Path, *stages: str, round: int = 1) -> dict[str, str]:
    return {v.sample: v.status for stage in stages for v in read(root, Verdict, stage, round)}


def ranked(root: Path, round: int = 1) -> bool:
    """Whether the solving rows are the likeliest right ones of all rounds so far, one left over if there are more."""
    right: dict[str, dict[str, Sample]] = defaultdict(dict)
    for number in range(1, round + 1):
        said = statuses(root, "verify-merged", round=number)
        for sample in samples(root, "merge", round=number).values():
            if said[sample.id] == "pass":
                right[sample.problem].setdefault(sample.text, sample)
    rows = trained_on(root, round=round)
    solving: set[str] = set()
    for group in right.values():
        if any(each.logprob is None for each in group.values()):
            return False
        order = sorted(group.values(), key=lambda each: -mean(each))
        solving |= {each.id for each in order[: min(3, max(1, len(order) - 1))]}
    return solving == rows - set(samples(root, "gather", round=round))


def test_a_refinement_takes_its_candidates_place_where_it_is_better(tmp_path: Path) -> None:
    fake_run(made("envisions", rounds=1, **SMALL), tmp_path, backends=LikelyBackends(worded))
    first, refined = samples(tmp_path, "generate"), samples(tmp_path, "refine")
    said = statuses(tmp_path, "verify", "verify-refined")
    after = {each.parents[0]: each for each in refined.values()}
    taken = {each.parents[0] for each in samples(tmp_path, "merge").values()}
    assert taken & set(first)
    assert taken & set(refined)
    for id, sample in first.items():
        other = after[id]
        better = said[other.id] == "pass" and (said[id] != "pass" or mean(other) > mean(sample))
        assert (other.id in taken) is better
        assert (id in taken) is not better


def test_the_likeliest_right_ones_of_all_rounds_are_learned(tmp_path: Path) -> None:
    fake_run(made("envisions", rounds=2, **SMALL), tmp_path, backends=LikelyBackends(worded))
    assert ranked(tmp_path)
    assert ranked(tmp_path, round=2)
    assert trained_on(tmp_path, round=2) & set(samples(tmp_path, "merge", round=1))

    # Without likelihoods nothing is ranked, and that is seen.
    def unranked(stage: Stage) -> Stage:
        return replace(stage, logprob=False) if stage.name in ("generate", "refine") else stage  # type: ignore[call-arg]

    recipe = made("envisions", rounds=1, **SMALL).changed(unranked)
    fake_run(recipe, tmp_path / "other", backends=LikelyBackends(worded))
    assert not ranked(tmp_path / "other")


def test_left_over_right_ones_repair_wrong_ones(tmp_path: Path) -> None:
    fake_run(made("envisions", rounds=1, **SMALL), tmp_path, backends=LikelyBackends(worded))
    merged, repairs = samples(tmp_path, "merge"), samples(tmp_path, "gather")
    said = statuses(tmp_path, "verify-merged")
    rows = {row.sources[0]: row for row in read(tmp_path, Row, "build")}
    asked = {p.id: p for p in read(tmp_path, Problem, "gather")}
    assert repairs
    for repair in repairs.values():
        good, bad = repair.parents
        assert (said[good], said[bad]) == ("pass", "fail")
        assert good not in rows
        assert asked[repair.problem].parent == merged[good].problem == merged[bad].problem
        prompt, response = (FakeTokens().decode(part.ids) for part in rows[repair.id].segments)
        assert prompt.startswith(f"user: {problems(tmp_path)[merged[good].problem].text}\nassistant: ")
        assert merged[bad].text in prompt
        assert response == merged[good].text
