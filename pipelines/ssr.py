"""SSR: what was learned before is rehearsed on problems that the model makes up and answers itself.

Mitigating Catastrophic Forgetting in Large Language Models with Self-Synthesized Rehearsal (Huang et al., 2024,
arXiv:2403.01244). Training goes from stage to stage on new data, and the old data are gone. The base model makes up
instances like the old ones, from a few examples; the latest model answers them; diverse ones are mixed with the new
data of later stages.

Different here: a stage is a round, and its data the gold solutions of the next `draw` problems, 200 (the order of the
data is the order of the tasks); instances are the round's problems with other numbers, or with write=true written by
the base model after examples; diverse means distinct texts, at most `keep` a problem (the paper: clusters); `ratio` is
the share of the rehearsal of earlier rounds that joins, `ratio=0` the control. LoRA by default. That the latest model
rewrites the outputs alone is how we know the paper, unchecked.
"""

from selftrain.proposals import AskForAnother, Perturbed, Written
from selftrain.recipe import Recipe, Stage
from selftrain.rules import AtMost, Attempts, distinct, finished
from selftrain.stages import SFT, Evaluate, Gate, Generate, Gold, MakeExamples, Propose, Select, Train

MADE_UP = ("perturbed", "written")
"""The kinds of problems that nobody gave."""


def made_up(attempts: Attempts) -> Attempts:
    """Keep what answers a made-up problem, so that nothing given is rehearsed."""
    return [each for each in attempts if each.problem.kind in MADE_UP]


def recipe(
    *,
    rounds: int = 3,
    samples: int = 1,
    keep: int = 1,
    ratio: float = 0.5,
    write: bool = False,
    question: str = "Write another problem like these.",
    examples: int = 3,
    temperature: float = 0.7,
    gate: bool = False,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the recipe; each round `samples` instances are made up of each problem, for later rounds."""
    longest = max_new_tokens
    written: list[Stage] = [
        Propose(name="ask", make=AskForAnother(question, examples)),
        Generate(name="write", of=("ask",), n=samples, which="base", temperature=1.0, max_new_tokens=longest),
        Propose(name="make-up", of=("ask", "write"), make=Written(), rules=(finished,)),
    ]
    perturbed: list[Stage] = [Propose(name="make-up", make=Perturbed(samples, "all"))]
    return Recipe(
        paper="arXiv:2403.01244",
        control="ssr ratio=0",
        rounds=rounds,
        draw=200,
        each_round=[
            Gold(),
            Select(of=("gold",), rules=()),
            MakeExamples(of=("select",)),
            Select(
                name="rehearse",
                of=("gold",),
                rules=(made_up, finished, distinct, AtMost(keep)),
                data="replay",
                ratio=ratio,
            ),
            MakeExamples(name="build-rehearsal", of=("rehearse",)),
            Train(of=("build", "build-rehearsal"), loss=SFT(), start="latest"),
            *(written if write else perturbed),
            Generate(of=("make-up",), n=1, temperature=temperature, max_new_tokens=longest),
            Evaluate(max_new_tokens=longest),
            *([Gate()] if gate else []),
        ],
    )
