"""Translation into a toy language that has many right translations of a sentence; made on the spot, no download.

    Translate: the red fox sees the old dog.        lina mura visi olo tako

Its words end in -a where they belong to who does something, in -o where they belong to whom it is done, verbs in -i.
The endings say who is who, so the order of the words is free; and some words have a synonym. There are no articles. The
problem's pattern, for the verifier `regex`, matches all right translations and nothing else. A problem's level is one
more than the number of its adjectives.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from selftrain.problems import fill_by_level
from selftrain.records import Problem

HARDEST = 3
NOUNS = {
    "fox": ("mur",),
    "dog": ("tak", "rul"),
    "cat": ("pif",),
    "bird": ("sev", "dal"),
    "king": ("gom",),
    "child": ("nib", "hut"),
    "bear": ("bor",),
    "fish": ("zel",),
}
ADJECTIVES = {
    "red": ("lin",),
    "old": ("ol", "vet"),
    "big": ("kam",),
    "sad": ("jur", "fes"),
    "wise": ("sof",),
    "white": ("yun",),
}
VERBS = {
    "sees": ("vis",),
    "hears": ("aud", "kor"),
    "finds": ("tro",),
    "loves": ("lub", "mel"),
    "helps": ("juv",),
    "follows": ("sek",),
}
"""English words, and the stems of what they can be in the toy language; no stem is another word's."""
DOING, DONE_TO, ACTION = "a", "o", "i"


class Part(NamedTuple):
    """Who does something, or whom it is done to."""

    noun: str
    adjective: str = ""


class Sentence(NamedTuple):
    """Who does what to whom."""

    subject: Part
    verb: str
    object: Part


def load(
    *,
    train: int = 200,
    valid: int = 100,
    test: int = 100,
    seed: int = 0,
    min_level: int = 1,
    max_level: int = HARDEST,
) -> Mapping[str, Sequence[Problem]]:
    """Return distinct sentences by split; the splits draw from disjoint parts of all sentences."""
    counts = {"train": train, "valid": valid, "test": test}
    return fill_by_level(
        "translation",
        lambda stream, level: problem(draw(stream, level)),
        counts,
        seed=seed,
        levels=(min_level, max_level),
        hardest=HARDEST,
    )


def bundled() -> Sequence[Problem]:
    """Return a few sentences."""
    return load(train=10, valid=0, test=0)["train"]


def draw(stream: random.Random, level: int) -> Sentence:
    """Draw a sentence with one adjective less than its level; its two nouns differ."""
    nouns = stream.sample(list(NOUNS), 2)
    described = [True] * (level - 1) + [False] * (HARDEST - level)
    stream.shuffle(described)
    subject, done_to = (
        Part(noun, stream.choice(list(ADJECTIVES)) if has else "") for noun, has in zip(nouns, described, strict=True)
    )
    return Sentence(subject, stream.choice(list(VERBS)), done_to)


def problem(sentence: Sentence) -> Problem:
    """Write a sentence as a problem with the pattern of its translations and the plainest of them."""
    subject, verb, done_to = sentence
    words = [f"the {f'{part.adjective} '.lstrip()}{part.noun}" for part in (subject, done_to)]
    return Problem.of(
        f"Translate: {words[0]} {verb} {words[1]}.",
        solution=" ".join(choices[0] for choices in slots(sentence)),
        verifier="regex",
        meta={
            "pattern": pattern(list(slots(sentence))),
            "level": 1 + bool(subject.adjective) + bool(done_to.adjective),
        },
    )


def slots(sentence: Sentence) -> Iterator[list[str]]:
    """Yield, for each English word but the articles, the words that may stand for it; no two have one in common."""
    for part, ending in ((sentence.subject, DOING), (sentence.object, DONE_TO)):
        if part.adjective:
            yield [stem + ending for stem in ADJECTIVES[part.adjective]]
        yield [stem + ending for stem in NOUNS[part.noun]]
        if part is sentence.subject:
            yield [stem + ACTION for stem in VERBS[sentence.verb]]


def pattern(choices: Sequence[Sequence[str]]) -> str:
    """Return an expression for as many words as there are slots, one of each slot, in any order."""
    one_of_each = "".join(rf"(?=(?:\S+ )*(?:{'|'.join(words)})(?: |\Z))" for words in choices)
    return rf"{one_of_each}\S+(?: \S+){{{len(choices) - 1}}}"
