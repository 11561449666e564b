"""Ground truth dampens: a model taught by the one before it and by gold solutions, the two weighed against each other.

Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by Self-Distillation (Borup,
Andersen, 2021, arXiv:2102.13088). A model is fitted to the ground truth; then again and again a fresh one to a weighted
sum of the ground truth and the predictions of the one before. Without ground truth every step regularises more, until
little is left; its weight alpha bounds that.

Different here: a language model, not kernel regression, and responses sampled from the teacher, not its probabilities
(hard targets): each problem has a gold row of weight alpha and own rows that share the weight 1 - alpha. No closed form
for the best alpha: sweep it (0 is self-distillation alone, 1 gold alone). LoRA by default, no Gate.
"""

from dataclasses import dataclass, replace

from selftrain.errors import RecipeError
from selftrain.recipe import Recipe
from selftrain.rules import Attempts, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, Gold, MakeExamples, Select, Train


@dataclass(frozen=True, slots=True)
class Dampened:
    """Weigh a problem's gold solution by alpha, its own samples by what is left; what weighs nothing is left out."""

    alpha: float

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise RecipeError(f"alpha is {self.alpha}, but must be between 0 and 1")

    def __call__(self, attempts: Attempts) -> Attempts:
        """Give each attempt its weight."""
        own = sum(each.sample.finish != "gold" for each in attempts)
        weights = [self.alpha if each.sample.finish == "gold" else (1 - self.alpha) / own for each in attempts]
        return [replace(each, weight=weight) for each, weight in zip(attempts, weights, strict=True) if weight]


def recipe(
    *,
    rounds: int = 3,
    alpha: float = 0.5,
    samples: int = 1,
    temperature: float = 0.7,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; alpha is the weight of gold rows."""
    return Recipe(
        paper="arXiv:2102.13088",
        control="ground_truth_dampens alpha=0",
        rounds=rounds,
        before=[Gold(), Select(rules=()), MakeExamples(), Train(name="warm-up", loss=SFT(), start="base")],
        each_round=[
            Gold(),
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Select(rules=(finished, Dampened(alpha))),
            MakeExamples(),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
