"""Self-rewarding correction: attempt, own verdict and, where it is "wrong", a revision are learned as one response.

Self-rewarding correction for mathematical reasoning (Xiong et al., 2025, arXiv:2502.19613). Sequential rejection
sampling makes traces from the model's own samples, step by step: attempts; verdicts on them, of which those that agree
with the checker are kept; revisions of the attempts found wrong, of which the right ones are kept. A trace is a right
attempt with its verdict, or a wrong one with its verdict and a right revision. Fine-tuning on them teaches one model to
judge and to correct itself without help.

Different here: the first stage alone (the paper goes on with DPO or PPO). The verdict is asked in the words that nano
knows and written into the trace as the authors' token, [VERIFY] correct or wrong, without a reasoning before it; a
trace has one correction at most. The two kinds are balanced over the whole round, the larger cut to the size of the
smaller (that the paper balances them is from memory). The base model is fine-tuned afresh.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from selftrain.lab import Lab
from selftrain.proposals import Ask, Revise
from selftrain.recipe import FromData, Recipe, Stage
from selftrain.records import Pick, Sample, Setting, Verdict, digest, seed_of
from selftrain.round import Attempt, Part
from selftrain.rules import AtMost, distinct, failed, finished, passed
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Propose, Select, Train, Verify


@dataclass(frozen=True, kw_only=True)
class Trace(Stage):
    """Join attempts that got a right verdict with it and, where they are wrong, with a right revision.

    The template says which kind a trace is: confirmed or corrected.
    """

    right: str = "\n[VERIFY] correct"
    wrong: str = "\n[VERIFY] wrong\n"

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Attempts, verdicts in words and revisions, and what the checker said of each."""
        return (Sample, Verdict)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Samples of the given problems."""
        return (Sample,)

    def run(self, part: Part, lab: Lab) -> Iterator[Sample]:
        """One trace an attempt at most, in the attempts' order."""
        found: dict[str, dict[str, Attempt]] = {"verdict": {}, "revision": {}}
        tried: list[Attempt] = []
        for attempts in part.attempts().values():
            problem = attempts[0].problem
            good = [each for each in attempts if each.passed and each.sample.finish != "length"]
            if problem.kind not in found:
                tried += [each for each in attempts if each.sample.finish != "length"]
            elif good:
                found[problem.kind][problem.about[0]] = good[0]
        for index, each in enumerate(tried):
            verdict = found["verdict"].get(each.sample.id)
            revision = found["revision"].get(each.sample.id)
            if verdict and each.passed:
                yield self._joined(each, self.right, [verdict], index, part.round.number)
            elif verdict and each.failed and revision:
                yield self._joined(each, self.wrong, [verdict, revision], index, part.round.number)

    def _joined(self, attempt: Attempt, said: str, rest: list[Attempt], index: int, round: int) -> Sample:
        revision = "".join(each.sample.text for each in rest[1:])
        return Sample.given(
            attempt.problem,
            attempt.sample.text.rstrip() + said + revision,
            id=digest(round, self.name, attempt.sample.id),
            model=attempt.sample.model,
            index=index,
            template="corrected" if revision else "confirmed",
            parents=(attempt.sample.id, *(each.sample.id for each in rest)),
        )


@dataclass(frozen=True, kw_only=True)
class Balanced(Select):
    """Select as many of one template's samples as of the other's; which ones depends on their ids alone."""

    templates: tuple[str, ...] = ("confirmed", "corrected")
    below: Mapping[str, int] | FromData = field(default_factory=dict)
    """Of each template, where the order by seed is cut off."""

    def reduce(self, part: Part) -> Iterator[Setting]:
        """Count what the rules leave of each template."""
        seeds: dict[str, list[int]] = defaultdict(list)
        for shard in part.each():
            ids = {pick.sample for pick in super().run(shard, None) if pick.side == "kept"}  # type: ignore[arg-type]
            for each in shard.samples(ids).values():
                seeds[each.sample.template].append(seed_of(self.name, each.sample.id))
        count = min(len(seeds[name]) for name in self.templates)
        below = {name: [*sorted(seeds[name]), 2**31][count] for name in self.templates}
        yield Setting(name="below", value={"value": below}, why=f"{count} of each kind")

    def run(self, part: Part, lab: Lab) -> Iterator[Pick]:
        """Choose per problem, then cut."""
        assert not isinstance(self.below, FromData)
        picks = list(super().run(part, lab))
        kept = part.samples(pick.sample for pick in picks if pick.side == "kept")
        for pick in picks:
            template = kept[pick.sample].sample.template if pick.sample in kept else ""
            if template and seed_of(self.name, pick.sample) >= self.below[template]:
                yield Pick(sample=pick.sample, problem=pick.problem, side="dropped", rule="balance")
            else:
                yield pick


def recipe(
    *,
    rounds: int = 1,
    samples: int = 8,
    keep: int = 4,
    tries: int = 4,
    question: str = "Is this right? Answer yes or no.",
    again: str = "That is wrong. Try again.",
    temperature: float = 1.0,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; each attempt gets `tries` verdicts and, if it is wrong, `tries` revisions."""

    def sample(name: str, of: str) -> Generate:
        return Generate(name=name, of=(of,), n=tries, temperature=temperature, max_new_tokens=max_new_tokens)

    tried = ("generate", "verify")
    judged = ("verdict", "verify-verdict", "revise", "verify-revised")
    return Recipe(
        paper="arXiv:2502.19613",
        control="rest_em rounds=1",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(of=("generate",)),
            Propose(
                name="ask",
                of=tried,
                make=Ask(question, "verdict", right="yes", wrong="no"),
                rules=(finished, distinct),
            ),
            sample("verdict", "ask"),
            Verify(name="verify-verdict", of=("verdict",)),
            Propose(name="ask-again", of=tried, make=Revise(again), rules=(failed, finished, distinct)),
            sample("revise", "ask-again"),
            Verify(name="verify-revised", of=("revise",)),
            Trace(of=(*tried, *judged)),
            Verify(name="verify-traces", of=("trace",)),
            Balanced(
                name="select",
                of=("trace", "verify-traces"),
                rules=(passed, distinct, AtMost(keep)),
                below=FromData("below"),
            ),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
