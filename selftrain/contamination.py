"""Find train problems that are held-out problems, or nearly.

The same prompt, but for case and white space, is always found. Between texts that people wrote, near-copies are found
too: 5-grams of words name the pairs worth a look, leaving out those in more than 5 % of the held-out problems (the
words of a template); then the words of the two are aligned. How much must agree depends on the numbers, for a text
with other numbers is another problem: GSM8K's own train and test splits hold pairs such as a train that travels 360
miles and a plane that travels 1200, with 84 % of the words in common. Between its splits no pair with equal numbers
agrees in more than 53 %; its problems with every name replaced, or a word, still do in more than 59 %.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from selftrain.records import Problem
from selftrain.verification.answers import normal

GRAM = 5
TEMPLATE_SHARE = 0.05
"""Share of the held-out problems beyond which an n-gram counts as a template's."""
SHORTEST = 16
"""Words that both texts must have beside a template's; a shorter held-out text is found where train holds all of it."""
CANDIDATES = 3
"""Held-out problems that a train problem is aligned with: those it shares the most n-grams with."""
EQUAL_NUMBERS, NO_NUMBERS, OTHER_NUMBERS = 0.6, 0.8, 0.88
"""Share of aligned words from which a pair is a hit."""

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[+*/=<>^]")
Words = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A train problem that is a held-out problem, or nearly."""

    train: Problem
    held_out: Problem
    overlap: float
    """Share of the shorter text's words that agree; 1 for the same prompt."""

    def __str__(self) -> str:
        what = "the same prompt" if self.overlap == 1 else f"{self.overlap:.0%} of the words"
        return (
            f"train {self.train.id} {_short(self.train)!r} and {self.held_out.split} {self.held_out.id} "
            f"{_short(self.held_out)!r} ({what})"
        )


def check(train: Sequence[Problem], held_out: Sequence[Problem], *, natural: bool) -> list[Hit]:
    """Return the train problems that are in the held-out ones, each with its nearest, worst first.

    `natural` says that people wrote the texts; of generated ones, which are alike by nature, only the same are found.
    """
    by_text = {normal(problem.text): problem for problem in held_out}
    index = _Index(held_out) if natural else None
    hits = []
    for problem in train:
        same = by_text.get(normal(problem.text))
        if same is not None:
            hits.append(Hit(train=problem, held_out=same, overlap=1.0))
        elif index is not None and (hit := index.nearest(problem)) is not None:
            hits.append(hit)
    return sorted(hits, key=lambda hit: -hit.overlap)


class _Index:
    """The held-out problems by their n-grams."""

    def __init__(self, held_out: Sequence[Problem]) -> None:
        self._held_out = held_out
        words = [_words(problem) for problem in held_out]
        counts = Counter(gram for each in words for gram in set(_grams(each)))
        # In a handful of problems 5 % is less than one of them, and two that are alike make no template.
        limit = max(3, TEMPLATE_SHARE * len(held_out))
        self._template = {gram for gram, count in counts.items() if count > limit}
        self._words = [self._own(each) for each in words]
        self._same = {each: at for at, each in enumerate(words)}
        self._holders: dict[Words, list[int]] = {}
        for at, each in enumerate(words):
            for gram in set(_grams(each)) - self._template:
                self._holders.setdefault(gram, []).append(at)

    def nearest(self, problem: Problem) -> Hit | None:
        """Return the held-out problem that this one nearly is, if there is one."""
        words = _words(problem)
        if words and (at := self._same.get(words)) is not None:
            return Hit(train=problem, held_out=self._held_out[at], overlap=1.0)
        own = self._own(words)
        shared = Counter(at for gram in set(_grams(words)) for at in self._holders.get(gram, ()))
        best: Hit | None = None
        for at, _ in shared.most_common(CANDIDATES):
            other = self._words[at]
            overlap = _aligned(own, other)
            if min(len(own), len(other)) < SHORTEST and (overlap < 1 or len(own) < len(other)):
                continue
            if overlap >= _threshold(own, other) and (best is None or overlap > best.overlap):
                best = Hit(train=problem, held_out=self._held_out[at], overlap=overlap)
        return best

    def _own(self, words: Words) -> Words:
        """Return the words that no template's n-gram covers."""
        if not self._template:
            return words
        covered = {at + step for at, gram in enumerate(_grams(words)) if gram in self._template for step in range(GRAM)}
        return tuple(word for at, word in enumerate(words) if at not in covered)


def _words(problem: Problem) -> Words:
    return tuple(_WORD.findall(normal(problem.text)))


def _grams(words: Words) -> Iterable[Words]:
    return zip(*(words[step:] for step in range(GRAM)), strict=False)


def _aligned(left: Words, right: Words) -> float:
    """Return the share of the shorter text's words that stand in both in the same order, not counting lone ones."""
    blocks = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks if block.size > 1) / max(1, min(len(left), len(right)))


def _threshold(left: Words, right: Words) -> float:
    numbers = [Counter(word for word in words if word[0].isdigit()) for words in (left, right)]
    if not numbers[0] and not numbers[1]:
        return NO_NUMBERS
    fewer, more = sorted(numbers, key=Counter.total)
    return EQUAL_NUMBERS if fewer and fewer <= more else OTHER_NUMBERS


def _short(problem: Problem) -> str:
    text = " ".join(problem.text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
