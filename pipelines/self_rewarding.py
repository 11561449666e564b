"""Self-rewarding: the model that answers also judges its answers, and learns to prefer what it judged best.

Self-Rewarding Language Models (Yuan, Pang, Cho, Li, Sukhbaatar, Xu, Weston, 2024, arXiv:2401.10020). Each round the
latest model answers each prompt several times and rates every response itself, several times over; the best rated is
chosen over the worst, and DPO trains the latest model on these pairs. As it learns to answer it may learn to judge.

Different here: the prompts are the problems given (the paper: also new ones that the model writes); the judgement is
yes or no to `question`, in the conversation itself, and the rating is the share of yes among `votes` (the paper: an
additive scale of five points; `judge=judge`, or another verifier that asks a model, judges so); the seed training on
instructions and judgements is left to the model given; LoRA by default with its own learning rate. 4 responses at
temperature 0.7 and 3 votes are how we know the paper, unchecked. gate=true would let gold answers of the valid split
decide which round is believed.
"""

import json

from selftrain.pairings import ByScore
from selftrain.proposals import Ask
from selftrain.recipe import Recipe, Stages
from selftrain.rules import finished
from selftrain.stages import DPO, Credit, Evaluate, Gate, Generate, MakePairs, Pair, Propose, Train, Verify

YES = json.dumps({"name": "regex", "pattern": r"(?is)\W*yes\b.*"})


def recipe(
    *,
    rounds: int = 3,
    samples: int = 4,
    votes: int = 3,
    question: str = "Is this right? Answer yes or no.",
    judge: str = "",
    temperature: float = 0.7,
    beta: float = 0.1,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; `judge` is a verifier that takes the place of question and votes."""
    longest = max_new_tokens
    asked: Stages = [
        Propose(name="ask", of=("generate",), make=Ask(question, kind="verdict"), rules=(finished,)),
        Generate(name="judge", of=("ask",), n=votes, temperature=temperature, max_new_tokens=longest),
        Verify(name="read", of=("judge",), by=YES, blind=True),
        Credit(name="reward", of=("judge", "read")),
    ]
    other: Stages = [Verify(name="reward", of=("generate",), by=judge, blind=True, model="policy")]
    return Recipe(
        paper="arXiv:2401.10020",
        control="iterative_dpo",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=longest),
            *(other if judge else asked),
            Pair(of=("generate", "reward"), pairing=ByScore(), rules=(finished,)),
            MakePairs(of=("pair",)),
            Train(of=("build",), loss=DPO(beta=beta), start="latest"),
            Evaluate(max_new_tokens=longest),
            *([Gate()] if gate else []),
        ],
    )
