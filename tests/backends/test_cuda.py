"""What only a machine with a CUDA device can show: `make test-gpu`."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import selftrain
from selftrain.backends import checkpoints
from selftrain.backends.tokens import Tokenizer
from selftrain.backends.trainer import TrlTrainer
from selftrain.backends.transformers_sampler import TransformersSampler
from selftrain.backends.vllm import VllmSampler
from selftrain.installed import cuda_devices
from selftrain.lab import Request, Sampler, Sampling, Scored, TrainJob
from tests.backends import tiny

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not cuda_devices(), reason="there is no CUDA device")]

SHARE = 0.3
"""Of the device's memory for an engine: several may be there at once."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two checkpoints of one tied architecture."""
    root = tmp_path_factory.mktemp("cuda")
    for seed in (0, 1):
        tiny.make(root / f"model{seed}", seed=seed)
        checkpoints.prepare(root / f"model{seed}", root / f"checkpoint{seed}")
    return root / "checkpoint0", root / "checkpoint1"


@pytest.fixture(scope="module")
def engine(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmSampler]:
    pytest.importorskip("vllm")
    log = tmp_path_factory.mktemp("engine") / "engine.log"
    sampler = VllmSampler(made[0], log=log, settings={"gpu_memory_utilization": SHARE}, seed=7)
    yield sampler
    sampler.close()


def memory() -> tuple[int, int]:
    """Used and all memory of the first device, in MiB."""
    command = ["nvidia-smi", "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    used, total = shown.split(",")
    return int(used), int(total)


def asked(checkpoint: Path, count: int, **sampling: object) -> list[Request]:
    tokens = Tokenizer(checkpoints.serve_of(checkpoint))
    texts = [f"What is {n} + {n * n}? " + "Think. " * (n % 7) for n in range(count)]
    chats = [tokens.render([{"role": "user", "content": text}]) for text in texts]
    return [
        Request(id=f"r{n}", prompt_ids=ids, sampling=Sampling(**{"max_tokens": 24, **sampling}))  # type: ignore[arg-type]
        for n, ids in enumerate(chats)
    ]


def scored(sampler: Sampler, requests: list[Request]) -> tuple[list[Scored], list[tuple[float, ...]]]:
    found = {each.id: each for each in sampler.sample(requests, seed=0)}
    pairs = [Scored(each.prompt_ids, found[each.id].ids) for each in requests]
    return pairs, list(sampler.score(pairs))


def gap(checkpoint: Path, pairs: list[Scored], scores: list[tuple[float, ...]]) -> float:
    """Largest difference of a token's log-probability from what transformers finds on the CPU in float32."""
    exact = checkpoints.score(checkpoints.load(checkpoints.serve_of(checkpoint), "float32"), pairs)
    return max(abs(a - b) for row, other in zip(exact, scores, strict=True) for a, b in zip(row, other, strict=True))


def test_transformers_on_the_device_finds_what_the_cpu_finds(made: tuple[Path, Path], tmp_path: Path) -> None:
    requests = asked(made[0], 64, temperature=0.0)
    texts = []
    for device in ("cuda", "cpu"):
        sampler = TransformersSampler(made[0], log=tmp_path / f"{device}.log", settings={"device": device})
        try:
            pairs, scores = scored(sampler, requests)
        finally:
            sampler.close()
        assert gap(made[0], pairs, scores) < 1e-3
        texts.append([each.completion_ids for each in pairs])
    assert sum(a == b for a, b in zip(*texts, strict=True)) >= 60


def test_vllm_on_the_device_finds_what_the_cpu_finds(engine: VllmSampler, made: tuple[Path, Path]) -> None:
    engine.load(made[0])
    assert engine.gap is not None
    assert engine.gap < 1e-3
    assert gap(made[0], *scored(engine, asked(made[0], 64, temperature=0.0))) < 5e-3


def test_an_engine_takes_as_many_sequences_at_once_as_vllms_own_class(engine: VllmSampler) -> None:
    assert engine.concurrency >= 256


def test_an_engine_that_sleeps_gives_its_memory_back_and_wakes_with_the_weights_asked_for(
    engine: VllmSampler, made: tuple[Path, Path]
) -> None:
    engine.load(made[0])
    pid = engine.pid
    awake, total = memory()
    engine.sleep()
    asleep, _ = memory()
    assert awake - asleep > 0.8 * SHARE * total
    engine.load(made[1])
    assert engine.pid == pid
    assert gap(made[1], *scored(engine, asked(made[1], 16))) < 5e-3
    engine.sleep()
    engine.wake()
    assert engine.pid == pid
    assert gap(made[1], *scored(engine, asked(made[1], 16))) < 5e-3


def test_a_seeds_samples_on_the_device_are_its_own(engine: VllmSampler, made: tuple[Path, Path]) -> None:
    engine.load(made[0])
    requests = asked(made[0], 32)
    runs = [{each.id: each.ids for each in engine.sample(requests, seed=seed)} for seed in (3, 3, 4)]
    assert sum(runs[0][name] == runs[1][name] for name in runs[0]) >= 28
    assert sum(runs[0][name] == runs[2][name] for name in runs[0]) <= 4


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_training_on_the_device_is_training_on_the_cpu(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: str
) -> None:
    rows = (tiny.write(tiny.sums(40), tmp_path / "rows.parquet"),)
    losses = []
    for name, visible in (("device", None), ("cpu", "")):
        with monkeypatch.context() as patch:
            if visible is not None:
                patch.setenv("CUDA_VISIBLE_DEVICES", visible)
            trainer = TrlTrainer(log=tmp_path / f"{name}.log")
            job = TrainJob(
                rows=rows, start=made[0], out=tmp_path / name, adapter=adapter, settings={"num_train_epochs": 3}
            )
            losses.append(trainer.train(job, lambda steps: None).loss)
            trainer.close()
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("kind", ["transformers", "vllm"])
@pytest.mark.parametrize("recipe", ["rest_em", "iterative_dpo"])
def test_rounds_from_the_front_door(recipe: str, kind: str, tmp_path: Path) -> None:
    if kind == "vllm":
        pytest.importorskip("vllm")
    engine = {"kind": kind, **({"gpu_memory_utilization": SHARE} if kind == "vllm" else {})}
    size: dict[str, Any] = {"rounds": 2, "pool": 40, "valid": 20, "test": 40}
    run = selftrain.run(recipe, preset="nano", out=str(tmp_path / "run"), sampler=engine, **size)
    assert len(run.history.rounds) == 3
    assert run.metric("accuracy", split="test", round=2) is not None
    about = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert about["cuda"] is True
    # One engine for the whole run: weights are swapped, and it sleeps while it is trained beside it.
    if kind == "vllm":
        events = (tmp_path / "run" / "events.jsonl").read_text()
        assert "starting the engine again" not in events
