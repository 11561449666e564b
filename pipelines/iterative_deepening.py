"""Iterative deepening sampling: a response is called to correct itself again and again, with a growing budget.

Iterative Deepening Sampling for Large Language Models (Chen, Koenig, Dilkina, 2025, arXiv:2502.05449). Sampling stops
after a budget of tokens; a trigger sentence that makes the model look for mistakes is put behind what is there, and it
goes on with a larger budget, and so on. The paper changes how responses are sampled, by itself and under best-of-n or a
vote, and means the samples as data for later training.

Different here: they are trained on: deepened responses that end right become rows of the problem itself. Only what
comes after the last cue is in the loss: cues are the sampler's words, and attempts before them are often wrong. The
paper's own question is measured beside it: `evaluate` answers held-out problems at once and deepened, as `accuracy` and
`deepened/accuracy`. A response that has ended by itself is deepened too. The words of the cue are such as nano has
seen, and nano-tasks as part of a response; first budget (`max_new_tokens`), growth and number of turns are settings,
not the paper's.
"""

from dataclasses import replace

from selftrain.proposals import GoOn
from selftrain.recipe import Recipe, Stage
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import SFT, Adopt, Evaluate, Gate, Generate, MakeExamples, Propose, Select, Train, Verify


def deepening(first: Generate, turns: int, growth: float, cue: str) -> tuple[Stage, ...]:
    """Return the stages that sample and deepen; the last one, `deepened`, has the whole responses."""
    stages: list[Stage] = [first]
    for turn in range(1, turns + 1):
        name = "deepened" if turn == turns else f"deepened-{turn}"
        budget = round(first.max_new_tokens * growth**turn)
        stages += [
            Propose(name=f"cue-{turn}", of=(stages[-1].name,), make=GoOn(1.0, cue)),
            replace(first, name=name, of=(f"cue-{turn}",), n=1, max_new_tokens=budget),
        ]
    return tuple(stages)


def recipe(
    *,
    rounds: int = 1,
    samples: int = 8,
    keep: int = 4,
    turns: int = 2,
    growth: float = 2.0,
    cue: str = "\nThat is wrong. Try again.\n",
    temperature: float = 0.7,
    max_new_tokens: int = 128,
) -> Recipe:
    """Build the recipe; after the first `max_new_tokens` come `turns` cues, each with `growth` times the budget."""
    first = Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens)
    held_out = deepening(replace(first, name="greedy", n=1, temperature=0.0), turns, growth, cue)
    return Recipe(
        paper="arXiv:2502.05449",
        control="rest_em rounds=1",
        rounds=rounds,
        each_round=[
            *deepening(first, turns, growth, cue),
            Adopt(of=("deepened",), rules=(finished,), template="deepened"),
            Verify(of=("adopt",)),
            Select(of=("adopt", "verify"), rules=(passed, distinct, AtMost(keep))),
            MakeExamples(of=("select",), learn="own"),
            Train(of=("build",), loss=SFT(), start="base"),
            Evaluate(stages=(*held_out, Verify(of=("greedy", "deepened"))), measure=("greedy", "deepened")),
            Gate(),
        ],
    )
