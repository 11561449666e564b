"""Judge and likelihood with a real model: nano, served by the transformers sampler, asked through the worker pool."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from selftrain.backends.models import resolve
from selftrain.backends.pool import VerifierPool
from selftrain.backends.tokens import Tokenizer
from selftrain.backends.transformers_sampler import TransformersSampler
from selftrain.lab import EngineModel
from selftrain.records import Problem, Verdict
from tests.front_door import call, refused
from tests.verifiers.asked import samples

SUMS = {
    "What is 12+7?": ("19", ["2+7=9\n1=1\n#### 19", "2+7=9\n1=1\n#### 91", "zzz", ""]),
    "What is 47+85?": ("132", ["7+5=12\n4+8+1=13\n#### 132", "7+5=12\n4+8=12\n#### 122", "x" * 600]),
}
ITEMS = [
    (problem, sample)
    for question, (answer, texts) in SUMS.items()
    for problem in [Problem.of(question, answer=answer)]
    for sample in samples(problem, texts)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineModel]:
    from selftrain.backends import checkpoints

    folder = tmp_path_factory.mktemp("nano") / "checkpoint"
    checkpoints.prepare(resolve("nano"), folder)
    sampler = TransformersSampler(folder, settings={}, log=folder.parent / "sampler.log")
    yield EngineModel(lambda: sampler, Tokenizer(checkpoints.serve_of(folder)), "test", 0, folder)
    sampler.close()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierPool]:
    with VerifierPool(workers=1, log=tmp_path_factory.mktemp("pool") / "log") as pool:
        yield pool


def judged(pool: VerifierPool, model: EngineModel, **spec: object) -> dict[str, Verdict]:
    found = {verdict.sample: verdict for verdict in pool.verify(json.dumps(spec), ITEMS, model=model)}
    assert len(found) == len(ITEMS)
    return found


def own(model: EngineModel, prompt: str, text: str) -> list[float]:
    """The log-probabilities of the response's characters by plain transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    nano = AutoModelForCausalLM.from_pretrained(resolve("nano"), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(resolve("nano"))
    turns = [{"role": "user", "content": prompt}]
    before = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    ids = [*before, *tokenizer(text)["input_ids"]]
    with torch.no_grad():
        logprobs = nano(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(logprobs[at - 1, ids[at]]) for at in range(len(before), len(ids))]


def test_likelihoods_are_the_models_own(pool: VerifierPool, model: EngineModel) -> None:
    verdicts = judged(pool, model, name="likelihood", number="sum")
    for problem, sample in ITEMS:
        verdict = verdicts[sample.id]
        if sample.text.startswith("x"):
            assert (verdict.status, "longer than the model's context" in verdict.why) == ("error", True)
        elif not sample.text:
            assert verdict.status == "abstain"
        else:
            assert verdict.status == "scored"
            assert verdict.score == pytest.approx(sum(own(model, problem.text, sample.text)), abs=1e-3)


def test_the_answers_likelihood_is_that_of_its_characters(pool: VerifierPool, model: EngineModel) -> None:
    verdicts = judged(pool, model, name="likelihood", of="answer", number="sum")
    for at, (text, answer) in ((1, ("2+7=9\n1=1\n#### 19", "19")), (5, ("7+5=12\n4+8=12\n#### 132", "132"))):
        problem, sample = ITEMS[at]
        wanted = sum(own(model, problem.text, text)[-len(answer) - 1 :])
        assert verdicts[sample.id].score == pytest.approx(wanted, abs=1e-3)


def test_nano_says_yes_or_no(pool: VerifierPool, model: EngineModel) -> None:
    first = judged(pool, model, name="judge", mode="yes_no", max_tokens=8)
    statuses = [first[sample.id].status for _, sample in ITEMS]
    assert set(statuses[:2] + statuses[4:6]) == {"scored"}
    assert statuses[-1] == "error"
    scores = {verdict.score for verdict in first.values() if verdict.status == "scored"}
    assert scores <= {0.0, 1.0}
    again = judged(pool, model, name="judge", mode="yes_no", max_tokens=8)
    assert {s: (v.status, v.score) for s, v in again.items()} == {s: (v.status, v.score) for s, v in first.items()}


def test_what_nano_cannot_say_abstains(pool: VerifierPool, model: EngineModel) -> None:
    # It has never seen such a prompt; whatever it replies, nothing is made of it but a rating on the scale.
    verdicts = judged(pool, model, name="judge", template="pointwise", scale=[0, 1], max_tokens=8)
    assert {verdict.status for verdict in verdicts.values()} <= {"abstain", "scored", "error"}
    assert all(v.score is not None and 0 <= v.score <= 1 for v in verdicts.values() if v.status == "scored")


def test_the_commands_that_judge_ask_the_model_that_is_named(tmp_path: Path) -> None:
    labelled = tmp_path / "labelled.jsonl"
    rows = [
        {"id": s.id, "prompt": p.text, "answer": p.answer, "response": s.text, "label": at % 4 == 0}
        for at, (p, s) in enumerate(ITEMS)
        if 0 < len(s.text) < 100
    ]
    labelled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "--model" in refused("verify", "likelihood", "--in", labelled)
    assert "did you mean nano?" in refused("audit", "likelihood", "--labelled", labelled, "--model", "nanoo")
    answer = call("audit", "likelihood", "--labelled", labelled, "--model", "nano", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)["verifiers"][0]
    assert found["undecided"]["scored"]["value"] == 1.0
    assert found["auc"]["value"] > 0.5
