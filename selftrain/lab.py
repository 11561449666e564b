"""The resources of a run, as protocols: sampler, trainer, verifiers, tokens. Backends implement them.

Stages meet these protocols only; nothing here imports a heavy library.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from selftrain.records import Ids, JsonValue, Message, Problem, Sample, Verdict

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
    """'stop' or 'length'."""
    logprob: float | None = None


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
        """Yield one completion per request as they finish, in any order."""

    def score(self, sequences: Sequence[Scored]) -> list[tuple[float, ...]]:
        """Return the log-probability of each completion token, in nats."""

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

    def verify(self, by: str, items: Sequence[tuple[Problem, Sample]]) -> Iterator[Verdict]:
        """Yield one verdict per item, in any order; a verifier that raises or hangs gives error or timeout.

        `by` is a verifier's name, path, or JSON with name and settings; '' takes each problem's own.
        """

    def close(self) -> None:
        """End the workers."""


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
