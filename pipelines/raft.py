"""RAFT: sample several responses a problem, keep the one with the highest reward, fine-tune on it, repeat.

RAFT: Reward rAnked FineTuning for Generative Foundation Model Alignment (Dong et al., 2023, arXiv:2304.06767). Each
round the latest policy gives `samples` responses to each problem, a reward model scores them, and training continues on
the best one of each problem, whatever its reward: the rank counts, not the scale.

Different here: the reward is any verifier that scores (`by`), by default the share of a problem's samples that agree
(`vote`), for want of a reward model; `by='{"name": "reward_model", "model": PATH}'` is the paper's. With gold=true the
reward may look at gold answers. The numbers of samples and rounds are settings, not checked against the paper's.
"""

from selftrain.recipe import Recipe
from selftrain.rules import Best, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify


def recipe(
    *,
    rounds: int = 3,
    samples: int = 8,
    by: str = "vote",
    gold: bool = False,
    temperature: float = 1.0,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `by` is the reward, a verifier's name, path or JSON with name and settings."""
    return Recipe(
        paper="arXiv:2304.06767",
        control="random_select keep=1 gate=false",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(by=by, blind=not gold, model="policy"),
            Select(rules=(finished, Best(1, by))),
            MakeExamples(),
            Train(loss=SFT(), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ],
    )
