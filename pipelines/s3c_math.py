"""S³c-Math: a wrong step, its correction and the way on stand in one response; the wrong step is not in the loss.

S³c-Math: Spontaneous Step-level Self-correction Makes Large Language Models Better Mathematical Reasoners (Yan et al.,
2024, arXiv:2409.01524). Into right solutions wrong next steps are put, each followed by words that find the fault and
by the right step with which the solution goes on. Fine-tuned on these and on plain solutions, with the wrong steps
masked, a model stops and corrects itself in the midst of a response, unasked.

Different here: a wrong step is a right one with a number or an operator changed by rule (the paper samples next steps
of a prefix from a model and keeps wrong ones); the words that find the fault are the same for all (`cue`), where the
paper has a model write a reflection and an improvement; solutions are the model's own right ones. What stands before
the wrong step is left out of the loss with it: the plain rows teach that.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from selftrain.corruptions import Corruption, NumberSwap, OneOf, OperatorSwap
from selftrain.recipe import Recipe
from selftrain.round import Attempt
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import (
    SFT,
    Corrupt,
    Evaluate,
    Gate,
    Generate,
    MakeExamples,
    Select,
    Splice,
    Spliced,
    Train,
    Verify,
)


@dataclass(frozen=True, slots=True)
class WrongStep:
    """One line changed, and nothing after it; never the last line, which says the answer."""

    how: Corruption = field(default_factory=lambda: OneOf((NumberSwap(), OperatorSwap())))

    def __call__(self, text: str, draw: random.Random) -> str | None:
        """Take a line that can be changed."""
        lines = text.rstrip().splitlines()
        for at in draw.sample(range(len(lines) - 1), max(0, len(lines) - 1)):
            changed = self.how(lines[at], draw)
            if changed is not None:
                return "\n".join([*lines[:at], changed])
        return None


@dataclass(frozen=True, slots=True)
class Corrected:
    """Up to the wrong step it is given; the cue and the solution from the right step on are to be learned."""

    cue: str

    def __call__(self, attempts: Sequence[Attempt]) -> Iterable[Spliced]:
        """One response for each beginning whose solution is there."""
        by_id = {each.sample.id: each for each in attempts}
        for wrong in attempts:
            right = by_id.get(wrong.sample.parents[0]) if wrong.sample.parents else None
            if right:
                before = len(wrong.sample.text.splitlines()) - 1
                rest = "\n".join(right.sample.text.rstrip().splitlines()[before:])
                yield Spliced(wrong.sample.text, self.cue + rest, (wrong, right))


def recipe(
    *,
    rounds: int = 1,
    samples: int = 8,
    keep: int = 4,
    wrong: int = 2,
    cue: str = "\nThat is wrong. Try again.\n",
    temperature: float = 0.7,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; of each problem `keep` right solutions are learned, each with up to `wrong` wrong steps too."""
    right = (passed, finished, distinct, AtMost(keep))
    return Recipe(
        paper="arXiv:2409.01524",
        control="rest_em rounds=1",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(of=("generate",)),
            Select(of=("generate", "verify"), rules=right),
            Corrupt(of=("generate", "verify"), how=WrongStep(), n=wrong, rules=right),
            Splice(of=("generate", "corrupt"), how=Corrected(cue)),
            Verify(name="verify-spliced", of=("splice",)),
            Select(name="select-spliced", of=("splice", "verify-spliced"), rules=(passed,)),
            MakeExamples(of=("select", "select-spliced"), learn="own"),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
