"""Critique in the loop: a critic says what is wrong with failed attempts, and right revisions join the training set.

Enhancing LLM Reasoning via Critique Models with Test-Time and Training-Time Supervision (Xi et al., 2024,
arXiv:2411.16579). Self-training samples too little of what is hard. Here every wrong attempt is shown to a critic, the
policy revises it after the critique, and revisions that are right become rows of the problem itself, beside the right
first attempts. The critic is a model of its own, trained on critiques whose revisions turned out right (how the paper
filters its critique data).

Different here: the critic begins as the base model and learns in the loop from what its critiques earn, where the paper
trains it beforehand on 76,321 critiques written by a larger model; `critic_rounds=0` leaves it as it is. One critique
round per attempt, LoRA by default, a Gate. Numbers of samples are settings, not the paper's.
"""

from selftrain.proposals import Ask, Revise
from selftrain.recipe import Model, Recipe, Stages
from selftrain.round import History
from selftrain.rules import AtLeast, AtMost, distinct, failed, finished, passed
from selftrain.stages import (
    SFT,
    Adopt,
    Credit,
    Evaluate,
    Gate,
    Generate,
    MakeExamples,
    Propose,
    Select,
    Train,
    Verify,
)


def recipe(
    *,
    rounds: int = 3,
    samples: int = 8,
    keep: int = 4,
    wrong: int = 2,
    critiques: int = 2,
    revisions: int = 2,
    worth: float = 0.5,
    critic_rounds: int = 99,
    question: str = "Which step is wrong first?",
    temperature: float = 0.7,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; of each problem `wrong` attempts get `critiques` each and each of those `revisions`.

    `worth` is the least share of right revisions of a critique that the critic learns; `critic_rounds` for how long.
    """
    plain = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens)
    critic: Stages = [
        Select(name="select-critiques", of=("critique", "credit"), rules=(AtLeast(worth), distinct, AtMost(keep))),
        MakeExamples(name="build-critiques", of=("select-critiques",), model="critic"),
        Train(name="train-critic", of=("build-critiques",), model="critic", loss=SFT(), start="base"),
    ]

    def each_round(history: History) -> Stages:
        return [
            plain,
            Verify(of=("generate",)),
            Propose(name="ask", of=("generate", "verify"), make=Ask(question), rules=(failed, finished, AtMost(wrong))),
            Generate(
                name="critique",
                of=("ask",),
                model="critic",
                n=critiques,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
            ),
            Propose(name="ask-again", of=("ask", "critique"), make=Revise()),
            Generate(
                name="revise", of=("ask-again",), n=revisions, temperature=temperature, max_new_tokens=max_new_tokens
            ),
            Verify(name="verify-revised", of=("revise",)),
            Credit(of=("revise", "verify-revised")),
            Adopt(of=("revise", "verify-revised"), rules=(passed, finished)),
            Verify(name="verify-adopted", of=("adopt",)),
            Select(
                of=("generate", "verify", "adopt", "verify-adopted"), rules=(passed, finished, distinct, AtMost(keep))
            ),
            MakeExamples(of=("select",)),
            Train(of=("build",), loss=SFT(), start="base"),
            *(critic if max(1, history.number) <= critic_rounds else []),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ]

    return Recipe(
        paper="arXiv:2411.16579",
        control="rest_em",
        rounds=rounds,
        models={"policy": Model(), "critic": Model()},
        each_round=each_round,
    )
