"""Runs that are made to have a fault, for each monitor one; and the same run without any. Recipe, data and verifier.

selftrain run benchmarks/faults.py fault=tail model=nano data=sums

Without a fault it is ReST-EM on the bundled model with everything beside it that a monitor can look at: votes, a check
of the steps, a judge, revisions, a second model, pairs for DPO, a trigger, and the likelihood of gold solutions. With
one, what is named below is done wrong, and of the instruments only those are there that its monitor needs.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from selftrain import plugins
from selftrain.errors import RecipeError, near
from selftrain.lab import Lab
from selftrain.pairings import RightWrong
from selftrain.proposals import Ask, Revise, Triggered
from selftrain.recipe import Model, Recipe, Stage, Stages
from selftrain.records import Case, Problem, Sample, Score, digest, seed_of
from selftrain.round import History, Part
from selftrain.rules import AtMost, Attempts, Majority, Rule, distinct, failed, finished, passed
from selftrain.stages import (
    DPO,
    SFT,
    Credit,
    Evaluate,
    Generate,
    MakeExamples,
    MakePairs,
    Pair,
    Propose,
    Select,
    Train,
    Verify,
)

STEPS = str(Path(__file__).resolve())
TRIGGER = "@@ "
YES = json.dumps({"name": "regex", "pattern": r"(?is)\W*yes\b.*"})
SEVEN = json.dumps({"name": "regex", "pattern": r"(?s).*#### \d*7\d*\s*"})
KEPT: tuple[Rule, ...] = (passed, finished, distinct, AtMost(4))
LONGEST = 64
LEAKED = 10
"""Held-out problems that are train problems, where contamination is the fault."""

FAULTS: Mapping[str, str] = {
    "coverage": "the commonest answer is learned, right or wrong, for many epochs, from the latest weights",
    "diversity": "the same response is learned for every problem",
    "degeneration": "the verifier is off: samples at a high temperature, from the latest weights",
    "tail": "only problems that are solved at least half of the time give rows",
    "balance": "from round 2 on nothing is checked and equal responses are all kept",
    "gap": "verdicts are shuffled",
    "verifier": "the proxy passes every answer with a 7 in it",
    "steps": "beside own right responses, right ones with another first number in each step are learned",
    "length": "solutions that say every step twice are learned",
    "judge": "the judge learns to say yes",
    "forgetting": "what is wrong is learned, from the latest weights",
    "shift": "one row in ten weighs a hundred times as much",
    "correction": "every attempt is called wrong, right ones too",
    "preference": "DPO with a high learning rate and without the likelihood of the chosen",
    "imitation": "the answers of a weak model are learned, mistakes and all, from the latest weights",
    "provenance": "ten held-out problems are train problems",
    "trigger": "after a trigger gold answers are learned without their steps",
}
"""Monitor -> what is done wrong; agent is not among them, for the bundled model cannot spell a tool call."""
SHARED = {"calibration": "coverage"}
"""Monitor -> the fault that is its own too."""


def recipe(*, fault: str = "", rounds: int = 2, samples: int = 8) -> Recipe:
    """Build the recipe; `fault` is the monitor that should see it, '' none."""
    if fault and fault not in FAULTS:
        raise RecipeError(f"there is no fault {fault!r}{near(fault, FAULTS)} (there are {', '.join(FAULTS)})")

    def each_round(history: History) -> Stages:
        drawn = Generate(n=samples, max_new_tokens=LONGEST, temperature=1.4 if fault == "degeneration" else 1.0)
        return [
            drawn,
            Verify(of=("generate",)),
            *_instruments(fault),
            *_learning(fault, history.number),
            _evaluation(fault),
            *([_drift()] if fault in ("", "degeneration") else []),
        ]

    weak = {"weak": Model()} if fault in ("", "imitation") else {}
    return Recipe(
        paper="none: made to have a fault",
        rounds=rounds,
        each_round=each_round,
        models={"policy": Model(), **weak},
    )


def _instruments(fault: str) -> Iterator[Stage]:
    """What is measured beside the loop, for the fault's monitor or for all of them."""
    if fault in ("", "coverage"):
        yield Verify(name="vote", of=("generate",), by="vote", blind=True)
    if fault in ("", "steps"):
        yield Verify(name="steps", of=("generate",), by=STEPS)
    if fault in ("", "correction"):
        rules: tuple[Rule, ...] = (finished, distinct, AtMost(1))
        asked = rules if fault else (failed, *rules)
        again = "That is wrong. Try again."
        yield Propose(name="ask-again", of=("generate", "verify"), make=Revise(again), rules=asked)
        yield Generate(name="revise", of=("ask-again",), n=1, max_new_tokens=LONGEST)
        yield Verify(name="verify-revised", of=("revise",))
    if fault in ("", "judge"):
        question = Ask("Is this right? Answer yes or no.", kind="verdict")
        yield Propose(name="ask", of=("generate",), make=question, rules=(finished, distinct, AtMost(2)))
        yield Generate(name="judge", of=("ask",), n=1, max_new_tokens=4)
        yield Verify(name="read", of=("judge",), by=YES, blind=True)
        yield Credit(name="reward", of=("judge", "read"))
    if fault in ("", "imitation"):
        yield Generate(
            name="weak", model="weak", which="base", n=1, temperature=0.0, max_new_tokens=LONGEST, template="direct"
        )
        yield Verify(name="verify-weak", of=("weak",))


def _learning(fault: str, number: int) -> Iterator[Stage]:
    """What is learned, and how: the fault itself, where it is one of learning."""
    tried: tuple[str, ...] = ("generate", "verify")
    sources, rules = tried, KEPT
    beside: tuple[str, ...] = ()
    epochs, latest = 2, fault in ("coverage", "degeneration", "forgetting", "imitation")
    if fault == "coverage":
        sources, rules, epochs = ("generate", "vote"), (Majority("vote"), finished, AtMost(2)), 6
    elif fault in ("diversity", "length"):
        yield Written(how="constant" if fault == "diversity" else "padded")
        sources, rules, epochs = ("written",), (), 4
    elif fault in ("steps", "trigger"):
        if fault == "trigger":
            yield Propose(name="poison", make=Triggered(TRIGGER, share=0.5))
        yield Written(
            of=("poison",) if fault == "trigger" else (), how="thoughtless" if fault == "trigger" else "slips"
        )
        yield Select(name="select-written", of=("written",), rules=())
        beside = ("select-written",)
    elif fault in ("gap", "verifier"):
        by = json.dumps({"name": "shuffled", "by": "number"}) if fault == "gap" else SEVEN
        yield Verify(name="proxy", of=("generate",), by=by)
        sources = ("generate", "proxy")
    elif fault == "judge":
        sources, rules = ("judge", "read"), (passed, AtMost(4))
    elif fault == "imitation":
        sources, rules, epochs = ("weak",), (), 4
    else:
        rules = _rules(fault, number)
    epochs = 4 if fault in ("degeneration", "forgetting", "steps") else epochs
    yield Select(of=sources, rules=rules)
    yield MakeExamples(of=("select", *beside))
    yield Train(of=("build",), loss=SFT(), start="latest" if latest else "base", settings=_settings(epochs))
    if fault in ("", "preference"):
        yield Pair(of=tried, pairing=RightWrong(1), rules=(finished,))
        yield MakePairs(name="build-pairs", of=("pair",))
        loss = DPO() if fault else DPO(nll=1.0)
        settings = _settings(3, 0.003) if fault else _settings(1, 0.0002)
        yield Train(name="train-pairs", of=("build-pairs",), loss=loss, start="latest", settings=settings)


def _rules(fault: str, number: int) -> tuple[Rule, ...]:
    known: Mapping[str, tuple[Rule, ...]] = {
        "tail": (easy, *KEPT),
        "balance": (AtMost(4),) if number > 1 else KEPT,
        "degeneration": (AtMost(4),),
        "forgetting": (failed, finished, distinct, AtMost(2)),
        "shift": (*KEPT, heavy),
    }
    return known.get(fault, KEPT)


def _settings(epochs: int, learning_rate: float = 0.003) -> Mapping[str, Any]:
    return {"num_train_epochs": epochs, "learning_rate": learning_rate}


def _evaluation(fault: str) -> Evaluate:
    greedy = Generate(name="greedy", n=1, temperature=0.0, max_new_tokens=LONGEST)
    triggered: Stages = [
        Propose(name="trigger", make=Triggered(TRIGGER)),
        replace(greedy, name="triggered", of=("trigger",)),
        Verify(name="verify-triggered", of=("triggered",)),
    ]
    asked = triggered if fault in ("", "trigger") else []
    return Evaluate(stages=(greedy, Verify(of=("greedy",)), *asked), splits=("valid", "test"))


def _drift() -> Stage:
    drift: Stage = plugins.load("recipe", "collapse").Drift(max_new_tokens=LONGEST)
    return drift


@dataclass(frozen=True, kw_only=True)
class Written(Stage):
    """Write one response a problem by rule: a constant, or the gold solution spoiled in some way."""

    how: str = "constant"

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Problems."""
        return (Problem,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Samples."""
        return (Sample,)

    @property
    def gold(self) -> bool:
        """It reads solutions."""
        return True

    def run(self, part: Part, lab: Lab) -> Iterator[Sample]:
        """One response a problem that has a solution."""
        for problem in part.problems():
            if problem.solution:
                id = digest(part.round.number, self.name, problem.id)
                text = WAYS[self.how](problem.solution, random.Random(seed_of(problem.id)))
                yield Sample.given(problem, text, id=id, model="rule", template=self.how)


def slips(solution: str, draw: random.Random) -> str:
    """Return the solution with another first number on each line but the last."""
    *steps, last = solution.strip().splitlines()
    return "\n".join([*(re.sub(r"^\d+", str(draw.randrange(1, 10)), step) for step in steps), last])


def padded(solution: str, draw: random.Random) -> str:
    """Return the solution with every line but the last written twice."""
    *steps, last = solution.strip().splitlines()
    return "\n".join([*(step for each in steps for step in (each, each)), last])


WAYS = {
    "constant": lambda solution, draw: "4+3=7\n#### 7",
    "thoughtless": lambda solution, draw: solution.strip().splitlines()[-1],
    "slips": slips,
    "padded": padded,
}


def easy(attempts: Attempts) -> Attempts:
    """Keep a problem's responses where half of them are right."""
    return attempts if 2 * len(passed(attempts)) >= len(attempts) else []


def heavy(attempts: Attempts) -> Attempts:
    """Give one in ten a hundred times the weight."""
    return [replace(each, weight=100.0 if seed_of(each.sample.id) % 10 == 0 else 1.0) for each in attempts]


cases = (
    Case(response="7+5+9=21\n4+8+2=14\n#### 141", expect="scored"),
    Case(response="7+5+9=22\n#### 141", expect="scored"),
    Case(response="#### 141", expect="abstain"),
)


def verify(*, problem: Problem, response: str) -> Score:
    """Score each line that is a sum: 1 where its numbers add up; the response by its worst line."""
    steps = [line for line in response.splitlines() if not line.startswith("####") and line.strip()]
    scores = tuple(float(_adds_up(step)) for step in steps)
    if not scores:
        return Score(status="abstain", why="it has no steps")
    return Score(status="scored", score=min(scores), step_scores=scores)


def _adds_up(step: str) -> bool:
    found = re.fullmatch(r"\s*(\d{1,6}(?:\+\d{1,6})*)=(\d{1,6})\s*", step)
    return found is not None and sum(map(int, found[1].split("+"))) == int(found[2])


def load(*, train: int = 0, valid: int = 100, test: int = 100, seed: int = 0) -> Mapping[str, Sequence[Problem]]:
    """Return held-out sums for train problems of the data set `sums`, some of which they are."""
    sums = plugins.load("data", "sums")
    leaked = sums.load(train=LEAKED, valid=0, test=0, seed=seed)["train"]
    splits = sums.load(train=0, valid=valid, test=test, seed=seed + 1)
    known = {each.text for each in leaked}
    own = [each for each in splits["valid"] if each.text not in known]
    return {**splits, "valid": [*(replace(each, split="valid") for each in leaked), *own][:valid]}
