"""ReST: grow a data set once a round, then improve on it in several steps with a rising reward threshold.

Reinforced Self-Training (ReST) for Language Modeling (Gulcehre et al., 2023, arXiv:2308.08998). Grow: sample many
outputs from the policy and score them. Improve: fine-tune on those above a threshold; each further step takes a higher
threshold on the same data and continues from the weights of the step before. With the plain (behavioural cloning) loss,
which the paper found best.

Different here: thresholds are quantiles of the round's scores (`quantiles`: the share of samples left out at each
step), so that they fit any scorer; the paper's are values on its reward's scale, 0, 0.7, 0.8, 0.9, 0.95 and 0.99, of
which it takes two to five after the first, with one or two Grow steps. The reward is any verifier that scores (`by`),
by default the share of a problem's samples that agree (`vote`), where the paper has a learned metric of translations.
The original data isn't mixed in, as in the paper, and every step has the same learning rate.
"""

from selftrain.errors import RecipeError
from selftrain.recipe import FromData, Recipe, Stage
from selftrain.rules import AtLeast, AtMost, distinct, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify
from selftrain.stages.find import FindThreshold


def recipe(
    *,
    rounds: int = 2,
    samples: int = 32,
    keep: int = 32,
    quantiles: tuple[float, ...] = (0.0, 0.5, 0.75, 0.9),
    by: str = "vote",
    gold: bool = False,
    temperature: float = 0.8,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; one Improve step for each quantile, which must rise."""
    if not quantiles or list(quantiles) != sorted(set(quantiles)):
        raise RecipeError(f"quantiles are {quantiles}; give at least one, each above the one before")
    # The last step's stages carry the usual names.
    steps = [f"-{at}" for at in range(1, len(quantiles))] + [""]
    improve: list[Stage] = []
    for step, share in zip(steps, quantiles, strict=True):
        threshold = f"threshold{step}"
        rules = (AtLeast(FromData(threshold), by), finished, distinct, AtMost(keep))
        improve += [
            FindThreshold(name=f"find{step}", of=("verify",), share=share, by=by, sets=threshold),
            Select(name=f"select{step}", of=("generate", "verify"), rules=rules),
            MakeExamples(name=f"build{step}", of=(f"select{step}",)),
            Train(name=f"train{step}", of=(f"build{step}",), loss=SFT(), start="latest"),
        ]
    return Recipe(
        paper="arXiv:2308.08998",
        control="raft",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(by=by, blind=not gold, model="policy"),
            *improve,
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
