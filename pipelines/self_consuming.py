"""Self-consuming loop with correction: a set share of the rows is the model's own, made better before it is learned.

Self-Correcting Self-Consuming Loops for Generative Model Training (Gillman et al., 2024, arXiv:2402.07087). Each
generation is trained on real data and on samples of the generation before. Left as they are, the samples may make the
loop collapse; a correction that moves each of them towards the true distribution, by knowledge from outside the model,
keeps it stable, the paper finds, even where all data is synthetic.

Different here: the corrector is the checker. An own response that is wrong is replaced by one that the model gives with
the answer as a hint and that is right; where none is, the problem has no row. Which problems have a gold row depends on
their ids alone, so it is the same in every round. Unlike in the paper's motion experiments nothing is moved part of the
way (its correction strength). LoRA by default, no Gate, so that a collapse can be seen.
"""

from typing import Literal

from selftrain.recipe import Recipe
from selftrain.rules import AtMost, Attempts, Rule, finished, passed
from selftrain.stages import SFT, Evaluate, Gate, Generate, Gold, MakeExamples, Select, Train, Verify


def real_or_own(attempts: Attempts) -> Attempts:
    """Keep the gold solution where there is one, else the model's own samples."""
    return [each for each in attempts if each.sample.finish == "gold"] or attempts


def recipe(
    *,
    rounds: int = 5,
    synthetic: float = 0.5,
    correct: bool = True,
    corrections: int = 4,
    temperature: float = 1.0,
    start: Literal["base", "latest"] = "latest",
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `synthetic` is the share of problems whose row is the model's own, correct=False the control.

    A wrong response gets `corrections` tries with the answer as a hint.
    """
    own = Generate(n=1, temperature=temperature, max_new_tokens=max_new_tokens)
    rules: tuple[Rule, ...] = (real_or_own, *((passed, finished) if correct else ()), AtMost(1))
    hinted = Generate(
        name="correct",
        n=corrections,
        template="hint",
        only="unsolved",
        temperature=temperature,
        max_new_tokens=max_new_tokens,
    )
    return Recipe(
        paper="arXiv:2402.07087",
        control="self_consuming correct=false",
        rounds=rounds,
        each_round=[
            Gold(share=1 - synthetic),
            own,
            *([Verify(), hinted, Verify(name="verify-corrected", of=("correct",))] if correct else []),
            Select(rules=rules),
            MakeExamples(),
            Train(loss=SFT(), start=start),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
