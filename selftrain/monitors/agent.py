"""Agent usage: how often a response calls a tool, calls it badly, or calls it over and over.

Tool-use self-training (arXiv:2401.12999), Agent-R (arXiv:2501.11425) and ALAMA (arXiv:2412.00722): a policy that is
rewarded for answers may stop calling tools, call them always, or go round in circles. A call is what stands between
<tool_call> and </tool_call> as a JSON object with a name, as chat templates write it.
"""

import json
from collections.abc import Iterator

import numpy as np

from selftrain.monitors import Reading, above, below, missing, reading
from selftrain.observed import Observed
from selftrain.statistics import Estimate, Sums, of_sums, quotient

NEVER, ALWAYS = 0.02, 0.98
"""Shares of responses with a call beyond which the policy does not choose any more, where it did at first."""
MORE = 0.1
"""Share of responses by which bad calls and loops may grow."""
AGAIN = 3
"""Equal calls in a response that make a loop."""
BEGIN, END = "<tool_call>", "</tool_call>"


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure a fixed part of the policy's responses to train problems by the round that sampled them."""
    found = seen.query(
        "SELECT round, problem, words FROM attempts WHERE split = 'train' AND words IS NOT NULL"
        " ORDER BY round, problem, id"
    )
    if not any(BEGIN in str(text) for text in found["words"]):
        yield missing(seen, f"no response calls a tool ({BEGIN})")
        return
    counts = np.array([called(str(text)) for text in found["words"]], dtype=float)
    rounds = {int(number): counts[found["round"] == number] for number in np.unique(found["round"])}
    problems = {number: found["problem"][found["round"] == number] for number in rounds}
    for at, name in enumerate(("responses with a call", "responses with a bad call", "responses with a loop")):
        shares = {number: _share(each[:, at], problems[number]) for number, each in rounds.items()}
        yield from _judged(name, shares, choice=at == 0)


def called(text: str) -> tuple[bool, bool, bool]:
    """Return whether a response has a call, one that cannot be read, and the same one over and over."""
    calls = [part.partition(END) for part in text.split(BEGIN)[1:]]
    bad = any(not end or not _readable(body) for body, end, _ in calls)
    bodies = [body.strip() for body, *_ in calls]
    return bool(calls), bad, any(bodies.count(each) >= AGAIN for each in bodies)


def _readable(body: str) -> bool:
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and "name" in said


def _share(part: Sums, problems: Sums) -> Estimate:
    _, problem = np.unique(problems.astype(str), return_inverse=True)
    return of_sums([np.bincount(problem, weights=part), np.bincount(problem)], quotient)


def _judged(name: str, found: dict[int, Estimate], *, choice: bool) -> Iterator[Reading]:
    first = next(iter(found.values()))
    chose = first.low > NEVER and first.high < ALWAYS
    band = (NEVER, ALWAYS) if choice and chose else (None, None) if choice else (None, first.high + MORE)
    for number, each in found.items():
        alarm = None
        if above(each, band) or below(each, band):
            alarm = (
                f"{name}: {100 * each.value:.0f} %, {100 * first.value:.0f} % at first: select also by how an answer"
                " was reached, and keep rows of both kinds"
            )
        yield reading(name, number, each, "share of responses", band=band, alarm=alarm)
