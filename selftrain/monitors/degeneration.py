"""Degeneration: responses that repeat themselves, never end, or are all the same; and how likely real text still is.

Collapse of self-trained language models (arXiv:2404.02305), self-consuming loops (arXiv:2307.01850), SGEAT
(arXiv:2202.04173) and SECToR (arXiv:2306.04618) see a model that is trained on its own unfiltered output go to pieces:
repeated runs of tokens, missing ends, identical outputs, and a growing perplexity of a fixed real text, here the gold
solutions of held-out problems where their likelihood is stored.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from selftrain import statistics
from selftrain.monitors import Reading, above, missing, reading
from selftrain.observed import Observed

MORE = 0.1
"""Share of tokens, or of responses, by which the first round's figure may grow: one response in ten is seen by eye."""
SURPRISE, PERPLEXITY = 2.0, 1.5
"""Times the first round's nats a token, or times its perplexity, whichever is less: where the text was nearly certain,
twice the surprise; else half as many choices more for every token."""
COMMON = 0.05
"""Share of the problems from which on a response that they all get is the model's and not the problems'."""
RUN = 4
"""Tokens of a run that counts as repeated."""
ADVICE = "go back to the best round, and learn only what a verifier passes, with some gold solutions"
_CUT = "SELECT round, problem, count_if(cut) AS part, count(*) AS whole FROM attempts WHERE split = ? GROUP BY ALL"
_SAME = """
    SELECT a.round, a.problem, count_if(t.problems > greatest(1, {common} * r.problems)) AS part, count(*) AS whole
    FROM attempts AS a JOIN (
        SELECT round, text, count(DISTINCT problem) AS problems FROM attempts WHERE split = $1 GROUP BY round, text
    ) AS t ON t.round = a.round AND t.text = a.text
    JOIN (SELECT round, count(DISTINCT problem) AS problems FROM attempts WHERE split = $1 GROUP BY round
    ) AS r ON r.round = a.round
    WHERE a.split = $1 GROUP BY a.round, a.problem"""
_GOLD = """
    SELECT v.round, s.problem, sum(-v.score) AS part, count(*) AS whole
    FROM verdicts AS v JOIN samples AS s ON s.id = v.sample JOIN asked AS a ON a.id = s.problem
    WHERE v."by" = 'likelihood' AND v.score IS NOT NULL AND s.finish = 'gold' AND a.split = ? GROUP BY ALL"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure responses to train and held-out problems, and the perplexity of held-out gold solutions."""
    for split in ("train", seen.held_out):
        cut = seen.shares(_CUT, split)
        if not cut:
            yield missing(seen, f"no response to {split} problems is stored")
            continue
        yield from _judged(f"cut off at the token limit, {split}", cut, "share of responses")
        yield from _judged(
            f"same response to many problems, {split}",
            seen.shares(_SAME.format(common=COMMON), split),
            "share of responses",
        )
        yield from _judged(f"repeated runs of {RUN} tokens, {split}", _repetition(seen, split), "share of runs")
    yield from _perplexity(seen)


def repeated(ids: Any) -> tuple[int, int]:
    """Return how many of a response's runs of tokens have stood in it before, and how many runs it has."""
    runs = [tuple(ids[at : at + RUN]) for at in range(len(ids) - RUN + 1)]
    return len(runs) - len(set(runs)), len(runs)


def _judged(name: str, found: dict[int, statistics.Estimate], unit: str) -> Iterator[Reading]:
    if not found:
        return
    first = next(iter(found.values()))
    band = (None, first.high + MORE)
    for number, each in found.items():
        alarm = None
        if above(each, band):
            alarm = f"{name}: {100 * each.value:.0f} %, {100 * first.value:.0f} % at first: {ADVICE}"
        yield reading(name, number, each, unit, band=band, alarm=alarm)


def _repetition(seen: Observed, split: str) -> dict[int, statistics.Estimate]:
    found = seen.query(
        "SELECT round, problem, ids FROM attempts WHERE split = ? AND ids IS NOT NULL ORDER BY round, problem, id",
        split,
    )
    counts = np.array([repeated(list(ids)) for ids in found["ids"]], dtype=np.float64).reshape(-1, 2)
    rounds = {}
    for number in np.unique(found["round"]):
        mine = found["round"] == number
        _, problem = np.unique(found["problem"][mine].astype(str), return_inverse=True)
        parts, wholes = (np.bincount(problem, weights=counts[mine, side]) for side in (0, 1))
        if wholes.sum():
            rounds[int(number)] = statistics.of_sums([parts, wholes], statistics.quotient)
    return rounds


def _perplexity(seen: Observed) -> Iterator[Reading]:
    found = seen.shares(_GOLD, seen.held_out)
    if not found:
        yield missing(
            seen,
            "the likelihood of held-out gold solutions is not stored (the stage Drift of pipelines/collapse.py does)",
        )
        return
    perplexities = {
        number: each._replace(value=np.exp(each.value), low=np.exp(each.low), high=np.exp(each.high))
        for number, each in found.items()
    }
    first = next(iter(perplexities.values()))
    band = (None, min(first.high**SURPRISE, PERPLEXITY * first.high))
    for number, each in perplexities.items():
        alarm = None
        if above(each, band):
            alarm = f"perplexity of gold solutions {each.value:.2f}, {first.value:.2f} at first: {ADVICE}"
        yield reading("perplexity of gold solutions", number, each, "", band=band, alarm=alarm)
