import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from selftrain import seals
from selftrain.backends import checkpoints
from selftrain.backends.draws import drawn
from selftrain.backends.tokens import Tokenizer
from selftrain.backends.vllm import VllmSampler
from selftrain.errors import ConfigError, EngineError, ModelError
from selftrain.lab import Completion, Request, Sampling, Scored
from selftrain.records import seed_of
from tests.backends import tiny

pytest.importorskip("vllm")

SETTINGS = {"max_num_seqs": 16, "kv_cache_memory_bytes": 2**27}


class Fooled(VllmSampler):
    """A sampler whose engine can be made to keep its prefix cache."""

    module = "tests.backends.stale_engine"


class World(NamedTuple):
    """One engine for all tests, and checkpoints of one tied architecture that it can serve."""

    sampler: VllmSampler
    checkpoints: tuple[Path, Path]
    stale: Path


def checkpoint(folder: Path, seed: int) -> Path:
    tiny.make(folder / "model", seed=seed)
    checkpoints.prepare(folder / "model", folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("vllm")
    made = (checkpoint(root / "first", 0), checkpoint(root / "second", 1))
    os.environ["STALE"] = str(root / "stale")
    sampler = Fooled(made[0], log=root / "engine.log", settings=SETTINGS, seed=7)
    yield World(sampler, made, root / "stale")
    sampler.close()
    del os.environ["STALE"]


@pytest.fixture
def first(world: World) -> VllmSampler:
    world.sampler.load(world.checkpoints[0])
    return world.sampler


def requests(world: World, count: int, sampling: Sampling, name: str = "r") -> list[Request]:
    tokens = Tokenizer(checkpoints.serve_of(world.checkpoints[0]))
    texts = [f"What is {n} + {n * n}? " + "Think. " * (n % 7) for n in range(count)]
    return [
        Request(id=f"{name}{n}", prompt_ids=tokens.render([{"role": "user", "content": text}]), sampling=sampling)
        for n, text in enumerate(texts)
    ]


def by_id(completions: Iterator[Completion]) -> dict[str, Completion]:
    listed = list(completions)
    found = {each.id: each for each in listed}
    assert len(found) == len(listed)
    return found


def reference(folder: Path) -> Any:
    import torch

    # Threads that spin while they wait are slow beside an engine of as many threads.
    torch.set_num_threads(1)
    return checkpoints.load(checkpoints.serve_of(folder), "float32")


def pairs(asked: Sequence[Request], found: dict[str, Completion]) -> list[Scored]:
    return [Scored(each.prompt_ids, found[each.id].ids) for each in asked]


def largest_gap(scores: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> float:
    return max(abs(a - b) for row, other in zip(scores, others, strict=True) for a, b in zip(row, other, strict=True))


def test_threads_share_one_engine_and_each_gets_its_own(world: World, first: VllmSampler) -> None:
    parts = [requests(world, 10, Sampling(max_tokens=24), name=f"t{n}-") for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda part: by_id(first.sample(part, seed=3)), parts))
    for part, answer in zip(parts, answers, strict=True):
        assert set(answer) == {each.id for each in part}
        assert all(1 <= len(each.ids) <= 24 for each in answer.values())
        assert {each.finish for each in answer.values()} <= {"stop", "length"}
    # The stream of a request depends on its id and the seed, not on who else is being sampled.
    alone = by_id(first.sample(parts[0], seed=3))
    other = by_id(first.sample(parts[0], seed=4))
    assert sum(alone[key].ids == answers[0][key].ids for key in alone) >= 9
    assert sum(alone[key].ids == other[key].ids for key in alone) <= 2


def test_greedy_and_log_probabilities_are_those_of_transformers(world: World, first: VllmSampler) -> None:
    asked = requests(world, 16, Sampling(temperature=0.0, max_tokens=20, logprob=True))
    found = by_id(first.sample(asked, seed=0))
    model = reference(world.checkpoints[0])
    import torch

    same = 0
    for each in asked:
        ids = torch.tensor([each.prompt_ids])
        made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)
        same += tuple(made[0, ids.shape[1] :].tolist()) == found[each.id].ids
    assert same >= 15
    scores = checkpoints.score(model, pairs(asked, found))
    assert largest_gap(scores, first.score(pairs(asked, found))) < 1e-3
    assert all(abs(sum(row) - (found[each.id].logprob or 0.0)) < 1e-2 for row, each in zip(scores, asked, strict=True))


@pytest.mark.parametrize(
    "sampling", [Sampling(max_tokens=1), Sampling(max_tokens=1, temperature=0.5), Sampling(max_tokens=1, top_p=0.3)]
)
def test_samples_follow_the_models_distribution(world: World, first: VllmSampler, sampling: Sampling) -> None:
    """Each is what the one random number of its stream reaches in the cumulative distribution."""
    import torch

    (ask,) = requests(world, 1, sampling)
    with torch.inference_mode():
        logits = reference(world.checkpoints[0])(torch.tensor([ask.prompt_ids])).logits[0, -1]
    probs = (logits / sampling.temperature).softmax(-1)
    ordered, order = probs.sort(descending=True)
    probs[order[int((ordered.cumsum(-1) < sampling.top_p).sum()) + 1 :]] = 0.0
    asked = [Request(id=f"d{n}", prompt_ids=ask.prompt_ids, sampling=sampling) for n in range(200)]
    found = by_id(first.sample(asked, seed=5))
    streams = [torch.Generator().manual_seed(seed_of(5, each.id)) for each in asked]
    wanted = drawn(
        probs.expand(200, -1), torch.cat([torch.rand(1, generator=each, dtype=torch.float64) for each in streams])
    )
    assert len(set(wanted.tolist())) > 5
    assert sum(found[each.id].ids == (token,) for each, token in zip(asked, wanted.tolist(), strict=True)) >= 195


def test_stop_strings_cut_the_text_and_leave_the_ids(world: World, first: VllmSampler) -> None:
    free = requests(world, 6, Sampling(max_tokens=24))
    texts = by_id(first.sample(free, seed=5))
    asked = requests(world, 6, Sampling(max_tokens=24, stop=(texts["r0"].text[4:6],)))
    stopped = by_id(first.sample(asked, seed=5))["r0"]
    assert texts["r0"].text.startswith(stopped.text)
    assert len(stopped.text) < len(texts["r0"].text)
    assert stopped.ids == texts["r0"].ids[: len(stopped.ids)]
    assert stopped.finish == "stop"


def test_a_prompt_beyond_the_context_fails_alone(world: World, first: VllmSampler) -> None:
    asked = requests(world, 4, Sampling(max_tokens=8))
    long = Request(id="long", prompt_ids=tuple([5] * 300), sampling=Sampling(max_tokens=8))
    found = {each.id: each for each in first.sample([long, *asked], seed=0)}
    assert found.keys() == {"long", *(each.id for each in asked)}
    assert [each.id for each in found.values() if each.finish == "failed"] == ["long"]
    assert re.search(r"256 tokens.*300 input tokens", found["long"].text)


def test_swap_of_a_tied_model_changes_every_weight(world: World, first: VllmSampler) -> None:
    asked = requests(world, 8, Sampling(temperature=0.0, max_tokens=16))
    before = by_id(first.sample(asked, seed=0))
    pid = first.pid
    first.load(world.checkpoints[1])
    assert first.pid == pid
    assert first.gap is not None
    assert first.gap < 1e-4
    after = by_id(first.sample(asked, seed=0))
    assert sum(before[key].ids == after[key].ids for key in before) <= 2
    scores = first.score(pairs(asked, after))
    assert largest_gap(scores, checkpoints.score(reference(world.checkpoints[1]), pairs(asked, after))) < 1e-3
    assert largest_gap(scores, checkpoints.score(reference(world.checkpoints[0]), pairs(asked, after))) > 0.5
    first.load(world.checkpoints[0])
    assert by_id(first.sample(asked, seed=0)).keys() == before.keys()


@pytest.mark.parametrize("kept", ["one", "no head"])
def test_an_incomplete_folder_is_refused_and_the_engine_goes_on(
    world: World, first: VllmSampler, tmp_path: Path, kept: str
) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(world.checkpoints[1], broken)
    told = {**seals.read(broken / "checkpoint.json", ""), "files": {}}
    master = str(checkpoints.master_of(world.checkpoints[1]))
    (broken / "checkpoint.json").write_text(json.dumps({**told, "id": "0" * 32, "master": master}))
    weights = load_file(broken / "serve" / "model.safetensors")
    part = {name: each for name, each in weights.items() if (name == "model.norm.weight") == (kept == "one")}
    part.pop("lm_head.weight", None)
    if kept == "no head":
        part["model.norm.weight"] = weights["model.norm.weight"]
    save_file(part, broken / "serve" / "model.safetensors", metadata={"format": "pt"})
    asked = requests(world, 4, Sampling(temperature=0.0, max_tokens=8))
    before = by_id(first.sample(asked, seed=0))
    with pytest.raises(ModelError, match="lacks .* tensors" if kept == "one" else "no lm_head.weight"):
        first.load(broken)
    assert by_id(first.sample(asked, seed=0)) == before


def test_a_stale_prefix_cache_is_caught(world: World, first: VllmSampler, caplog: pytest.LogCaptureFixture) -> None:
    asked = requests(world, 8, Sampling(temperature=0.0, max_tokens=16))
    list(first.sample(asked, seed=0))
    pid = first.pid
    world.stale.touch()
    first.load(world.checkpoints[1])
    world.stale.unlink()
    assert "prefix cache still held" in caplog.text
    # The engine that could not be trusted is gone; the one in its place serves the new weights.
    assert first.pid != pid
    found = by_id(first.sample(asked, seed=0))
    scores = checkpoints.score(reference(world.checkpoints[1]), pairs(asked, found))
    assert largest_gap(scores, first.score(pairs(asked, found))) < 1e-3


def test_a_killed_engine_costs_no_request(world: World, first: VllmSampler) -> None:
    asked = requests(world, 60, Sampling(max_tokens=60))
    answers = first.sample(asked, seed=9)
    found = [next(answers) for _ in range(5)]
    pid = first.pid
    os.kill(pid, signal.SIGKILL)
    found += answers
    assert sorted(each.id for each in found) == sorted(each.id for each in asked)
    assert first.pid != pid
    # The new engine serves the same weights and gives each request the stream it had.
    again = by_id(first.sample(asked, seed=9))
    assert sum(again[each.id].ids == each.ids for each in found) >= 54


@pytest.mark.slow
def test_a_swapped_engine_equals_a_fresh_one(world: World, first: VllmSampler, tmp_path: Path) -> None:
    first.load(world.checkpoints[1])
    asked = requests(world, 8, Sampling(temperature=0.0, max_tokens=16))
    found = by_id(first.sample(asked, seed=0))
    fresh = VllmSampler(world.checkpoints[1], log=tmp_path / "fresh.log", settings=SETTINGS)
    try:
        assert largest_gap(first.score(pairs(asked, found)), fresh.score(pairs(asked, found))) < 1e-5
        assert by_id(fresh.sample(asked, seed=0)) == found
    finally:
        fresh.close()


@pytest.mark.slow
def test_another_architecture_restarts_the_engine(world: World, first: VllmSampler, tmp_path: Path) -> None:
    tiny.make(tmp_path / "model", seed=3, layers=3, tied=False)
    checkpoints.prepare(tmp_path / "model", tmp_path / "checkpoint")
    pid = first.pid
    first.load(tmp_path / "checkpoint")
    assert first.pid != pid
    assert first.gap is not None
    assert first.gap < 1e-4


@pytest.mark.slow
def test_a_probe_of_other_weights_stops(world: World, first: VllmSampler, tmp_path: Path) -> None:
    liar = tmp_path / "liar"
    shutil.copytree(world.checkpoints[1], liar)
    told = {**seals.read(liar / "checkpoint.json", ""), "files": {}}
    master = str(checkpoints.master_of(world.checkpoints[1]))
    (liar / "checkpoint.json").write_text(json.dumps({**told, "id": "1" * 32, "master": master}))
    shutil.copy(checkpoints.serve_of(world.checkpoints[0]) / "probe.json", liar / "serve" / "probe.json")
    with pytest.raises(EngineError, match="even freshly started"):
        first.load(liar)
    first.load(world.checkpoints[0])
    assert first.gap is not None
    assert first.gap < 1e-4


@pytest.mark.slow
def test_three_losses_in_a_row_are_an_error(world: World, tmp_path: Path) -> None:
    class Doomed(VllmSampler):
        module = "tests.backends.doomed_engine"

    sampler = Doomed(world.checkpoints[0], log=tmp_path / "log", settings=SETTINGS)
    try:
        with pytest.raises(EngineError, match=r"(?s)last lines of .*the device fell off"):
            list(sampler.sample(requests(world, 3, Sampling(max_tokens=8)), seed=0))
    finally:
        sampler.close()


@pytest.mark.slow
def test_an_unknown_setting_names_the_near_ones(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean max_model_len"):
        VllmSampler(world.checkpoints[0], log=tmp_path / "log", settings={"max_model_length": 8})


OWNER = """
import sys, time
from pathlib import Path
from selftrain.backends.vllm import VllmSampler
sampler = VllmSampler(Path(sys.argv[1]), log=Path(sys.argv[2]), settings={"kv_cache_memory_bytes": 2**27})
print(sampler.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_the_engine_ends_with_its_owner(world: World, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", OWNER, str(world.checkpoints[0]), str(tmp_path / "log")]
    owner = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    engine = Path(f"/proc/{int(owner.stdout.readline())}/stat")
    owner.kill()
    owner.wait()
    end = time.monotonic() + 5
    while time.monotonic() < end and engine.exists() and engine.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.05)
    assert not engine.exists() or engine.read_text().rsplit(")", 1)[1].split()[0] == "Z"
