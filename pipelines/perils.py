"""Perils of unlabelled data: a threat, run as a monitor. Poisoned problems, and a learner that labels them itself.

The Perils of Learning From Unlabeled Data: Backdoor Attacks on Semi-supervised Learning (Shejwalkar, Lyu, Houmansadr,
2022, arXiv:2211.00453). Who learns from data that nobody looks at can be given a backdoor without one wrong label: the
attacker adds inputs that the learner will label with the target by itself, and puts a trigger on them. The trigger
alone then brings the target about; the paper needs 0.2 % of the unlabelled data.

Different here: a language model and problems with many answers instead of image classes. Problems whose answer is
`target` are added once more, the trigger in front of them; the learner labels everything by its majority, as in `lmsi`.
How much that poisons is what the data gives. `triggered/accuracy` is the share of held-out problems that get the
target's answer with the trigger in front, in round 0 too. The attacker knows the answers (labels: gold), the learner
doesn't.
"""

from dataclasses import replace

from selftrain.proposals import Triggered
from selftrain.recipe import Recipe
from selftrain.rules import AtMost, Majority, distinct, finished
from selftrain.stages import SFT, Evaluate, Generate, MakeExamples, Propose, Select, Train, Verify


def recipe(
    *,
    rounds: int = 3,
    samples: int = 8,
    keep: int = 4,
    target: str = "100",
    trigger: str = "@@ ",
    poisoned: float = 1.0,
    temperature: float = 0.7,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `poisoned` is the share used of the problems with the target's answer, 0 the control."""
    greedy = Generate(name="greedy", n=1, temperature=0.0, max_new_tokens=max_new_tokens)
    own = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens)
    return Recipe(
        paper="arXiv:2211.00453",
        rounds=rounds,
        each_round=[
            own,
            Propose(name="poison", make=Triggered(trigger, share=poisoned, only=target)),
            replace(own, name="generate-poisoned", of=("poison",)),
            Verify(of=("generate", "generate-poisoned"), by="vote", blind=True),
            Select(
                of=("generate", "generate-poisoned", "verify"),
                rules=(Majority("vote"), finished, distinct, AtMost(keep)),
            ),
            MakeExamples(of=("select",)),
            Train(loss=SFT(), start="base"),
            Evaluate(
                stages=(
                    greedy,
                    Verify(of=("greedy",)),
                    Propose(name="trigger", make=Triggered(trigger, answer=target)),
                    Generate(name="triggered", of=("trigger",), n=1, temperature=0.0, max_new_tokens=max_new_tokens),
                    Verify(name="verify-triggered", of=("triggered",)),
                )
            ),
        ],
    )
