"""LeDex: the model explains what is wrong with its failed attempts and mends them; what execution confirms is learned.

LeDex: Training LLMs to Better Self-Debug and Explain Code (Jiang et al., 2024, arXiv:2405.18649). Of attempts that
fail, the model writes explanations, and after each explanation a refined attempt, which is executed. It is fine-tuned
on right solutions, on the explanations whose refinements pass, and on those refinements, so that it learns to write,
to say what is wrong, and to mend.

Different here: the explanation and the refinement are two turns, asked for in the words that nano knows, where the
paper asks for both in one response; an explanation is kept if at least `worth` of its refinements pass. The paper takes
its data from a larger model too, and goes on with reinforcement learning, whose reward also looks at the explanation:
both are left out. Any verifier may stand for the execution. `evaluate` measures the first attempt as `accuracy`, and
the attempt after an explanation of it, right or wrong, as `repair/accuracy`. Numbers are settings, not the paper's.
"""

from dataclasses import replace

from selftrain.proposals import Ask, Revise
from selftrain.recipe import Recipe, Stage
from selftrain.rules import AtLeast, AtMost, Rule, distinct, failed, finished, passed
from selftrain.stages import SFT, Credit, Evaluate, Gate, Generate, MakeExamples, Propose, Select, Train, Verify


def debugging(first: Generate, question: str, explanations: int, repairs: int, wrong: tuple[Rule, ...]) -> list[Stage]:
    """Return an attempt's stages: it is verified, explained, and tried again after the explanation."""
    return [
        first,
        Verify(of=(first.name,)),
        Propose(name="ask", of=(first.name, "verify"), make=Ask(question), rules=wrong),
        replace(first, name="explain", of=("ask",), n=explanations),
        Propose(name="ask-again", of=("ask", "explain"), make=Revise()),
        replace(first, name="repair", of=("ask-again",), n=repairs),
        Verify(name="verify-repair", of=("repair",)),
    ]


def recipe(
    *,
    rounds: int = 1,
    samples: int = 8,
    keep: int = 4,
    wrong: int = 2,
    explanations: int = 2,
    repairs: int = 2,
    worth: float = 0.5,
    question: str = "Which step is wrong first?",
    temperature: float = 0.8,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; of each problem `wrong` failed attempts get `explanations` each and each of those `repairs`."""
    first = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens)
    greedy = Generate(name="greedy", n=1, temperature=0.0, max_new_tokens=max_new_tokens)
    right = (passed, finished, distinct, AtMost(keep))
    return Recipe(
        paper="arXiv:2405.18649",
        control="rest_em rounds=1",
        rounds=rounds,
        each_round=[
            *debugging(first, question, explanations, repairs, (failed, finished, AtMost(wrong))),
            Credit(of=("repair", "verify-repair")),
            Select(of=("generate", "verify"), rules=right),
            Select(name="select-explained", of=("explain", "credit"), rules=(AtLeast(worth), distinct, AtMost(keep))),
            Select(name="select-repaired", of=("repair", "verify-repair"), rules=right),
            MakeExamples(of=("select", "select-explained", "select-repaired")),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(stages=tuple(debugging(greedy, question, 1, 1, ())), measure=("greedy", "repair")),
            Gate(),
        ],
    )
