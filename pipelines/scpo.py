"""ScPO: the answer that most samples give is preferred to the one that fewest give, the surer the vote the more.

Self-Consistency Preference Optimization (Prasad et al., 2024, arXiv:2411.04109). Samples of a problem without a label
are ranked by how many of them give the same answer. Where the commonest answer has a share of at least `threshold`, a
sample that gives it is chosen over one with the rarest answer, and the pair's whole loss, DPO plus the negative
log-likelihood of the chosen one per token, is weighted by the difference of the two shares. The next round begins with
the model so trained; from it the threshold is `later_threshold`. Problems that the model writes itself, after a few
examples, are voted on and paired like the given ones (`written` requests a problem, none by default).

Different here: one pair a problem, the first sample of each answer; samples without an answer count against every share
and are in no pair; written problems are off by default, for a small model writes none; one epoch a round, LoRA by
default with its own learning rate. 8 samples at temperature 0.7, thresholds 0.5 and 0.7, beta 0.5, NLL weight 1 and two
rounds are how we know the paper; only ranking, weights and threshold could be checked. gate=true would let gold answers
of the valid split decide which round is believed.
"""

from selftrain.pairings import ByScore
from selftrain.proposals import AskForAnother, Written
from selftrain.recipe import Recipe, Stage, Stages
from selftrain.round import History
from selftrain.rules import finished
from selftrain.stages import DPO, Evaluate, Gate, Generate, MakePairs, Pair, Propose, Train, Verify


def recipe(
    *,
    rounds: int = 2,
    samples: int = 8,
    written: int = 0,
    threshold: float = 0.5,
    later_threshold: float = 0.7,
    question: str = "Write another problem like these.",
    examples: int = 4,
    temperature: float = 0.7,
    beta: float = 0.5,
    nll: float = 1.0,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `written` is how often a new problem is asked for after each given one."""
    own: list[Stage] = [
        Propose(name="ask", make=AskForAnother(question, examples)),
        Generate(name="write", of=("ask",), n=max(1, written), temperature=1.0, max_new_tokens=max_new_tokens),
        Propose(name="written", of=("ask", "write"), make=Written(), rules=(finished,)),
        Generate(
            name="generate-written", of=("written",), n=samples, temperature=temperature, max_new_tokens=max_new_tokens
        ),
    ]
    sampled = ("generate", "generate-written") if written else ("generate",)

    def each_round(history: History) -> Stages:
        floor = threshold if history.number <= 1 else later_threshold
        return [
            *(own if written else []),
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(of=sampled, by="vote", blind=True),
            Pair(of=(*sampled, "verify"), pairing=ByScore("vote", floor=floor), rules=(finished,)),
            MakePairs(of=("pair",), weighted=True),
            Train(of=("build",), loss=DPO(beta=beta, nll=nll), start="latest"),
            Evaluate(max_new_tokens=max_new_tokens),
            *([Gate()] if gate else []),
        ]

    return Recipe(paper="arXiv:2411.04109", control="lmsi", rounds=rounds, each_round=each_round)
