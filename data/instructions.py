"""Short texts to write by instructions that a program can check, by IFEval's ids; made on the spot, no download.

    Write about the fox. Give it a title. Use 2 bullets. Add a P.S.

    <<the fox>>
    - the fox runs
    - the fox sings
    P.S. the fox sleeps

A problem asks for one to three things beside what it is about, in any order; that number is its level. Many texts do
what is asked; the solution is the shortest of one kind.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from selftrain.problems import fill_by_level
from selftrain.records import Problem

HARDEST = 3
TOPICS = ("fox", "dog", "cat", "bird", "king", "child", "bear", "fish", "horse", "wolf", "queen", "mouse")
VERBS = ("runs", "sings", "sleeps", "eats", "waits", "plays")
WORDS_OF_A_CLAUSE = 3


class Kind(NamedTuple):
    """A kind of instruction: how it is said, IFEval's id and arguments; `{value}` and None stand for its value."""

    asked: str
    id: str
    arguments: Mapping[str, Any]
    values: Sequence[int | str] = (0,)


KINDS = {
    "title": Kind("Give it a title.", "detectable_format:title", {}),
    "bullets": Kind("Use {value} bullets.", "detectable_format:number_bullet_lists", {"num_bullets": None}, (2, 3)),
    "words": Kind(
        "Use {value} words or more.",
        "length_constraints:number_words",
        {"relation": "at least", "num_words": None},
        (6, 9),
    ),
    "quotes": Kind("Put it in quotes.", "startend:quotation", {}),
    "postscript": Kind("Add a P.S.", "detectable_content:postscript", {"postscript_marker": "P.S."}),
    "end": Kind(
        "End with: {value}.",
        "startend:end_checker",
        {"end_phrase": None},
        ("so be it", "that is all", "good night", "the end"),
    ),
}


class Wanted(NamedTuple):
    """What a text is about, and what else is asked: each kind's value."""

    topic: str
    wishes: Mapping[str, int | str]


def load(
    *,
    train: int = 200,
    valid: int = 100,
    test: int = 100,
    seed: int = 0,
    min_level: int = 1,
    max_level: int = HARDEST,
) -> Mapping[str, Sequence[Problem]]:
    """Return distinct requests by split; the splits draw from disjoint parts of all requests."""
    counts = {"train": train, "valid": valid, "test": test}
    return fill_by_level(
        "instructions",
        lambda stream, level: problem(draw(stream, level)),
        counts,
        seed=seed,
        levels=(min_level, max_level),
        hardest=HARDEST,
    )


def bundled() -> Sequence[Problem]:
    """Return a few requests."""
    return load(train=10, valid=0, test=0)["train"]


def draw(stream: random.Random, level: int) -> Wanted:
    """Draw a topic and so many different kinds of instructions."""
    kinds = stream.sample(list(KINDS), level)
    return Wanted(stream.choice(TOPICS), {kind: stream.choice(KINDS[kind].values) for kind in kinds})


def problem(wanted: Wanted) -> Problem:
    """Write a request as a problem with its instructions and a text that follows them."""
    said = [f"Write about the {wanted.topic}."]
    listed: list[dict[str, Any]] = [{"id": "keywords:existence", "keywords": [wanted.topic]}]
    for name, value in wanted.wishes.items():
        kind = KINDS[name]
        said.append(kind.asked.format(value=value))
        given = {key: value if argument is None else argument for key, argument in kind.arguments.items()}
        listed.append({"id": kind.id, **given})
    return Problem.of(
        " ".join(said),
        solution=text(wanted, VERBS),
        verifier="instructions",
        meta={"instructions": listed, "level": len(wanted.wishes)},
    )


def text(wanted: Wanted, verbs: Sequence[str]) -> str:
    """Write a text that follows all instructions, with these verbs, one after the other."""
    wishes, says = wanted.wishes, _clauses(wanted.topic, verbs)
    lines = [f"<<the {wanted.topic}>>"] if "title" in wishes else []
    bullets = int(wishes.get("bullets", 1))
    more = max(0, int(wishes.get("words", 0)) // WORDS_OF_A_CLAUSE - bullets)
    body = [" and ".join(next(says) for _ in range(1 + more * (place == 0))) for place in range(bullets)]
    lines += [f"- {line}" for line in body] if "bullets" in wishes else body
    lines += [f"P.S. {next(says)}"] if "postscript" in wishes else []
    lines += [str(wishes["end"])] if "end" in wishes else []
    if "quotes" in wishes:
        # A bullet must begin its line.
        lines = ['"', *lines] if lines[0].startswith("-") else ['"' + lines[0], *lines[1:]]
        lines[-1] += '"'
    return "\n".join(lines)


def _clauses(topic: str, verbs: Sequence[str]) -> Iterator[str]:
    for verb in verbs:
        yield f"the {topic} {verb}"
