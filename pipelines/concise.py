"""Concise reasoning (FS-BoN): the shortest right response of many, sampled after terse examples.

Self-Training Elicits Concise Reasoning in Large Language Models (Munkhbat, Ho, Kim, Yang, Kim, Yun, 2025,
arXiv:2502.20122). The model is sampled with and without a few terse worked examples in its prompt; of each problem the
shortest response that is right is kept, and the original model is fine-tuned on it without the examples. One round.

Different here: the examples are the model's own shortest right responses to other problems of the pool (the paper also
takes them from people and from a larger model: `shots` gives yours), the same ones for every problem. 16 samples and 8
examples are settings that summaries of the paper name; we have not checked them in the paper itself.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from selftrain.recipe import FromData, Recipe
from selftrain.records import Sample, Setting, Verdict
from selftrain.round import Part
from selftrain.rules import Shortest, finished, passed
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify
from selftrain.stages.find import Find, as_shots
from selftrain.templates import Shot


@dataclass(frozen=True, kw_only=True)
class FindShots(Find):
    """Set `shots` to the shortest right responses of all, one a problem, each with its question."""

    count: int = 8

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """What was sampled, and what was said of it."""
        return (Sample, Verdict)

    def reduce(self, part: Part) -> Iterator[Setting]:
        """Look through all shards; without a right response there are no examples, and the prompt is the plain one."""
        found: list[tuple[int, str, str, str]] = []
        for shard in part.each():
            for attempts in shard.attempts().values():
                for each in Shortest()(finished(passed(attempts))):
                    question = each.problem.prompt[-1]["content"]
                    found.append((len(each.sample.completion_ids), each.sample.id, question, each.sample.text))
            found = heapq.nsmallest(self.count, found)
        # The shortest stands last, next to the question.
        shots = [(question, text) for _, _, question, text in reversed(found)]
        yield as_shots(shots, f"the {len(shots)} shortest right responses")


def recipe(
    *,
    rounds: int = 1,
    samples: int = 16,
    examples: int = 8,
    shots: tuple[Shot, ...] = (),
    temperature: float = 0.7,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `samples` are drawn twice, plainly and after the examples."""
    plain = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens)
    terse = Generate(
        name="terse",
        n=samples,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        template="few-shot",
        shots=shots or FromData("shots"),
    )
    return Recipe(
        paper="arXiv:2502.20122",
        control="rest_em keep=1 rounds=1",
        rounds=rounds,
        each_round=[
            plain,
            Verify(),
            *([] if shots else [FindShots(of=("generate", "verify"), count=examples)]),
            terse,
            Verify(name="verify-terse", of=("terse",)),
            Select(rules=(passed, finished, Shortest(1))),
            MakeExamples(),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
