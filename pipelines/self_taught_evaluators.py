"""Self-Taught Evaluators: a judge learns from its own right judgements of pairs whose better response is known.

Self-Taught Evaluators (Wang, Kulikov, Golovneva, Yu, Yuan, Dwivedi-Yu, Pang, Fazel-Zarandi, Weston, Li, 2024,
arXiv:2408.02666). A response to a problem is put against a response to a perturbed problem: the second is good, but of
another problem, so the better of the two is known without anyone's preference. The judge compares them; judgements that
come out right, equally many of either verdict, are what the model given is fine-tuned on, and the better judge judges
in the next round. What is measured is the judge's accuracy on pairs from held-out problems.

Different here: a problem is perturbed by changing a number, not by a model that rewrites it; both responses are
verified, the better one right and the worse one wrong of the problem itself; every pair is judged in both orders; the
pairs are sampled anew each round, always from the model given. Held-out pairs are greedy responses, the gold solution
where the own one is wrong, and not RewardBench. The default question is one that the bundled model knows: two attempts
as turns, and whether the last is right; `again`, `question`, `first` and `second` are for a judge that reasons. 15
judgements a pair is the paper's number from memory, not checked.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from selftrain.lab import Lab
from selftrain.proposals import Asked, Perturbed
from selftrain.recipe import FromData, Model, Recipe
from selftrain.records import Pick, Problem, Setting, seed_of
from selftrain.round import Attempt, Part
from selftrain.rules import AtMost, Attempts, distinct, finished, passed
from selftrain.stages import (
    SFT,
    Adopt,
    Evaluate,
    Gate,
    Generate,
    Gold,
    MakeExamples,
    Propose,
    Select,
    Train,
    Verify,
)


@dataclass(frozen=True, slots=True)
class Which:
    """Whether the second of two attempts is the better one, in both orders of a right one and an adopted wrong one."""

    again: str
    question: str
    first: str
    second: str
    most: int = 1
    """Pairs of a problem."""

    tried: ClassVar[bool] = True
    judging: ClassVar[bool] = True

    def __call__(self, asked: Asked) -> Iterable[Problem]:
        """Two questions a pair, as the next turn after both attempts."""
        better = [each for each in asked.attempts if each.passed and each.sample.template != "adopted"]
        worse = [each for each in asked.attempts if each.failed and each.sample.template == "adopted"]
        for good, bad in list(zip(better, worse, strict=False))[: self.most]:
            yield self._asked(asked, (good, bad), self.first)
            yield self._asked(asked, (bad, good), self.second)

    def _asked(self, asked: Asked, pair: tuple[Attempt, Attempt], answer: str) -> Problem:
        shown = [each.sample.text for each in pair]
        return Problem.of(
            (
                *asked.protocol.messages(asked.problem),
                {"role": "assistant", "content": shown[0]},
                {"role": "user", "content": self.again},
                {"role": "assistant", "content": shown[1]},
                {"role": "user", "content": self.question},
            ),
            kind="judge",
            answer=answer,
            split=asked.origin.split,
            parent=asked.origin.id,
            about=tuple(each.sample.id for each in pair),
            plain=True,
        )


_CUTS = FromData("cuts")


@dataclass(frozen=True, kw_only=True)
class Evened(Select):
    """Select, and then equally many samples of each answer; which ones depends on their ids alone."""

    cuts: Mapping[str, int] | FromData = _CUTS
    """Of each answer the place, in a random order of all samples, up to which its samples are kept."""

    def reduce(self, part: Part) -> Iterator[Setting]:
        """Find the answer with the fewest samples, and where each other one is to be cut."""
        places: dict[str, list[int]] = defaultdict(list)
        for shard in part.each():
            for attempts in shard.attempts().values():
                left: Attempts = attempts
                for rule in self.rules:
                    left = rule(left)
                for each in left:
                    places[each.answer() or ""].append(_place(each))
        # Of a single answer a judge would learn nothing but to give it.
        fewest = min(map(len, places.values())) if len(places) > 1 else 0
        cuts = {answer: sorted(found)[fewest - 1] if fewest else -1 for answer, found in places.items()}
        why = ", ".join(f"{len(found)} x {answer!r}" for answer, found in sorted(places.items()))
        yield Setting(name="cuts", value={"value": cuts}, why=why)

    def run(self, part: Part, lab: Lab) -> Iterator[Pick]:
        """Choose per problem, and cut."""
        cuts = self.cuts
        assert not isinstance(cuts, FromData)

        def evened(attempts: Attempts) -> Attempts:
            return [each for each in attempts if _place(each) <= cuts[each.answer() or ""]]

        yield from Select.run(replace(self, rules=(*self.rules, evened)), part, lab)


def _place(attempt: Attempt) -> int:
    return seed_of("evened", attempt.sample.id)


def recipe(
    *,
    rounds: int = 5,
    samples: int = 4,
    pairs: int = 2,
    judgements: int = 15,
    keep: int = 1,
    judge: str = "policy",
    again: str = "Check it and try again.",
    question: str = "Is this right? Answer yes or no.",
    first: str = "no",
    second: str = "yes",
    temperature: float = 0.7,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `first` and `second` are the answers where the first, or the second attempt is the better one.

    `judge` is the model that judges and learns: the policy itself, or one named so, which `model.NAME=PATH` sets.
    """
    one = Generate(name="attempt", n=1, temperature=0.0, which="base", max_new_tokens=max_new_tokens)
    plain = replace(one, name="generate", n=samples, temperature=temperature)
    asks = Which(again, question, first, second, pairs)
    judged = replace(plain, name="judge", of=("which",), n=judgements, model=judge, which="latest")
    exam = (
        one,
        Gold(),
        Verify(of=("attempt", "gold")),
        Propose(name="perturb", make=Perturbed()),
        replace(one, name="perturbed", of=("perturb",)),
        Adopt(of=("perturbed",)),
        Verify(name="verify-adopted", of=("adopt",)),
        Propose(name="which", of=("attempt", "gold", "verify", "adopt", "verify-adopted"), make=replace(asks, most=1)),
        replace(judged, n=1, temperature=0.0),
        Verify(name="verify-judged", of=("judge",)),
    )
    return Recipe(
        paper="arXiv:2408.02666",
        rounds=rounds,
        models={"policy": Model(), judge: Model()},
        each_round=[
            plain,
            Verify(of=("generate",)),
            Propose(name="perturb", make=Perturbed(pairs)),
            replace(plain, name="perturbed", of=("perturb",), n=1),
            Adopt(of=("perturbed",)),
            Verify(name="verify-adopted", of=("adopt",)),
            Propose(name="which", of=("generate", "verify", "adopt", "verify-adopted"), make=asks),
            judged,
            Verify(name="verify-judged", of=("judge",)),
            Evened(name="select", of=("judge", "verify-judged"), rules=(passed, finished, distinct, AtMost(keep))),
            MakeExamples(of=("select",), model=judge),
            Train(of=("build",), model=judge, loss=SFT(), start="base"),
            Evaluate(stages=exam, measure=("judge",)),
            Gate(),
        ],
    )
