"""The records of a run: what is asked, answered, judged, chosen, trained on and measured.

A record is a frozen dataclass of plain values, so that it has an explicit Arrow schema (`tables.py`) and reads the
same in Parquet, JSON and Python. Free-form fields are `Json`: they are stored as JSON text.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

JsonValue = Any
"""None, a bool, a number, a text, or a list or mapping of them."""
Json = Mapping[str, JsonValue]

Status = Literal["pass", "fail", "scored", "error", "timeout", "abstain"]
Side = Literal["kept", "chosen", "rejected", "dropped"]
Finish = Literal["stop", "length", "gold"]
Ids = tuple[int, ...]


class Message(TypedDict):
    """One turn of a prompt: who says it, and what."""

    role: str
    content: str


def digest(*parts: object) -> str:
    """Return 16 hexadecimal digits that depend on every part: equal parts, equal digest, on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=list)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def seed_of(*parts: object) -> int:
    """Return a seed between 0 and 2**31 - 1 that depends on every part."""
    return int(digest(*parts), 16) % (2**31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something a model is asked; `id` is the hash of its content."""

    id: str
    prompt: tuple[Message, ...]
    kind: str = "task"
    """task, or what a stage made of another problem: followup, judge, critique, checker, ..."""
    answer: str | None = None
    solution: str | None = None
    """A gold response, written out."""
    tests: str | None = None
    verifier: str = "exact"
    """The problem's own verifier: a name, or JSON with a name and settings; '' takes the parent's, with its answer."""
    split: str = "train"
    parent: str | None = None
    """The problem this one was made from."""
    about: tuple[str, ...] = ()
    """The samples this one asks about: an attempt; of a revision the attempt, then the feedback."""
    plain: bool = False
    """Its prompt is complete: the run's protocol adds nothing to it."""
    prefix: str = ""
    """How the response begins; what is sampled goes on from there."""
    meta: Json = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        prompt: str | Sequence[Message],
        *,
        answer: str | None = None,
        solution: str | None = None,
        tests: str | None = None,
        verifier: str = "exact",
        split: str = "train",
        kind: str = "task",
        parent: str | None = None,
        about: Sequence[str] = (),
        plain: bool = False,
        prefix: str = "",
        meta: Json | None = None,
        id: str | None = None,
    ) -> "Problem":
        """Make a problem; a prompt of plain text is one user turn, and the id is made from the content."""
        turns: tuple[Message, ...] = (
            ({"role": "user", "content": prompt},) if isinstance(prompt, str) else tuple(prompt)
        )
        content = [kind, [[m["role"], m["content"]] for m in turns], answer, tests, parent, list(about) or None]
        return cls(
            id=id or digest(*content, *([prefix] if prefix else [])),
            prompt=turns,
            kind=kind,
            answer=answer,
            solution=solution,
            tests=tests,
            verifier=verifier,
            split=split,
            parent=parent,
            about=tuple(about),
            plain=plain,
            prefix=prefix,
            meta=meta or {},
        )

    @property
    def text(self) -> str:
        """The prompt's turns as one text, for display, comparison and search."""
        return "\n".join(m["content"] for m in self.prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One response to a problem, with the token ids that were sampled."""

    id: str
    problem: str
    index: int
    """Which of the stage's samples of this problem, from 0."""
    text: str
    prompt_ids: Ids
    """What the sampler was given, template and hint included."""
    completion_ids: Ids
    """What it sampled, the end token included where one was sampled; empty for a gold solution."""
    tokenizer: str
    """Hash of the tokenizer and chat template that the ids belong to."""
    finish: Finish
    model: str
    """Id of the checkpoint that was sampled; 'gold' for a gold solution."""
    template: str = "direct"
    prefix: int = 0
    """How many of the completion ids were given, not sampled."""
    parents: tuple[str, ...] = ()
    """The samples this one was made from (a revision: the attempt and the feedback)."""
    logprob: float | None = None
    """Sum of the completion's token log-probabilities in nats; only where a later stage asks for it."""
    settings: Json = field(default_factory=dict)

    @classmethod
    def given(
        cls,
        problem: Problem,
        text: str,
        *,
        id: str,
        model: str,
        index: int = 0,
        finish: Finish = "stop",
        template: str = "direct",
        parents: tuple[str, ...] = (),
    ) -> "Sample":
        """Make a sample of a text that nobody sampled here, a gold solution or a file's response: it has no ids."""
        return cls(
            id=id,
            problem=problem.id,
            index=index,
            text=text,
            prompt_ids=(),
            completion_ids=(),
            tokenizer="",
            finish=finish,
            model=model,
            template=template,
            parents=parents,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verifier says of a sample; error, timeout and abstain are neither right nor wrong."""

    sample: str
    by: str
    status: Status
    score: float | None = None
    step_scores: tuple[float, ...] = ()
    why: str = ""
    answer: str | None = None
    """What the verifier took as the response's answer, in one canonical form; votes count it."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """What Select decided about a sample, and which rule decided it."""

    sample: str
    problem: str
    side: Side
    rule: str
    """The rule that dropped it, or the last rule that it passed."""
    group: str = ""
    """Joins a chosen sample to its rejected one."""
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of tokens of a row, and whether they count in the loss."""

    ids: Ids
    train: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One training row: token ids by segment, never text."""

    id: str
    kind: Literal["example", "chosen", "rejected"]
    segments: tuple[Segment, ...]
    labels: tuple[float, ...] = ()
    """For process models: of each trained segment, a step, the probability that it is right."""
    weight: float = 1.0
    group: str = ""
    reference: Json = field(default_factory=dict)
    """Log-probabilities of this row under other models, by name."""
    sources: tuple[str, ...] = ()
    """The samples it was built from."""
    reencoded: bool = False
    """True where the completion was encoded again from text instead of taken as sampled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model's weights at one moment; `id` is the hash of the weights."""

    id: str
    path: str
    """Folder, relative to the run's folder."""
    role: str = "policy"
    parent: str | None = None
    base: str = ""
    round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value that a stage found in the data, for later stages of its round."""

    name: str
    value: Json
    """{"value": ...}: a number, a text, or a mapping."""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measured number with its interval (95 % where there is one)."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    split: str = ""
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one held-out problem came out in an evaluation: the share of its samples that passed."""

    problem: str
    split: str
    name: str
    """The metric it belongs to: accuracy (greedy) or pass@1 (sampled)."""
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the Gate made of a round."""

    outcome: Literal["accepted", "undecided", "rolled_back"]
    best: int
    """The round whose checkpoint is best after this decision."""
    stop: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Something that could not be processed, and why; it is counted, never silently lost."""

    problem: str
    index: int
    why: str


Record = Problem | Sample | Verdict | Pick | Row | Checkpoint | Setting | Metric | Outcome | Decision | Quarantined


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A verifier's answer about one response."""

    status: Status
    score: float | None = None
    step_scores: tuple[float, ...] = ()
    why: str = ""
    answer: str | None = None
    """What was taken as the response's answer, in one canonical form; votes count it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of a verifier's own test: a problem, a response, and the status it must get."""

    response: str
    expect: Status
    answer: str | None = None
    prompt: str = ""
    tests: str | None = None
    meta: Json = field(default_factory=dict)
    settings: Json = field(default_factory=dict)
    """The verifier's settings that the case is for."""
    template: str = "direct"
    """The sample's template; some verifiers of groups tell the samples of a problem apart by it."""
