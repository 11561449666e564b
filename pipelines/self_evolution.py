"""SELF: the model first learns to judge and to refine, then trains on answers that it refined and let pass itself.

SELF: Self-Evolution with Language Feedback (Lu et al., 2023, arXiv:2310.00533; first titled Language-Driven
Self-Evolution for Large Language Model). A meta-skill phase fine-tunes on feedback and refinements. Then rounds of
self-evolution: the model answers unlabelled problems, gives feedback on its answers, refines what it finds wanting, and
drops what its own feedback still faults; the rest, mixed with the meta-skill rows, is what it is fine-tuned on.

Different here: the meta-skill rows are the model's own feedback and refinements that the problems' verifier confirms
(the paper's are written by a larger model); feedback is a verdict, yes or no. The rounds look at no gold answer, and
with gate=false neither does the choice of a checkpoint. Training restarts from the base model each round
(start=latest goes on). The paper mixes question-answer rows into the meta-skill phase, says memory; here are none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from selftrain.lab import Lab
from selftrain.proposals import Ask, Revise
from selftrain.recipe import Recipe, Stage
from selftrain.records import Pick, Sample, Verdict
from selftrain.round import Part
from selftrain.rules import AtMost, distinct, failed, finished, passed
from selftrain.stages import SFT, Adopt, Evaluate, Gate, Generate, MakeExamples, Propose, Select, Train, Verify


@dataclass(frozen=True, kw_only=True)
class Heed(Stage):
    """Judge samples by what the model said of them when it was asked."""

    right: str = "yes"
    wrong: str = "no"

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Feedback."""
        return (Sample,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Verdicts on the samples that the feedback is about."""
        return (Verdict,)

    def run(self, part: Part, lab: Lab) -> Iterator[Verdict]:
        """One verdict for each feedback; words that are neither say nothing."""
        for each in part.read(Sample):
            said = each.text.strip().rstrip(".").casefold()
            status: Literal["pass", "fail", "abstain"] = "abstain"
            if said in (self.right, self.wrong):
                status = "pass" if said == self.right else "fail"
            yield Verdict(sample=each.parents[0], by=self.name, status=status, why=each.text[:80])


@dataclass(frozen=True, kw_only=True)
class Again(Stage):
    """Pick once more what selections before round 1 have kept."""

    selections: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Nothing of this round."""
        return ()

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Picks."""
        return (Pick,)

    @property
    def reach(self) -> Literal["round", "run"]:
        """Those selections saw other shards than this round may."""
        return "run"

    def run(self, part: Part, lab: Lab) -> Iterator[Pick]:
        """Read round 0's picks of the shard."""
        stored = part.round.store.stages(0)
        for name in self.selections:
            yield from (pick for pick in stored[name].read(Pick, part.shard) if pick.side == "kept")


def recipe(
    *,
    rounds: int = 3,
    samples: int = 4,
    keep: int = 4,
    tries: int = 4,
    question: str = "Is this right? Answer yes or no.",
    again: str = "That is wrong. Try again.",
    temperature: float = 0.7,
    start: Literal["base", "latest"] = "base",
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; in the meta-skill phase each attempt gets `tries` verdicts and, if wrong, `tries` revisions."""

    def sample(name: str, of: str, n: int = 1) -> Generate:
        return Generate(name=name, of=(of,), n=n, temperature=temperature, max_new_tokens=max_new_tokens)

    attempt = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens)
    heard, revised = ("generate", "heed"), ("revise", "heed-revised")
    return Recipe(
        paper="arXiv:2310.00533",
        control="self_refine",
        rounds=rounds,
        before=[
            attempt,
            Verify(of=("generate",)),
            Propose(
                name="ask", of=("generate", "verify"), make=Ask(question, right="yes", wrong="no"), rules=(finished,)
            ),
            sample("feedback", "ask", tries),
            Verify(name="verify-feedback", of=("feedback",)),
            Select(name="select-feedback", of=("feedback", "verify-feedback"), rules=(passed, finished, AtMost(1))),
            Propose(name="ask-again", of=("generate", "verify"), make=Revise(again), rules=(failed, finished)),
            sample("revise", "ask-again", tries),
            Verify(name="verify-revised", of=("revise",)),
            Select(name="select-revised", of=("revise", "verify-revised"), rules=(passed, finished, AtMost(1))),
            MakeExamples(name="build-meta", of=("select-feedback", "select-revised")),
            Train(name="train-meta", of=("build-meta",), loss=SFT(), start="base"),
        ],
        each_round=[
            attempt,
            Propose(name="ask", of=("generate",), make=Ask(question), rules=(finished,)),
            sample("feedback", "ask"),
            Heed(of=("feedback",)),
            Propose(name="ask-again", of=heard, make=Revise(again), rules=(failed,)),
            sample("revise", "ask-again"),
            Propose(name="ask-revised", of=("revise",), make=Ask(question), rules=(finished,)),
            sample("feedback-revised", "ask-revised"),
            Heed(name="heed-revised", of=("feedback-revised",)),
            Adopt(of=revised, rules=(passed,)),
            Select(of=heard, rules=(passed, distinct, AtMost(keep))),
            Select(name="select-refined", of=("adopt",), rules=(distinct, AtMost(keep))),
            Again(selections=("select-feedback", "select-revised")),
            MakeExamples(of=("select", "select-refined", "again")),
            Train(of=("build",), loss=SFT(), start=start),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
