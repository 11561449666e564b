"""Reference-answer-based correction: the model's own answer is given, and how the gold one corrects it is learned.

Bridging the Training-Inference Gap in LLMs by Leveraging Self-Generated Tokens (Cen et al., 2024, arXiv:2410.14655),
its second method. Training sees gold texts before each token, inference the model's own. Here the model's own answer
stands in the context, then words that call for a correction and the gold solution; a model so fine-tuned, together with
the gold solutions alone, knows how to get from what it writes to what is right.

Different here: `cue` stands for the paper's correction prompt, in words that nano knows; the correction follows in the
same response; the own answer is not in the loss (how the paper masks was not checked at the source). All own answers
are corrected, right ones too, unless wrong_only=true lets the verifier choose.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from selftrain.recipe import Recipe
from selftrain.round import Attempt
from selftrain.rules import AtMost, Rule, distinct, failed, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, Gold, MakeExamples, Select, Splice, Spliced, Train, Verify


@dataclass(frozen=True, slots=True)
class Correction:
    """Each own answer, the cue, and the gold solution."""

    cue: str
    rules: tuple[Rule, ...]
    judging: bool = False

    def __call__(self, attempts: Sequence[Attempt]) -> Iterable[Spliced]:
        """One response for each own answer that the rules leave."""
        gold = [each for each in attempts if each.sample.finish == "gold"][:1]
        own: Sequence[Attempt] = [each for each in attempts if each.sample.finish != "gold"]
        for rule in self.rules:
            own = rule(own)
        for each in own:
            for right in gold:
                yield Spliced(each.sample.text.rstrip() + self.cue, right.sample.text, (each, right))


def recipe(
    *,
    rounds: int = 1,
    samples: int = 2,
    keep: int = 2,
    wrong_only: bool = False,
    cue: str = "\nThat is wrong. Try again.\n",
    temperature: float = 0.7,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `keep` own answers of each problem are corrected."""
    rules: tuple[Rule, ...] = (*((failed,) if wrong_only else ()), finished, distinct, AtMost(keep))
    return Recipe(
        paper="arXiv:2410.14655",
        control="gold_sft",
        rounds=rounds,
        each_round=[
            Gold(),
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            *([Verify(of=("gold", "generate"))] if wrong_only else []),
            Splice(
                of=("gold", "generate", *(["verify"] if wrong_only else [])), how=Correction(cue, rules, wrong_only)
            ),
            Select(of=("gold",), rules=()),
            Select(name="select-spliced", of=("splice",), rules=()),
            MakeExamples(of=("select", "select-spliced"), learn="own"),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
