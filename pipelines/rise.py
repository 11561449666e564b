"""RISE: right solutions over copies with a subtle error put in, and right over sampled wrong ones, by DPO with NLL.

Subtle Errors Matter: Preference Learning via Error-injected Self-editing (Xu et al., 2024, arXiv:2410.06638). Most
mistakes of a model are slips within a step: another number, swapped terms, a step left out. Right solutions of its own
are edited so that they hold one such error; each is preferred to its edited copy, a pair that differs in nothing but
the error. These pairs and pairs of right and sampled wrong solutions are trained on together, by DPO with the negative
log-likelihood of the right solution.

Different here: errors are put in by rule (a number, an operator, a step), where the paper prompts the model to edit its
solution; what follows the error stays as it is, so that a copy may still end with the right answer: it is rejected for
its error, not for a verdict. The NLL is per token of the response; its weight, like the numbers of samples and pairs,
is a setting and not the paper's. That the paper trains once, from an instruction-tuned model, is from memory. LoRA by
default, a Gate.
"""

from selftrain.corruptions import Corruption, NumberSwap, OneOf, OperatorSwap, StepDrop
from selftrain.pairings import OverChanged, RightWrong
from selftrain.recipe import Recipe, Stages
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import DPO, Corrupt, Evaluate, Gate, Generate, MakePairs, Pair, Train, Verify

SUBTLE: Corruption = OneOf((NumberSwap(), OperatorSwap(), StepDrop()))


def recipe(
    *,
    rounds: int = 1,
    samples: int = 8,
    edited: int = 2,
    edits: int = 1,
    pairs: int = 2,
    temperature: float = 0.8,
    beta: float = 0.1,
    nll: float = 0.05,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; of each problem `edited` right samples get `edits` wrong copies each, `pairs` is of the others.

    With pairs=0 or edited=0 the other kind is alone.
    """
    right = (passed, finished, distinct, AtMost(max(1, edited)))
    hard: Stages = [
        Corrupt(of=("generate", "verify"), how=SUBTLE, n=edits, rules=right),
        Pair(name="pair-edited", of=("generate", "corrupt"), pairing=OverChanged(max(1, edited * edits))),
    ]
    sampled: Stages = [Pair(of=("generate", "verify"), pairing=RightWrong(max(1, pairs)), rules=(finished,))]
    paired = [*(hard if edited else ()), *(sampled if pairs else ())]
    return Recipe(
        paper="arXiv:2410.06638",
        control="iterative_rpo rounds=1",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(of=("generate",)),
            *paired,
            MakePairs(of=tuple(stage.name for stage in paired if isinstance(stage, Pair))),
            Train(of=("build",), loss=DPO(beta=beta, nll=nll), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
