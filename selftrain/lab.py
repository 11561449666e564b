"""The resources of a run, as protocols: sampler, trainer, verifiers, tokens; and the Lab, which holds them.

Stages meet these protocols only; nothing here imports a heavy library.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from selftrain.errors import EngineError
from selftrain.records import Checkpoint, Ids, Json, JsonValue, Message, Problem, Sample, Score, Verdict, seed_of
from selftrain.templates import Protocol as Prompting

Progress = Callable[[int], None]
"""Called with how many more units are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample; temperature 0 is greedy, top_k 0 is off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 256
    """New tokens at most; the sampler also stops at the model's context."""
    stop: tuple[str, ...] = ()
    logprob: bool = False
    """Also return the sum of the completion's log-probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion to sample; `id` is unique in the run."""

    id: str
    prompt_ids: Ids
    sampling: Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What came back for a request: the ids as sampled, with the end token if one was sampled."""

    id: str
    ids: Ids
    text: str
    """Decoded without special tokens."""
    finish: str
    """'stop' or 'length'; 'failed' where the engine refused this request, and `text` says why."""
    logprob: float | None = None
    reencoded: bool = False
    """True where the sampler had only text to give and `ids` were encoded from it again."""


class Scored(NamedTuple):
    """A prompt and a completion whose tokens are to be scored."""

    prompt_ids: Ids
    completion_ids: Ids


class Sampler(Protocol):
    """Samples from one checkpoint at a time; `sample` may be called from several threads at once."""

    kind: str
    """'vllm', 'transformers' or 'server'."""
    version: str
    context: int
    """Longest prompt plus completion, in tokens."""
    concurrency: int
    """Completions it works on at once; shards are sized by it."""
    dtype: str

    def load(self, checkpoint: Path) -> None:
        """Serve the weights of this checkpoint folder from now on; returns when a probe has confirmed it."""

    def sample(self, requests: Sequence[Request], *, seed: int) -> Iterator[Completion]:
        """Yield one completion per request as they finish, in any order, refused ones too (finish "failed")."""

    def score(self, sequences: Sequence[Scored]) -> list[tuple[float, ...]]:
        """Return the log-probability of each completion token, in nats."""

    def sleep(self) -> None:
        """Free the device while something else uses it; nothing is lost."""

    def wake(self) -> None:
        """Be ready to sample again."""

    def close(self) -> None:
        """End the engine and all its processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """One fine-tuning, as a child process gets it; picklable."""

    rows: tuple[Path, ...]
    """Parquet files of `Row` records; every row of them is trained on."""
    start: Path
    """Checkpoint folder whose weights the training begins from."""
    out: Path
    """Empty, or as an interrupted training left it; `out/checkpoint` is the result."""
    loss: str = "sft"
    loss_settings: Mapping[str, JsonValue] = field(default_factory=dict)
    """The loss's own settings by name: beta, reference, ..."""
    adapter: str = "lora"
    """'lora' or 'full'."""
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    """Arguments of TRL's config, by name."""
    lora: Mapping[str, JsonValue] = field(default_factory=dict)
    """Arguments of PEFT's LoraConfig, by name."""
    seed: int = 0


class Trained(NamedTuple):
    """What a training left: a checkpoint folder, its weights' hash, and what it took."""

    path: Path
    id: str
    rows: int
    steps: int
    tokens: int
    """Tokens in the loss, over all epochs."""
    seconds: float
    loss: tuple[float, ...]
    """Logged training loss, in order."""
    figures: Mapping[str, float] = MappingProxyType({})
    """What else was measured, by name: of a preference loss begin/margin, end/accuracy, ..."""


class Trainer(Protocol):
    """Makes checkpoints."""

    kind: str
    version: str

    def prepare(self, model: Path, out: Path) -> str:
        """Make a checkpoint folder of a model folder (round 0); return the hash of its weights."""

    def train(self, job: TrainJob, progress: Progress) -> Trained:
        """Train; `progress` hears of steps. Begins where an interrupted training of the same folder ended."""

    def close(self) -> None:
        """End its processes."""


class Verifiers(Protocol):
    """Judges samples in worker processes, each item under a time limit."""

    def verify(
        self, by: str, items: Sequence[tuple[Problem, Sample]], *, model: "AskedModel | None" = None
    ) -> Iterator[Verdict]:
        """Yield one verdict per item, in any order; a verifier that raises or hangs gives error or timeout.

        `by` is a verifier's name, path, or JSON with name and settings; '' takes each problem's own. `model` answers
        those verifiers that ask one.
        """

    def close(self) -> None:
        """End the workers."""


class AskedModel(Protocol):
    """A model that a verifier may ask: what a `model` parameter gets."""

    @property
    def folder(self) -> Path:
        """Its checkpoint folder; a reward model is not asked but loaded from there by the scorer."""

    def sample(
        self, prompts: Sequence[Sequence[Message]], *, n: int = 1, temperature: float = 0.0, max_tokens: int = 256
    ) -> list[list[str]]:
        """Return n responses to each prompt; raises ValueError for a prompt that is longer than the context."""

    def score(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[tuple[float, ...]]:
        """Return, for each prompt and response, the log-probability of each of the response's tokens, in nats."""


class Scorer(Protocol):
    """Reward and process models by folder or hub id: what a `scorer` parameter gets."""

    def score(
        self, model: str, conversations: Sequence[Sequence[Message]], *, engine: str = "transformers"
    ) -> list[float]:
        """Return a sequence-classification model's reward for each conversation, whose last turn is the response.

        '' is the model that the stage names; `engine` is transformers or vllm.
        """

    def step_scores(
        self, model: str, prompt: Sequence[Message], responses: Sequence[Sequence[str]]
    ) -> list[tuple[float, ...]]:
        """Return, for each response given as its steps, the probability that each step is right, at its last token."""


class Judge(Protocol):
    """Another verifier: what a `judge` parameter gets."""

    def __call__(self, spec: str, *, problem: Problem, response: str) -> Score:
        """Return what the verifier with this spec says; raises what it raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a program's run came to its end."""

    ended: Literal["exited", "time", "memory", "files", "output", "lost"]
    """By itself, or by going over a limit; 'lost' is the sandbox's own trouble and says nothing of the program."""
    code: int
    """Exit status; minus the signal's number where one ended it."""
    stdout: str
    stderr: str
    seconds: float
    why: str = ""
    """What was gone over, in words."""


Outcome = Literal["passed", "wrong", "raised", "ended", "time", "tests", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """How a program did in tests."""

    outcome: Outcome
    """All passed; an assertion failed; an exception; the process ended; too slow; or no judgement could be made.

    'tests' is the tests' own trouble, 'lost' the sandbox's: neither says anything of the program.
    """
    why: str = ""
    seconds: float = 0.0
    """What the program took, loading and calls together; the tests' own time is not in it."""


class Sandbox(Protocol):
    """Runs programs nobody has read where they can do no harm, and judges them where they can't reach."""

    def run(
        self,
        program: str,
        *,
        stdin: str = "",
        seconds: float,
        preload: tuple[str, ...] = (),
    ) -> Ran:
        """Run a Python program as a script; `preload` names modules that are slow to import and trusted."""

    def test(self, program: str, *, tests: str, entry: str = "", prompt: str = "", seconds: float) -> Tested:
        """Judge a Python program by tests that it never sees; `prompt` is the problem's own code, if it has any.

        `entry` is the function that the tests know as `candidate` too; a `check(candidate)` they define is called with
        it, functions named test_... are called, and other names the tests don't define are the program's.
        """

    def close(self) -> None:
        """End it, with everything in it."""


class Tokens(Protocol):
    """A model's tokenizer with its chat template: the one place where text becomes ids."""

    id: str
    """Hash of tokenizer and chat template."""
    end: int
    """The token that ends a turn."""

    def render(self, messages: Sequence[Message], *, prefix: str = "") -> Ids:
        """The ids of a prompt up to where the model answers, with `prefix` as the answer's beginning."""

    def encode(self, text: str) -> Ids:
        """The ids of a completion's text, without special tokens at either end."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""


class Backends(Protocol):
    """Opens the resources of a run; each is asked for once, when it is first needed."""

    @property
    def concurrency(self) -> int:
        """How many samples the engine works on at once, as far as that is known before it is started."""

    def sampler(self, checkpoint: Path) -> Sampler:
        """Start an engine that serves this checkpoint."""

    def trainer(self) -> Trainer:
        """Start the trainer."""

    def verifiers(self) -> Verifiers:
        """Start the verifiers' workers."""

    def tokens(self, checkpoint: Path) -> Tokens:
        """Open a checkpoint's tokenizer."""

    def identity(self, resource: str) -> Json:
        """What of a resource changes the data it makes: kind, version, settings; part of a stage's key."""

    def interrupt(self) -> None:
        """End what is being opened; whoever waits for it gets an error."""


class Lab:
    """The resources of a run, started when first needed and ended together."""

    def __init__(
        self, backends: Backends, *, root: Path, seed: int, protocol: Prompting, own: frozenset[str] = frozenset()
    ) -> None:
        """Start nothing yet; models whose roles are in `own` have engines of their own, the others share one."""
        self.backends = backends
        self.root = root
        self.seed = seed
        self.own = own
        self.protocol = protocol
        self._guard = threading.RLock()
        self._samplers: dict[str, tuple[Sampler, str]] = {}
        self._tokens: dict[str, Tokens] = {}
        self._trainer: Trainer | None = None
        self._verifiers: Verifiers | None = None
        self._closed = False

    def sampler(self, checkpoint: Checkpoint) -> Sampler:
        """Return the engine for a checkpoint's role, serving it; swaps the weights if it served another."""
        engine = checkpoint.role if checkpoint.role in self.own else "shared"
        with self._guard:
            self._open()
            sampler, served = self._samplers.get(engine, (None, ""))
            if sampler is None:
                sampler = self.backends.sampler(self.root / checkpoint.path)
            elif served != checkpoint.id:
                sampler.load(self.root / checkpoint.path)
            self._samplers[engine] = (sampler, checkpoint.id)
            return sampler

    def tokens(self, checkpoint: Checkpoint) -> Tokens:
        """Return the tokenizer of a checkpoint."""
        with self._guard:
            if checkpoint.path not in self._tokens:
                self._tokens[checkpoint.path] = self.backends.tokens(self.root / checkpoint.path)
            return self._tokens[checkpoint.path]

    @property
    def trainer(self) -> Trainer:
        """The trainer."""
        with self._guard:
            self._open()
            self._trainer = self._trainer or self.backends.trainer()
            return self._trainer

    @property
    def verifiers(self) -> Verifiers:
        """The verifiers' workers."""
        with self._guard:
            self._open()
            self._verifiers = self._verifiers or self.backends.verifiers()
            return self._verifiers

    def asked(self, checkpoint: Checkpoint, name: str) -> "EngineModel":
        """Return a checkpoint's model for verifiers to ask; `name` makes the requests' ids and seeds its own.

        Its engine is started, or swapped, by the first question.
        """
        folder = self.root / checkpoint.path
        return EngineModel(lambda: self.sampler(checkpoint), self.tokens(checkpoint), name, self.seed, folder)

    @contextmanager
    def device_free(self) -> Iterator[None]:
        """Keep the engines off the device while the block runs."""
        samplers = [sampler for sampler, _ in self._samplers.values()]
        for sampler in samplers:
            sampler.sleep()
        yield
        for sampler in samplers:
            sampler.wake()

    def close(self) -> None:
        """End everything that was started; whoever still waits for it gets an error."""
        self._closed = True
        # Whoever holds the guard may be waiting for an engine to start, or to change its weights, for ever.
        self.backends.interrupt()
        for sampler, _ in list(self._samplers.values()):
            sampler.close()
        with self._guard:
            for sampler, _ in self._samplers.values():
                sampler.close()
            self._samplers = {}
            for other in (self._trainer, self._verifiers):
                if other is not None:
                    other.close()
            self._trainer = self._verifiers = None

    def reopen(self) -> None:
        """Start everything anew when it is next needed, after a close."""
        with self._guard:
            self._closed = False

    def _open(self) -> None:
        if self._closed:
            raise EngineError("the run is ending")


class EngineModel:
    """An `AskedModel` that shares an engine with whoever else uses it; any thread may ask."""

    _count = itertools.count()

    def __init__(self, sampler: Callable[[], Sampler], tokens: Tokens, name: str, seed: int, folder: Path) -> None:
        self.folder = folder
        self._sampler = sampler
        self._tokens = tokens
        self._name = name
        self._seed = seed

    def sample(
        self, prompts: Sequence[Sequence[Message]], *, n: int = 1, temperature: float = 0.0, max_tokens: int = 256
    ) -> list[list[str]]:
        """Return n responses to each prompt; the same question again gets the same seed."""
        sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
        call = next(self._count)
        ids = [self._tokens.render(prompt) for prompt in prompts]
        for each in ids:
            self._fitting(len(each))
        requests = [
            Request(id=f"{self._name}-{call}-{at}-{index}", prompt_ids=each, sampling=sampling)
            for at, each in enumerate(ids)
            for index in range(n)
        ]
        seed = seed_of(self._seed, self._name, ids, n, temperature)
        texts = {}
        for done in self._sampler().sample(requests, seed=seed):
            if done.finish == "failed":
                raise ValueError(done.text)
            texts[done.id] = done.text
        said = [texts[request.id] for request in requests]
        return [said[at : at + n] for at in range(0, len(said), n)]

    def score(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[tuple[float, ...]]:
        """Return the log-probability of each token of each response."""
        scored = [Scored(self._tokens.render(prompt), self._tokens.encode(text)) for prompt, text in pairs]
        for each in scored:
            self._fitting(len(each.prompt_ids) + len(each.completion_ids) - 1)
        filled = [each for each in scored if each.completion_ids]
        found = iter(self._sampler().score(filled))
        return [next(found) if each.completion_ids else () for each in scored]

    def _fitting(self, length: int) -> None:
        if length >= self._sampler().context:
            raise ValueError(
                f"a question of {length} tokens is longer than the model's context, {self._sampler().context}"
            )
