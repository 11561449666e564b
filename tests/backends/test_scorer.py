"""Reward and process models in the scorer's process, alone and behind the verifiers that ask them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from selftrain.backends.models import resolve
from selftrain.backends.pool import VerifierPool
from selftrain.backends.scorer import ScorerProcess
from selftrain.errors import EngineError, ModelError, PluginError
from selftrain.records import Message, Problem, Sample
from selftrain.verification.steps import split
from tests.backends import tiny
from tests.verifiers.asked import samples

TEXTS = ("4", "7+5=12\n4+8=12\n#### 132", "no", "x" * 150)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScorerProcess]:
    with ScorerProcess(log=tmp_path_factory.mktemp("scorer") / "scorer.log") as scorer:
        yield scorer


def talk(response: str, question: str = "What is 2+2?") -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": response}]


def logits(folder: Path, ids: Sequence[int], auto: str) -> Any:
    """What transformers itself says to a single sequence."""
    import torch
    import transformers

    model = getattr(transformers, auto).from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_rewards_are_those_of_transformers_whatever_the_batch(scorer: ScorerProcess, reward_model: Path) -> None:
    together = scorer.score(str(reward_model), [talk(text) for text in TEXTS])
    known = tokenizer(reward_model)
    for text, score in zip(TEXTS, together, strict=True):
        ids = known.apply_chat_template(talk(text), return_dict=True)["input_ids"]
        own = logits(reward_model, ids, "AutoModelForSequenceClassification")
        assert score == pytest.approx(own.item(), abs=1e-5)
        assert scorer.score(str(reward_model), [talk(text)]) == pytest.approx([score], abs=1e-5)
    assert len(set(together)) == len(TEXTS)


@pytest.mark.slow
def test_vllm_gives_the_rewards_that_transformers_gives(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    folder = tiny.classifier(tmp_path / "reward", resolve("nano"))
    texts = [text for text in TEXTS if text]
    with ScorerProcess(log=tmp_path / "scorer.log") as scorer:
        known = scorer.score(str(folder), [talk(text) for text in texts])
        served = scorer.score(str(folder), [talk(text) for text in texts], engine="vllm")
        assert served == pytest.approx(known, abs=1e-4)
        with pytest.raises(ValueError, match="longer than the context"):
            scorer.score(str(folder), [talk("x" * 600)], engine="vllm")
        with pytest.raises(ModelError, match="is not a reward model"):
            scorer.score(str(resolve("nano")), [talk("4")], engine="vllm")
        with pytest.raises(ModelError, match="transformers or vllm"):
            scorer.score(str(folder), [talk("4")], engine="other")
    items = samples(Problem.of("What is 2+2?", answer="4"), texts)
    spec = json.dumps({"name": "reward_model", "model": str(folder), "engine": "vllm"})
    with VerifierPool(workers=1, log=tmp_path / "verifiers.log") as pool:
        problem = Problem.of("What is 2+2?", answer="4")
        said = {v.sample: v.score for v in pool.verify(spec, [(problem, each) for each in items])}
    assert [said[each.id] for each in items] == pytest.approx(known, abs=1e-4)


@pytest.mark.parametrize("labels", [1, 2])
def test_steps_are_read_at_their_last_token(
    scorer: ScorerProcess, process_model: Path, tiny_model: Path, tmp_path: Path, labels: int
) -> None:
    import torch

    one = labels == 1
    folder = tiny.classifier(tmp_path / "one", tiny_model, tokens=True) if one else process_model
    question: list[Message] = [{"role": "user", "content": "What is 47+85?"}]
    responses = [split(text) for text in TEXTS]
    known = tokenizer(folder)
    prompt = known.apply_chat_template(question, add_generation_prompt=True, return_dict=True)["input_ids"]
    for steps, scores in zip(responses, scorer.step_scores(str(folder), question, responses), strict=True):
        ids, ends = list(prompt), []
        for step in steps:
            ids += known(step, add_special_tokens=False)["input_ids"]
            ends.append(len(ids) - 1)
        own = logits(folder, ids, "AutoModelForTokenClassification")
        right = own[:, 0].sigmoid() if one else torch.softmax(own, -1)[:, 1]
        assert scores == pytest.approx(right[ends].tolist(), abs=1e-5)
        assert all(0 < score < 1 for score in scores)


def test_a_model_without_the_head_is_refused_in_one_line(
    scorer: ScorerProcess, tiny_model: Path, reward_model: Path, process_model: Path, tmp_path: Path
) -> None:
    two = tiny.classifier(tmp_path / "two", tiny_model, labels=2)
    headless = tmp_path / "headless"
    headless.mkdir()
    for path in tiny_model.iterdir():
        (headless / path.name).write_bytes(path.read_bytes())
    config = json.loads((headless / "config.json").read_text())
    config |= {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    (headless / "config.json").write_text(json.dumps(config))
    for folder, why in (
        (tiny_model, "is not a reward model: it is a LlamaForCausalLM"),
        (process_model, "is not a reward model: it is a LlamaForTokenClassification"),
        (two, "its head has 2 labels, not 1"),
        (headless, "its weights lack score.weight"),
        (tmp_path / "nowhere", "is not there"),
    ):
        with pytest.raises(ModelError, match=why) as met:
            scorer.score(str(folder), [talk("4")])
        assert "\n" not in str(met.value)
    with pytest.raises(ModelError, match="is not a process model: it is a LlamaForSequenceClassification"):
        scorer.step_scores(str(reward_model), [{"role": "user", "content": "?"}], [["a"]])


def test_a_conversation_that_does_not_fit_is_refused(scorer: ScorerProcess, reward_model: Path) -> None:
    with pytest.raises(ValueError, match=r"of \d+ tokens is longer than the context .* 256"):
        scorer.score(str(reward_model), [talk("fine"), talk("x" * 300)])
    assert len(scorer.score(str(reward_model), [talk("fine")])) == 1


def test_several_threads_and_models_share_the_process(
    scorer: ScorerProcess, reward_model: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folders = [reward_model, *(tiny.classifier(tmp_path / f"{n}", tiny_model, seed=n) for n in range(1, 4))]
    alone = [scorer.score(str(folder), [talk(text) for text in TEXTS]) for folder in folders]
    assert len({scores[0] for scores in alone}) == 4
    found: dict[int, list[float]] = {}

    def ask(at: int) -> None:
        found[at] = scorer.score(str(folders[at % 4]), [talk(text) for text in TEXTS])

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for at in range(8):
        assert found[at] == alone[at % 4]


def test_a_lost_process_is_an_engine_error_and_the_next_question_starts_another(
    reward_model: Path, tmp_path: Path
) -> None:
    with ScorerProcess(log=tmp_path / "scorer.log") as scorer:
        before = scorer.score(str(reward_model), [talk("4")])
        assert scorer.pid is not None
        os.kill(scorer.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match=r"is gone \(exit status -9\)"):
            scorer.score(str(reward_model), [talk("4")])
        assert scorer.score(str(reward_model), [talk("4")]) == before
    with pytest.raises(EngineError, match="closed"):
        scorer.score(str(reward_model), [talk("4")])


def test_closing_tells_who_waits(tmp_path: Path) -> None:
    scorer = ScorerProcess(log=tmp_path / "scorer.log")
    met: list[Exception] = []

    def ask() -> None:
        try:
            scorer.score(str(tmp_path), [talk("4")])
        except EngineError as error:
            met.append(error)

    with pytest.raises(ModelError):
        scorer.score("nowhere/at/all", [talk("4")])
    assert scorer.pid is not None
    os.kill(scorer.pid, signal.SIGSTOP)
    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.5)
    scorer.close()
    thread.join(10)
    assert "closed while it was scoring" in str(met[0])


def test_it_dies_with_its_owner(reward_model: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from selftrain.backends.scorer import ScorerProcess\n"
        "scorer = ScorerProcess(log=Path(sys.argv[1]))\n"
        "try: scorer.score('nowhere/at/all', [])\n"
        "except ValueError: print(scorer.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        owner.kill()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierPool]:
    with VerifierPool(workers=1, log=tmp_path_factory.mktemp("pool") / "verifiers.log") as pool:
        yield pool


def items() -> list[tuple[Problem, Sample]]:
    problems = [Problem.of("What is 2+2?"), Problem.of("What is 3+3?")]
    texts = [*TEXTS[:3], "y" * 300, ""]
    return [(problem, sample) for problem in problems for sample in samples(problem, texts)]


def test_the_reward_verifier_scores_and_decides(pool: VerifierPool, scorer: ScorerProcess, reward_model: Path) -> None:
    spec = {"name": "reward_model", "model": str(reward_model)}
    verdicts = {verdict.sample: verdict for verdict in pool.verify(json.dumps(spec), items())}
    for problem, sample in items():
        verdict = verdicts[sample.id]
        if sample.text.startswith("y"):
            assert (verdict.status, "longer than the context" in verdict.why) == ("error", True)
        else:
            own = scorer.score(str(reward_model), [talk(sample.text, problem.text)])
            assert verdict.status == "scored"
            assert verdict.score == pytest.approx(own[0], abs=1e-5)
    scores = sorted(v.score for v in verdicts.values() if v.score is not None)
    again = pool.verify(json.dumps({**spec, "threshold": scores[4]}), items())
    assert sorted(v.status for v in again) == ["error"] * 2 + ["fail"] * 4 + ["pass"] * 4


@pytest.mark.parametrize("aggregate", ["min", "product", "mean", "last"])
def test_the_process_verifier_makes_one_of_the_steps(pool: VerifierPool, process_model: Path, aggregate: str) -> None:
    spec = json.dumps({"name": "process_reward", "model": str(process_model), "aggregate": aggregate})
    verdicts = {verdict.sample: verdict for verdict in pool.verify(spec, items())}
    for _, sample in items():
        verdict = verdicts[sample.id]
        if not sample.text:
            assert (verdict.status, verdict.why) == ("abstain", "the response has no step")
        elif sample.text.startswith("y"):
            assert verdict.status == "error"
        else:
            steps = verdict.step_scores
            assert len(steps) == len(sample.text.splitlines())
            product = 1.0
            for step in steps:
                product *= step
            wanted = {"min": min(steps), "product": product, "mean": sum(steps) / len(steps), "last": steps[-1]}
            assert verdict.score == pytest.approx(wanted[aggregate])


class Named:
    """The model that a stage names, which nobody asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sample(self, *args: Any, **settings: Any) -> list[list[str]]:
        raise NotImplementedError

    def score(self, pairs: Any) -> list[tuple[float, ...]]:
        raise NotImplementedError


def test_without_a_model_of_its_own_it_takes_the_stages(
    pool: VerifierPool, reward_model: Path, process_model: Path
) -> None:
    for name, model in (("reward_model", reward_model), ("process_reward", process_model)):
        own = {v.sample: v.score for v in pool.verify(json.dumps({"name": name, "model": str(model)}), items()[:3])}
        found = {v.sample: v.score for v in pool.verify(name, items()[:3], model=Named(model))}
        assert found == own
        with pytest.raises(PluginError, match=r"names none; set its \"model\", or name one of the recipe's"):
            list(pool.verify(name, items()[:3]))


def test_a_model_that_is_not_there_ends_the_call_and_is_no_verdict(pool: VerifierPool, tiny_model: Path) -> None:
    for model, why in (("nowhere/at/all", "is not there"), (str(tiny_model), "is not a reward model")):
        with pytest.raises(ModelError, match=why):
            list(pool.verify(json.dumps({"name": "reward_model", "model": model}), items()))
    assert [v.status for v in pool.verify("exact", items()[:1])] == ["error"]
