"""Propositional inference: from a fact by rules, one after the other, and whether something is true; made on the spot.

    d; r->k; d->~b; ~b->r; b->m. Is k true, false or unknown?

    d->~b
    ~b->r
    r->k
    #### true

A solution follows the rules from the fact until none applies; `~` is "not". Two rules of a problem lead nowhere: what
they begin with is not known, or known to be false. A problem's level is the number of rules that apply. A response is
right where each line is a rule that applies, and the last one the right answer: `regex` decides by the problem's
pattern. Fact, rules and question also stand in `meta`, as the verifier `logic` reads them, for which the answer is
enough.
"""

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from string import ascii_lowercase
from typing import NamedTuple

from selftrain.problems import fill_by_level
from selftrain.records import Problem

HARDEST = 4
IDLE = 2
"""Rules that don't apply."""
ANSWERS = ("true", "true", "false", "false", "unknown")
"""How often each answer is right."""
NEGATED = 0.5
"""Share of the literals that are negated."""


class Puzzle(NamedTuple):
    """What is known, what is asked, and what follows."""

    fact: str
    rules: tuple[tuple[str, str], ...]
    """What a rule begins with, and what follows from it: `b`, or `~b`."""
    asked: str


def load(
    *,
    train: int = 200,
    valid: int = 100,
    test: int = 100,
    seed: int = 0,
    min_level: int = 1,
    max_level: int = 2,
    words: bool = False,
) -> Mapping[str, Sequence[Problem]]:
    """Return distinct puzzles by split, from disjoint parts of all; in words `~b->r` is `not b -> r`."""
    counts = {"train": train, "valid": valid, "test": test}
    return fill_by_level(
        "inference",
        lambda stream, level: problem(draw(stream, level), words=words),
        counts,
        seed=seed,
        levels=(min_level, max_level),
        hardest=HARDEST,
    )


def bundled() -> Sequence[Problem]:
    """Return a few puzzles."""
    return load(train=10, valid=0, test=0)["train"]


def draw(stream: random.Random, level: int) -> Puzzle:
    """Draw a chain of rules from a fact, rules that lead nowhere, and what is asked: the chain's end, or theirs."""
    names = iter(stream.sample(ascii_lowercase, level + 1 + 2 * IDLE))
    answer = stream.choice(ANSWERS)
    chain = [next(names)] + [_signed(next(names), stream) for _ in range(level)]
    if answer != "unknown":
        chain[-1] = chain[-1].removeprefix("~") if answer == "true" else f"~{chain[-1][-1]}"
    idle = []
    for _ in range(IDLE):
        begun = opposite(stream.choice(chain)) if stream.random() < 0.5 else _signed(next(names), stream)
        idle.append((begun, _signed(next(names), stream)))
    rules = [*pairwise(chain), *idle]
    stream.shuffle(rules)
    return Puzzle(chain[0], tuple(rules), stream.choice(idle)[1][-1] if answer == "unknown" else chain[-1][-1])


def problem(puzzle: Puzzle, *, words: bool = False) -> Problem:
    """Write a puzzle as a problem with its answer and its solution."""
    applied = chained(puzzle)
    answer = said(puzzle, applied)
    rules = written(puzzle.rules, words=words)
    return Problem.of(
        f"{'; '.join((puzzle.fact, *rules))}. Is {puzzle.asked} true, false or unknown?",
        answer=answer,
        solution="\n".join(steps(puzzle, words=words)),
        verifier="regex",
        meta={
            "pattern": rf"(?:(?:{'|'.join(written(applied, words=words))})\n)+#### {answer}",
            "premises": [puzzle.fact, *rules],
            "conclusion": puzzle.asked,
            "choices": ["true", "false", "unknown"],
            "level": len(applied),
        },
    )


def opposite(literal: str) -> str:
    """Return a literal's negation."""
    return literal.removeprefix("~") if literal.startswith("~") else f"~{literal}"


def chained(puzzle: Puzzle, *, negations: bool = True) -> list[tuple[str, str]]:
    """Return the rules that apply, each to what the one before it says; or without the `~` of what they say."""
    known, applied = puzzle.fact, []
    while (follows := dict(puzzle.rules).get(known)) is not None:
        applied.append((known, follows if negations else follows[-1]))
        known = applied[-1][1]
    return applied


def said(puzzle: Puzzle, applied: Sequence[tuple[str, str]]) -> str:
    """Return the answer when these rules were applied."""
    known = {puzzle.fact, *(follows for _, follows in applied)}
    return "true" if puzzle.asked in known else "false" if opposite(puzzle.asked) in known else "unknown"


def written(rules: Sequence[tuple[str, str]], *, words: bool) -> list[str]:
    """Return rules as they are written."""
    lines = [f"{begun}->{follows}" for begun, follows in rules]
    return [line.replace("->", " -> ").replace("~", "not ") for line in lines] if words else lines


def steps(puzzle: Puzzle, *, negations: bool = True, words: bool = False) -> list[str]:
    """Return the lines of a solution: the rules that apply, then the answer; or of one that loses each `~`."""
    applied = chained(puzzle, negations=negations)
    return [*written(applied, words=words), f"#### {said(puzzle, applied)}"]


def _signed(name: str, stream: random.Random) -> str:
    return f"~{name}" if stream.random() < NEGATED else name
