"""S²R: attempts with verdicts, wrong ones first and the more of them the harder a problem is, until one is right.

S2R: Teaching LLMs to Self-verify and Self-correct via Reinforcement Learning (Ma et al., 2025, arXiv:2502.12853),
section 3.1, behaviour initialization, and tools/3_contruct_muliti_turn_data.py of the authors' code. Of a problem's
samples those whose verification agrees with the checker are strung together: as many wrong ones, each with another
answer, as the problem's share of wrong samples says (none, one of 1, two of 2 or 3, three of 4 or more), then a right
one. What is learned are the verifications and the last, right attempt; wrong attempts are given, not learned.

Different here: the first stage alone (the paper goes on with reinforcement learning, for each attempt or each step).
The verdict is the model's own, asked in the words that nano knows, and stands in the trace as [VERIFY] wrong or correct
(the paper has other models write a verification that doesn't solve the problem anew). Every problem with
one gives one trace; the authors thin them by fixed shares of each length. The last attempt and the verdict on it are
one row, where theirs are two.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from selftrain.proposals import Ask
from selftrain.recipe import Recipe
from selftrain.round import Attempt
from selftrain.rules import distinct, finished
from selftrain.stages import (
    SFT,
    Evaluate,
    Gate,
    Generate,
    MakeExamples,
    Propose,
    Select,
    Splice,
    Spliced,
    Train,
    Verify,
)

WRONG = "\n[VERIFY] wrong\n"
RIGHT = "\n[VERIFY] correct"


@dataclass(frozen=True, slots=True)
class TrialAndError:
    """Wrong attempts with their verdicts, then a right one; of each verdict and of the last attempt one response."""

    harder: tuple[int, ...] = (1, 2, 4)
    """At how many wrong samples of a problem its trace gets one more wrong attempt."""

    judging: ClassVar[bool] = True

    def __call__(self, attempts: Sequence[Attempt]) -> Iterable[Spliced]:
        """One trace, in as many responses as it has attempts; none where nothing right was seen to be right."""
        seen: dict[str, Attempt] = {}
        for each in attempts:
            if each.problem.kind == "verdict" and each.passed:
                seen.setdefault(each.problem.about[0], each)
        tried = [each for each in attempts if each.problem.kind != "verdict"]
        wrong = {each.answer(): each for each in reversed(tried) if each.failed and each.sample.id in seen}
        right = next((each for each in tried if each.passed and each.sample.id in seen), None)
        if right is None:
            return
        failures = sum(each.failed for each in tried)
        trace = ""
        for each in list(reversed(wrong.values()))[: sum(failures >= count for count in self.harder)]:
            trace += each.sample.text.rstrip()
            yield Spliced(trace, WRONG, (each, seen[each.sample.id]))
            trace += WRONG
        yield Spliced(trace, right.sample.text.rstrip() + RIGHT, (right, seen[right.sample.id]))


def recipe(
    *,
    rounds: int = 1,
    samples: int = 8,
    tries: int = 4,
    question: str = "Is this right? Answer yes or no.",
    temperature: float = 1.0,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; each distinct attempt gets `tries` verdicts."""
    return Recipe(
        paper="arXiv:2502.12853",
        control="rest_em rounds=1",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(of=("generate",)),
            Propose(
                of=("generate", "verify"),
                make=Ask(question, "verdict", right="yes", wrong="no"),
                rules=(finished, distinct),
            ),
            Generate(name="verdict", of=("propose",), n=tries, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(name="verify-verdict", of=("verdict",)),
            Splice(of=("generate", "verify", "verdict", "verify-verdict"), how=TrialAndError()),
            Select(of=("splice",), rules=()),
            MakeExamples(of=("select",), learn="own"),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
