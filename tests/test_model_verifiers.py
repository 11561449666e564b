"""A run whose samples are judged by models: a reward model that the run itself trains, a likelihood, and a judge."""

from pathlib import Path

import pytest

from selftrain.loop.launch import Run
from selftrain.records import Checkpoint, Pick, Row, Verdict
from selftrain.store import Store
from tests.backends import tiny
from tests.front_door import call

RECIPE = '''
"""Keep what a reward model, trained in the same round on verified pairs, likes best."""

import json

from selftrain.recipe import Model, Recipe
from selftrain.stages import (
    SFT, Evaluate, Gate, Generate, MakeExamples, MakePairs, Pair, Reward, Select, Train, Verify,
)

LIKELIHOOD = json.dumps({"name": "likelihood", "of": "answer", "threshold": -3})
GIVEN = json.dumps({"name": "reward_model", "model": "GIVEN"})
JUDGE = json.dumps({"name": "judge", "mode": "yes_no", "max_tokens": 8})


def likely_and_best(attempts):
    """Keep the two of the greatest reward among those whose reasoning makes the gold answer likely."""
    def reward(attempt):
        return next(v.score for v in attempt.verdicts if v.by == "reward_model")

    likely = [a for a in attempts if any(v.by == LIKELIHOOD and v.status == "pass" for v in a.verdicts)]
    best = sorted(likely, key=reward, reverse=True)[:2]
    return [a for a in attempts if a in best]


def recipe(*, rounds=1):
    return Recipe(
        paper="none: a test",
        rounds=rounds,
        models={"policy": Model(), "reward": Model()},
        each_round=[
            Generate(n=4, temperature=1.0, max_new_tokens=48),
            Verify(),
            Pair(of=("generate", "verify")),
            MakePairs(name="build-reward", of=("pair",), model="reward", plain=True),
            Train(name="train-reward", of=("build-reward",), model="reward", loss=Reward(), adapter="full",
                  settings={"learning_rate": 1e-3}),
            Verify(name="likely", of=("generate",), by=LIKELIHOOD, model="policy"),
            Verify(name="given", of=("generate",), by=GIVEN),
            Verify(name="judged", of=("generate",), by=JUDGE, model="policy"),
            Verify(name="rewarded", of=("generate",), by="reward_model", model="reward"),
            Select(of=("generate", "likely", "rewarded"), rules=(likely_and_best,)),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), settings={"learning_rate": 3e-3}),
            Evaluate(max_new_tokens=48),
            Gate(),
        ],
    )
'''


@pytest.mark.slow
def test_models_judge_in_a_run(tmp_path: Path) -> None:
    reward_model = tiny.classifier(tmp_path / "reward", tiny.make(tmp_path / "tiny"))
    (tmp_path / "liked.py").write_text(RECIPE.replace('GIVEN"}', f'{reward_model}"}}'))
    out = tmp_path / "run"
    command = ("run", tmp_path / "liked.py", "model=nano", "data=sums", "pool=24", "valid=12", "test=12")
    answer = call(*command, "--out", out)
    assert answer.code in (0, 3), answer
    stages = Store(out).stages(1)
    verdicts = {
        name: [v for shard in stages[name].shards() for v in stages[name].read(Verdict, shard)]
        for name in ("verify", "likely", "given", "judged", "rewarded")
    }
    assert {name: len(found) for name, found in verdicts.items()} == dict.fromkeys(verdicts, 96)
    statuses = {name: {v.status for v in found} for name, found in verdicts.items()}
    assert statuses["verify"] == statuses["likely"] == {"pass", "fail"}
    assert statuses["given"] == statuses["rewarded"] == {"scored"}
    assert statuses["judged"] <= {"scored", "abstain"}
    assert any(v.status == "scored" for v in verdicts["judged"])
    likely = {v.sample for v in verdicts["likely"] if v.status == "pass"}
    picks = [p for shard in stages["select"].shards() for p in stages["select"].read(Pick, shard)]
    kept = {p.sample for p in picks if p.side == "kept"}
    assert kept
    assert kept <= likely
    pairs = [row for shard in stages["build-reward"].shards() for row in stages["build-reward"].read(Row, shard)]
    assert {row.kind for row in pairs} == {"chosen", "rejected"}
    (trained,) = stages["train-reward"].read(Checkpoint, 0)
    run = Run.open(out)
    base = run.checkpoint(0)
    assert trained.role == "reward"
    assert trained.id != base.id
    assert run.checkpoint(1, model="reward") == trained
    assert run.checkpoint(1).role == "policy"
    # The scores are the trained model's: right samples are worth more than wrong ones to it.
    right = {v.sample: v.status == "pass" for v in verdicts["verify"]}
    scores: dict[bool, list[float]] = {True: [], False: []}
    for verdict in verdicts["rewarded"]:
        assert verdict.score is not None
        scores[right[verdict.sample]].append(verdict.score)
    mean = {side: sum(found) / len(found) for side, found in scores.items()}
    assert mean[True] > mean[False]
    again = call(*command, "--out", out)
    assert again.code == answer.code
