"""Fake resources for unit tests of stages, rules and recipes: no engine, no weights, milliseconds.

The fake model answers by a function you give; a fake training changes its skill. For tests of what selftrain promises
its users take a real engine and the bundled `nano` model instead.
"""

import json
import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from selftrain.lab import AskedModel, Completion, Lab, Progress, Request, Scored, Trained, TrainJob
from selftrain.loop.controller import Controller, Limits, Watcher
from selftrain.loop.launch import Quiet
from selftrain.recipe import Recipe
from selftrain.records import Checkpoint, Ids, Json, Message, Problem, Row, Sample, Verdict, digest, seed_of
from selftrain.round import PROBLEMS, History
from selftrain.store import Store
from selftrain.tables import read
from selftrain.templates import Protocol
from selftrain.verification.verify import load_verifier

Answer = Callable[[str, float, random.Random], str]
"""(prompt's text, the model's skill, a random stream) -> the response."""


class FakeTokens:
    """One token a character; 0 ends a turn."""

    id = "fake-tokens"
    end = 0

    def render(self, messages: Sequence[Message], *, prefix: str = "") -> Ids:
        """The turns' texts, one after the other."""
        return self.encode("".join(f"{m['role']}: {m['content']}\n" for m in messages) + prefix)

    def encode(self, text: str) -> Ids:
        """The characters' numbers."""
        return tuple(map(ord, text))

    def decode(self, ids: Sequence[int]) -> str:
        """The characters."""
        return "".join(chr(i) for i in ids if i)


class FakeSampler:
    """Answers by a function; the same seed and request give the same response."""

    kind = "fake"
    version = "1"
    context = 2_000
    concurrency = 8
    dtype = "none"

    def __init__(self, checkpoint: Path, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.load(checkpoint)

    def load(self, checkpoint: Path) -> None:
        """Take over the skill of a checkpoint."""
        self.skill = float(json.loads((checkpoint / "checkpoint.json").read_text())["skill"])

    def sample(self, requests: Sequence[Request], *, seed: int) -> Iterator[Completion]:
        """Answer the requests, the last one first, as an engine might."""
        tokens = FakeTokens()
        for request in reversed(requests):
            self.requests.append(request)
            stream = random.Random(seed_of(seed, request.id) if request.sampling.temperature else 0)
            text = self.answer(tokens.decode(request.prompt_ids), self.skill, stream)
            ids = (*tokens.encode(text), tokens.end)
            cut = request.sampling.max_tokens
            finish = "stop" if len(ids) <= cut else "length"
            logprob = -float(len(ids[:cut])) if request.sampling.logprob else None
            yield Completion(id=request.id, ids=ids[:cut], text=text[:cut], finish=finish, logprob=logprob)

    def score(self, sequences: Sequence[Scored]) -> list[tuple[float, ...]]:
        """Give every token the same log-probability."""
        return [(-1.0,) * len(each.completion_ids) for each in sequences]

    def sleep(self) -> None:
        """Nothing to free."""

    def wake(self) -> None:
        """Nothing to take."""

    def close(self) -> None:
        """Nothing to end."""


class FakeTrainer:
    """Writes a checkpoint whose skill grows with every training."""

    kind = "fake"
    version = "1"

    def __init__(self, gain: float) -> None:
        self.gain = gain
        self.rows: list[Row] = []

    def prepare(self, model: Path, out: Path) -> str:
        """Write a checkpoint of skill 0.3."""
        return self._write(out, 0.3)

    def train(self, job: TrainJob, progress: Progress) -> Trained:
        """Write a checkpoint with more skill than the one it starts from."""
        self.rows = [row for path in job.rows for row in read(Row, path)]
        skill = float(json.loads((job.start / "checkpoint.json").read_text())["skill"]) + self.gain
        id = self._write(job.out / "checkpoint", skill, [row.id for row in self.rows])
        tokens = sum(len(s.ids) for row in self.rows for s in row.segments if s.train)
        return Trained(job.out / "checkpoint", id, len(self.rows), 1, tokens, 0.0, (1.0,))

    def close(self) -> None:
        """Nothing to end."""

    def _write(self, out: Path, skill: float, rows: Sequence[str] = ()) -> str:
        out.mkdir(parents=True, exist_ok=True)
        (out / "checkpoint.json").write_text(json.dumps({"skill": skill, "rows": list(rows)}))
        return digest(skill, list(rows))


class FakeVerifiers:
    """Runs real verifiers in this process, without a time limit."""

    def __init__(self, resources: Mapping[str, object] | None = None) -> None:
        self.resources = resources or {}
        # A sandbox serves one program at a time, as in a worker.
        self._judging = threading.Lock()

    def verify(
        self, by: str, items: Sequence[tuple[Problem, Sample]], *, model: AskedModel | None = None
    ) -> Iterator[Verdict]:
        """Judge the items, the last problem first."""
        resources = {**self.resources, "model": model}
        groups: dict[tuple[str, str], list[tuple[Problem, Sample]]] = {}
        for problem, sample in reversed(items):
            groups.setdefault((by or problem.verifier, problem.id), []).append((problem, sample))
        for (name, _), found in groups.items():
            verifier = load_verifier(name, resources.get)
            problem, samples = found[0][0], [sample for _, sample in reversed(found)]
            with self._judging:
                if verifier.group:
                    scores = verifier.judge_group(problem=problem, attempts=samples)
                else:
                    scores = [verifier.judge(problem=problem, response=sample.text) for sample in samples]
            for sample, score in zip(samples, scores, strict=True):
                said = {key: getattr(score, key) for key in ("status", "score", "step_scores", "why", "answer")}
                yield Verdict(sample=sample.id, by=name, **said)

    def close(self) -> None:
        """Nothing to end."""


class FakeBackends:
    """Opens the fakes; what verifiers ask for beside a model, a sandbox say, is in `resources`, by name."""

    concurrency = FakeSampler.concurrency

    def __init__(self, answer: Answer, gain: float = 0.2, resources: Mapping[str, object] | None = None) -> None:
        self.answer = answer
        self.resources = resources
        self.samplers: list[FakeSampler] = []
        self.made = FakeTrainer(gain)

    def sampler(self, checkpoint: Path) -> FakeSampler:
        """A sampler for a checkpoint."""
        self.samplers.append(FakeSampler(checkpoint, self.answer))
        return self.samplers[-1]

    def trainer(self) -> FakeTrainer:
        """The trainer."""
        return self.made

    def verifiers(self) -> FakeVerifiers:
        """The verifiers."""
        return FakeVerifiers(self.resources)

    def tokens(self, checkpoint: Path) -> FakeTokens:
        """The tokens."""
        return FakeTokens()

    def identity(self, resource: str) -> Json:
        """The same for ever."""
        return {"engine": "fake"}

    def interrupt(self) -> None:
        """Nothing takes time to open."""


def sums(count: int, split: str = "train", first: int = 0) -> list[Problem]:
    """Return distinct little sums with answers and solutions."""
    pairs = [(i // 97, i % 97) for i in range(first, first + count)]
    return [
        Problem.of(f"{a}+{b}=", answer=str(a + b), solution=f"{a}+{b}={a + b}", verifier="number", split=split)
        for a, b in pairs
    ]


def adds(prompt: str, skill: float, stream: random.Random) -> str:
    """Answer a sum rightly with the probability of the skill; a hint makes it right."""
    last = prompt.strip().splitlines()[-1]
    if last.startswith("(The answer is"):
        return f"so it is {last.removeprefix('(The answer is').strip(' .)')}"
    a, b = re.findall(r"(\d+)\+(\d+)=", prompt)[-1]
    right = stream.random() < skill
    return f"{a} and {b} make {int(a) + int(b) + (0 if right else 1 + stream.randrange(3))}"


def fake_run(
    recipe: Recipe,
    root: Path,
    *,
    problems: Mapping[str, Sequence[Problem]] | None = None,
    backends: FakeBackends | None = None,
    shard: int = 4,
    watcher: Watcher | None = None,
    limits: Limits | None = None,
    protocol: Protocol | None = None,
    ended: Callable[[int, History], None] = lambda number, stored: None,
) -> History:
    """Run a recipe with fakes in a folder, to its end or on from where it was; return its history.

    `ended` hears of each round that is over, as the controller's does.
    """
    recipe.check()
    store = Store(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "run.yaml").write_text("format: 1\n")
    parts = problems or {"train": sums(12), "valid": sums(8, "valid", 200), "test": sums(8, "test", 400)}
    folder = store.stage(0, 0, PROBLEMS)
    folder.begin({"content": digest([p.id for part in parts.values() for p in part])})
    lab = Lab(backends or FakeBackends(adds), root=root, seed=0, protocol=protocol or Protocol(), own=recipe.own)
    try:
        if not folder.done():
            number = 0
            for split, part in parts.items():
                for first in range(0, len(part), shard):
                    folder.write(number, {Problem: [replace(p, split=split) for p in part[first : first + shard]]})
                    number += 1
            folder.finish({})
        base = store.stage(0, 1, "base")
        base.begin({})
        if not base.done():
            made = []
            for role in recipe.models:
                id = lab.trainer.prepare(root, base.path / role)
                made.append(Checkpoint(id=id, path=str((base.path / role).relative_to(root)), role=role, base=id))
            base.write(0, {Checkpoint: made})
            base.finish({})
        history, _ = Controller(recipe, store, lab, watcher or Quiet(), limits or Limits(), ended).go()
    finally:
        lab.close()
    return history
