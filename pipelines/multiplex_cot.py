"""Multiplex CoT: a second chain of thought looks the first one through and answers again; no gold is looked at.

MyGO Multiplex CoT: A Method for Self-Reflection in Large Language Models via Double Chain of Thought Thinking (Ji et
al., 2025, arXiv:2501.13117). The model writes a chain of thought, and then, asked to, a second one that criticises and
refines it, whatever the first was like. It is prompting alone: the paper trains nothing.

Different here: `evaluate` asks held-out problems both ways and measures the first chain as `accuracy`, the second as
`second/accuracy`, in round 0 on the base model: that is the paper's claim. What the second chain says is then learned
as the answer to the problem itself, to see whether it is worth learning. The request for the second chain is one that
nano knows. No gold answer is looked at, unless gate=true.
"""

from dataclasses import replace

from selftrain.proposals import Revise
from selftrain.recipe import Recipe
from selftrain.rules import AtMost, distinct, finished
from selftrain.stages import SFT, Adopt, Evaluate, Gate, Generate, MakeExamples, Propose, Select, Train, Verify


def recipe(
    *,
    rounds: int = 1,
    samples: int = 4,
    keep: int = 4,
    question: str = "Check it and try again.",
    temperature: float = 0.7,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `question` asks for the second chain."""
    first = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens)
    ask = Propose(name="ask-again", of=("generate",), make=Revise(question))
    second = replace(first, name="second", of=("ask-again",), n=1)
    held_out = (replace(first, n=1, temperature=0.0), ask, replace(second, temperature=0.0))
    return Recipe(
        paper="arXiv:2501.13117",
        control="random_select gate=false",
        rounds=rounds,
        each_round=[
            first,
            ask,
            second,
            Adopt(of=("second",), rules=(finished,)),
            Select(of=("adopt",), rules=(distinct, AtMost(keep))),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(stages=(*held_out, Verify(of=("generate", "second"))), measure=("generate", "second")),
            *([Gate()] if gate else []),
        ],
    )
