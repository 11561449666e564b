"""STaR: bootstrap reasoning with reasoning, with rationalization for what the model could not solve.

STaR: Bootstrapping Reasoning With Reasoning (Zelikman et al., 2022, arXiv:2203.14465). Each round generates one
rationale per problem, keeps those that reach the right answer, and for the rest generates again with the answer as a
hint (rationalization, section 3.2); rationales that then reach it join the training set *as if there had been no hint*.
The base model is fine-tuned afresh on the whole set each round, for more steps each round.

Different here: samples at a temperature (the paper's is greedy: temperature=0), several with samples=N; training steps
grow by `growth` per round from one epoch's worth (the paper: 40 steps, then 20 % more a round); the prompt's examples
are the run's protocol; a rationale that speaks of the given answer is left out; a Gate.
"""

from selftrain.recipe import Recipe, Stages
from selftrain.round import History
from selftrain.rules import AtMost, distinct, finished, passed, uncited
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify


def recipe(
    *,
    rounds: int = 3,
    samples: int = 1,
    temperature: float = 0.7,
    rationalize: bool = True,
    keep: int = 1,
    growth: float = 1.2,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; rationalize=False is the paper's ablation without hints."""

    def each_round(history: History) -> Stages:
        sample = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens)
        hinted = Generate(
            name="rationalize",
            n=samples,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            template="hint",
            only="unsolved",
        )
        epochs = growth ** max(0, history.number - 1)
        return [
            sample,
            Verify(),
            *([hinted, Verify(name="verify-rationalized", of=("rationalize",))] if rationalize else []),
            Select(rules=(passed, finished, uncited, distinct, AtMost(keep))),
            MakeExamples(),
            Train(loss=SFT(), start="base", settings={"num_train_epochs": round(epochs, 4)}),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ]

    return Recipe(paper="arXiv:2203.14465", control="random_select", rounds=rounds, each_round=each_round)
