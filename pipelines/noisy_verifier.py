"""Control: a verifier that is wrong at set rates, in ReST-EM.

No paper: how much a method bears of wrong labels. Of what is wrong the share `false_positive` passes, of what is right
the share `false_negative` fails; which ones is drawn from the response, so the same one always gets the same verdict.
With both at 0 it is rest_em; with both at 1 only wrong responses are learned.

Different from rest_em: only the verifier. The Gate measures truly, and so does an audit beside the loop.
"""

import json

from selftrain.recipe import Recipe
from selftrain.rules import AtMost, distinct, finished, passed
from selftrain.stages import SFT, Evaluate, Gate, Generate, MakeExamples, Select, Train, Verify


def recipe(
    *,
    rounds: int = 3,
    samples: int = 32,
    keep: int = 10,
    false_positive: float = 0.2,
    false_negative: float = 0.2,
    noise: int = 0,
    temperature: float = 0.7,
    max_new_tokens: int = 256,
) -> Recipe:
    """Build the control; `noise` is the seed of the mistakes."""
    rates = {"false_positive": false_positive, "false_negative": false_negative, "seed": noise}
    return Recipe(
        paper="none: a control",
        control="rest_em",
        claim="worse",
        rounds=rounds,
        each_round=[
            Generate(n=samples, temperature=temperature, max_new_tokens=max_new_tokens),
            Verify(by=json.dumps({"name": "noisy", **rates})),
            Select(rules=(passed, finished, distinct, AtMost(keep))),
            MakeExamples(),
            Train(loss=SFT(), start="base"),
            Evaluate(max_new_tokens=max_new_tokens),
            Gate(),
        ],
    )
