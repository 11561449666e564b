"""What the sampler says, what the trainer learns from, and what is exported are the same, for three families."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from selftrain.after.export import export
from selftrain.backends import checkpoints, parity, rows
from selftrain.backends.tokens import Tokenizer
from selftrain.backends.trainer import TrlTrainer
from selftrain.backends.transformers_sampler import TransformersSampler
from selftrain.backends.weights import digest
from selftrain.errors import ModelError
from selftrain.lab import Completion, Request, Sampling, Scored, TrainJob
from selftrain.records import Message, Row, Segment
from tests.backends import tiny
from tests.parity import families

pytestmark = pytest.mark.slow

QUESTIONS = [f"What is {n} + {n * 3}? Think step by step. " + "Carefully! " * (n % 4) for n in range(8)]


class Family(NamedTuple):
    """A model of a family, as a run has it at its beginning."""

    name: str
    model: Path
    checkpoint: Path
    tokens: Tokenizer
    prompts: list[tuple[int, ...]]


def asked(question: str) -> list[Message]:
    return [{"role": "user", "content": question}]


@pytest.fixture(scope="module", params=families.FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp(request.param)
    model = families.make(request.param, folder / "model")
    checkpoints.prepare(model, folder / "checkpoint")
    tokens = Tokenizer(checkpoints.serve_of(folder / "checkpoint"))
    return Family(request.param, model, folder / "checkpoint", tokens, [tokens.render(asked(q)) for q in QUESTIONS])


@pytest.fixture(scope="module")
def said(family: Family, tmp_path_factory: pytest.TempPathFactory) -> list[Completion]:
    """Greedy responses of the run's sampler."""
    sampler = TransformersSampler(family.checkpoint, log=tmp_path_factory.mktemp("logs") / "engine.log")
    try:
        return greedy(sampler, family)
    finally:
        sampler.close()


def greedy(sampler: Any, family: Family) -> list[Completion]:
    sampling = Sampling(temperature=0.0, max_tokens=24, logprob=True)
    requests = [Request(id=str(at), prompt_ids=ids, sampling=sampling) for at, ids in enumerate(family.prompts)]
    return sorted(sampler.sample(requests, seed=0), key=lambda each: int(each.id))


def plain(family: Family) -> Any:
    """The model as transformers loads it, without anything of selftrain's."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(family.model, dtype=torch.float32).eval()


def built(family: Family, said: list[Completion]) -> list[Row]:
    """Rows as a run builds them: the prompt as it was asked, the completion as it was sampled."""
    return [
        Row(
            id=f"row{at}",
            kind="example",
            segments=(Segment(ids=prompt, train=False), Segment(ids=each.ids, train=True)),
        )
        for at, (prompt, each) in enumerate(zip(family.prompts, said, strict=True))
    ]


def test_a_prompt_has_the_ids_that_transformers_gives_it(family: Family) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(family.model)
    for question, ids in zip(QUESTIONS, family.prompts, strict=True):
        whole = theirs.apply_chat_template(asked(question), add_generation_prompt=True, return_dict=True)["input_ids"]
        assert tuple(whole) == ids
        # One token that begins a text, where the family has one, and never two.
        starts = [each for each in ids if each == theirs.bos_token_id] if theirs.bos_token_id is not None else []
        assert len(starts) == (1 if family.name == "gemma" else len(starts))


def test_the_sampler_says_what_transformers_says(family: Family, said: list[Completion]) -> None:
    import torch

    model = plain(family)
    for prompt, each in zip(family.prompts, said, strict=True):
        ids = torch.tensor([prompt])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
        assert tuple(out[0, len(prompt) :].tolist()) == each.ids
        logits = model(torch.tensor([[*prompt, *each.ids]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        told = logits.gather(-1, torch.tensor(each.ids)[:, None]).sum().item()
        assert each.logprob == pytest.approx(told, abs=2e-3)


def test_the_trainer_gets_these_ids_and_learns_the_completion_alone(
    family: Family, said: list[Completion], tmp_path: Path
) -> None:
    from selftrain.backends.row_trainer import RowCollator

    columns = rows.columns([tiny.write(built(family, said), tmp_path / "rows.parquet")])
    assert [tuple(ids) for ids in columns["input_ids"]] == [
        (*prompt, *each.ids) for prompt, each in zip(family.prompts, said, strict=True)
    ]
    for prompt, each, labels in zip(family.prompts, said, columns["labels"], strict=True):
        assert list(labels) == [-100] * len(prompt) + list(each.ids)
    batch = RowCollator(0)(
        [{name: columns[name][at] for name in ("input_ids", "labels", "weight")} for at in range(len(said))]
    )
    for at, (prompt, each) in enumerate(zip(family.prompts, said, strict=True)):
        kept = batch["attention_mask"][at].bool()
        assert batch["input_ids"][at][kept].tolist() == [*prompt, *each.ids]
        assert batch["labels"][at][batch["labels"][at] != -100].tolist() == list(each.ids)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrlTrainer]:
    trainer = TrlTrainer(log=tmp_path_factory.mktemp("trainer") / "trainer.log")
    yield trainer
    trainer.close()


def test_the_first_loss_is_what_the_sampler_says_and_the_merge_is_the_adapter(
    family: Family, said: list[Completion], trainer: TrlTrainer, tmp_path: Path
) -> None:
    file = tiny.write(built(family, said), tmp_path / "rows.parquet")
    settings = {"max_steps": 3, "learning_rate": 5e-3, "per_device_train_batch_size": len(said), "bf16": False}
    done = trainer.train(
        TrainJob(rows=(file,), start=family.checkpoint, out=tmp_path / "train", settings=settings), lambda steps: None
    )
    tokens = sum(len(each.ids) for each in said)
    assert done.loss[0] == pytest.approx(-sum(each.logprob or 0.0 for each in said) / tokens, abs=2e-4)
    assert done.loss[-1] != done.loss[0]
    made = export(done.path, tmp_path / "out", dtype="float32", prompts=family.prompts)
    assert made.parity is not None
    assert made.parity.difference < 1e-3
    assert made.parity.equal == len(QUESTIONS)
    assert digest(made.path) != digest(family.model)
    probes = checkpoints.probes_of(done.path)
    scores = checkpoints.score(
        checkpoints.load(made.path, "float32"), [(each.prompt_ids, each.completion_ids) for each in probes]
    )
    for probe, row in zip(probes, scores, strict=True):
        assert row == pytest.approx(probe.logprobs, abs=1e-3)


def test_a_template_that_refuses_a_conversation_is_named(family: Family, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints.serve_of(family.checkpoint), tmp_path / "strict"))
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no such role') }}")
    with pytest.raises(ModelError, match="chat template refuses a conversation of user: no such role"):
        Tokenizer(folder).render(asked("What?"))


def test_a_wrong_template_is_caught(family: Family, said: list[Completion], tmp_path: Path) -> None:
    """Another template gives other ids, another tokenizer's identity (part of every stage's key), other texts."""
    folder = Path(shutil.copytree(checkpoints.serve_of(family.checkpoint), tmp_path / "wrong"))
    file = folder / "chat_template.jinja"
    file.write_text("A chat:\n" + file.read_text())
    wrong = Tokenizer(folder)
    assert wrong.id != family.tokens.id
    prompts = [wrong.render(asked(question)) for question in QUESTIONS]
    assert all(one != other for one, other in zip(prompts, family.prompts, strict=True))
    model = checkpoints.load(checkpoints.serve_of(family.checkpoint), "float32")
    texts = parity.greedy(model, prompts)
    assert sum(text == each.ids[: len(text)] for text, each in zip(texts, said, strict=True)) < len(QUESTIONS)


def test_vllm_says_what_transformers_says(family: Family, said: list[Completion], tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    from selftrain.backends.vllm import VllmSampler

    sampler = VllmSampler(
        family.checkpoint,
        log=tmp_path / "vllm.log",
        settings={"max_num_seqs": 8, "kv_cache_memory_bytes": 2**27},
        seed=0,
    )
    try:
        found = greedy(sampler, family)
        scores = sampler.score([Scored(prompt, each.ids) for prompt, each in zip(family.prompts, said, strict=True)])
    finally:
        sampler.close()
    # Two ways to add up the same sums part the texts only where two tokens are as likely.
    assert sum(each.ids == other.ids for each, other in zip(said, found, strict=True)) >= len(QUESTIONS) - 1
    for row, each in zip(scores, said, strict=True):
        assert sum(row) == pytest.approx(each.logprob, abs=2e-2)
