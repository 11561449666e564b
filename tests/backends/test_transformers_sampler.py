import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from selftrain.backends import checkpoints, decoding
from selftrain.backends.tokens import Tokenizer
from selftrain.backends.transformers_sampler import TransformersSampler
from selftrain.errors import ConfigError, ModelError
from selftrain.lab import Completion, Request, Sampling, Scored
from tests.backends import tiny


class World(NamedTuple):
    """One engine for all tests, and checkpoints of one architecture."""

    sampler: TransformersSampler
    checkpoints: tuple[Path, Path]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("transformers")
    made = []
    for seed in (0, 1):
        tiny.make(root / f"model{seed}", seed=seed)
        checkpoints.prepare(root / f"model{seed}", root / f"checkpoint{seed}")
        made.append(root / f"checkpoint{seed}")
    sampler = TransformersSampler(made[0], log=root / "engine.log", settings={"concurrency": 64})
    yield World(sampler, (made[0], made[1]))
    sampler.close()


@pytest.fixture
def first(world: World) -> TransformersSampler:
    world.sampler.load(world.checkpoints[0])
    return world.sampler


def requests(world: World, count: int, sampling: Sampling, name: str = "r") -> list[Request]:
    tokens = Tokenizer(checkpoints.serve_of(world.checkpoints[0]))
    # Two requests of each prompt, prompts of many lengths.
    texts = [f"What is {n // 2}? " + "Think. " * (n // 2 % 7) for n in range(count)]
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


def test_greedy_and_log_probabilities_are_those_of_transformers(world: World, first: TransformersSampler) -> None:
    import torch

    asked = requests(world, 40, Sampling(temperature=0.0, max_tokens=20, logprob=True))
    found = by_id(first.sample(asked, seed=0))
    model = reference(world.checkpoints[0])
    for each in asked[::4]:
        ids = torch.tensor([each.prompt_ids])
        made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)
        assert found[each.id].ids == tuple(made[0, ids.shape[1] :].tolist())
    sequences = [Scored(each.prompt_ids, found[each.id].ids) for each in asked]
    scores = first.score(sequences)
    for each, row, own in zip(asked, scores, checkpoints.score(model, sequences), strict=True):
        assert sum(row) == pytest.approx(found[each.id].logprob, abs=1e-3)
        assert row == pytest.approx(own, abs=1e-4)


@pytest.mark.parametrize("spoiled", [False, True])
def test_rows_keep_their_own_past_when_finished_ones_make_room(
    world: World, monkeypatch: pytest.MonkeyPatch, spoiled: bool
) -> None:
    import torch

    model = reference(world.checkpoints[0])
    if spoiled:
        nowhere = torch.zeros(0, dtype=torch.long)
        move = decoding.Roomy.move
        monkeypatch.setattr(decoding.Roomy, "move", lambda self, _, __, left: move(self, nowhere, nowhere, left))
    batch = [
        decoding.Asked(each, seed, 1 + 7 * seed % 40)
        for seed, each in enumerate(requests(world, 40, Sampling(max_tokens=40, logprob=True)))
    ]
    found = {one.row: one for done in decoding.decode(model, batch, [0], lambda row, ids: False) for one in done}
    scores = checkpoints.score(model, [Scored(batch[row].request.prompt_ids, found[row].ids) for row in range(40)])
    assert len({len(each.ids) for each in found.values()}) > 10
    close = [sum(own) == pytest.approx(found[row].logprob, abs=1e-3) for row, own in enumerate(scores)]
    assert all(close) is not spoiled


def test_sampling_is_identical_to_the_bit_whoever_else_samples(world: World, first: TransformersSampler) -> None:
    parts = [requests(world, 50, Sampling(max_tokens=40, logprob=True), name=f"p{n}-") for n in range(3)]
    alone = [by_id(first.sample(part, seed=3)) for part in parts]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda part: by_id(first.sample(part, seed=3)), parts))
    assert together == alone
    other = by_id(first.sample(parts[0], seed=4))
    assert sum(other[key].ids == alone[0][key].ids for key in other) <= 2
    # Requests of one prompt have streams of their own.
    assert sum(alone[0][f"p0-{n}"].ids == alone[0][f"p0-{n + 1}"].ids for n in range(0, 50, 2)) <= 2


def test_samples_follow_the_models_distribution(world: World, first: TransformersSampler) -> None:
    import torch

    (ask,) = requests(world, 1, Sampling())
    probs = torch.tensor(0)
    with torch.inference_mode():
        probs = reference(world.checkpoints[0])(torch.tensor([ask.prompt_ids])).logits[0, -1].softmax(-1)

    def frequencies(sampling: Sampling, seed: int, draws: int = 3000) -> Any:
        asked = [Request(id=f"f{n}", prompt_ids=ask.prompt_ids, sampling=sampling) for n in range(draws)]
        drawn = torch.tensor([each.ids[0] for each in first.sample(asked, seed=seed)])
        return torch.bincount(drawn, minlength=len(probs)) / len(asked)

    # Half the summed difference of 3000 draws from a distribution of this size stays well below these bounds.
    assert (frequencies(Sampling(max_tokens=1), 0) - probs).abs().sum() / 2 < 0.14
    sharp = (probs.log() / 0.5).softmax(-1)
    assert (frequencies(Sampling(max_tokens=1, temperature=0.5), 1) - sharp).abs().sum() / 2 < 0.14
    assert (frequencies(Sampling(max_tokens=1, top_k=5), 2, 500) > 0).nonzero()[:, 0].tolist() == sorted(
        probs.topk(5).indices.tolist()
    )
    ordered, order = probs.sort(descending=True)
    nucleus = order[: int((ordered.cumsum(-1) < 0.3).sum()) + 1].tolist()
    assert set((frequencies(Sampling(max_tokens=1, top_p=0.3), 3, 500) > 0).nonzero()[:, 0].tolist()) <= set(nucleus)


def test_stop_strings_and_limits(world: World, first: TransformersSampler) -> None:
    free = by_id(first.sample(requests(world, 6, Sampling(max_tokens=24)), seed=5))
    assert all(each.finish == ("stop" if each.ids[-1] == 0 else "length") for each in free.values())
    stop = free["r0"].text[3:5]
    stopped = by_id(first.sample(requests(world, 6, Sampling(max_tokens=24, stop=(stop,))), seed=5))["r0"]
    assert stopped.finish == "stop"
    assert stopped.text == free["r0"].text.split(stop)[0]
    assert stopped.ids == free["r0"].ids[: len(stopped.ids)]
    assert len(stopped.ids) < len(free["r0"].ids)
    near = Request(id="near", prompt_ids=(5,) * (first.context - 3), sampling=Sampling(temperature=0, max_tokens=9))
    assert len(next(first.sample([near], seed=0)).ids) <= 3


def test_a_prompt_beyond_the_context_fails_alone(world: World, first: TransformersSampler) -> None:
    asked = requests(world, 4, Sampling(max_tokens=8))
    answers = first.sample([Request(id="long", prompt_ids=(5,) * 300, sampling=Sampling()), *asked], seed=0)
    found = {each.id: each for each in answers}
    assert found.keys() == {"long", *(each.id for each in asked)}
    assert [each.id for each in found.values() if each.finish == "failed"] == ["long"]
    assert "300 tokens does not fit a context of 256" in found["long"].text


def test_load_serves_other_weights_and_refuses_broken_ones(
    world: World, first: TransformersSampler, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    asked = requests(world, 8, Sampling(temperature=0.0, max_tokens=16))
    before = by_id(first.sample(asked, seed=0))
    first.load(world.checkpoints[1])
    assert first.gap is not None
    assert first.gap < 1e-5
    after = by_id(first.sample(asked, seed=0))
    assert sum(before[key].ids == after[key].ids for key in before) <= 2
    shutil.copytree(checkpoints.serve_of(world.checkpoints[0]), tmp_path / "one")
    weights = load_file(tmp_path / "one" / "model.safetensors")
    save_file({"model.norm.weight": weights["model.norm.weight"]}, tmp_path / "one" / "model.safetensors")
    with pytest.raises(ModelError, match="lacks"):
        first.load(tmp_path / "one")
    assert by_id(first.sample(asked, seed=0)) == after


def test_a_killed_engine_comes_back_with_the_same_samples(world: World, first: TransformersSampler) -> None:
    asked = requests(world, 80, Sampling(max_tokens=40))
    before = by_id(first.sample(asked, seed=9))
    answers = first.sample(asked, seed=9)
    found = [next(answers)]
    os.kill(first.pid, signal.SIGKILL)
    found += answers
    assert by_id(iter(found)) == before


def test_an_unknown_setting_names_the_near_ones(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean concurrency"):
        TransformersSampler(world.checkpoints[0], log=tmp_path / "log", settings={"concurency": 8})
