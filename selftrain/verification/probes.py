"""What a verifier is asked in its conformance tests: its own cases, the cases without their gold, awkward responses."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from selftrain.lab import Verifiers
from selftrain.records import Case, Problem, Sample, Verdict, digest
from selftrain.verification.awkward import AWKWARD
from selftrain.verification.verify import LoadedVerifier, parse_spec

OTHER_GOLD = ("1", "B")
"""Gold answers that a case is judged against besides its own, to see whether the answer that was read changes."""


class Group(NamedTuple):
    """A case; for a verifier of groups, all cases of one problem."""

    spec: str
    """The verifier, with the cases' settings."""
    problem: Problem
    cases: tuple[Case, ...]


class Probe(NamedTuple):
    """Something to be judged: a response; for a verifier of groups, all responses to a problem."""

    name: str
    spec: str
    problem: Problem
    responses: tuple[str, ...]
    templates: tuple[str, ...]


Judged = Mapping[str, tuple[Verdict, ...]]
"""Probe's name -> a verdict for each of its responses."""


def groups_of(loaded: LoadedVerifier) -> list[Group]:
    """Return a verifier's cases, those that are judged together in one group."""
    found: dict[str, Group] = {}
    for number, case in enumerate(loaded.cases):
        problem = Problem.of(case.prompt, answer=case.answer, tests=case.tests, meta=case.meta)
        key = digest(dict(case.settings), problem.id, dict(case.meta)) if loaded.group else str(number)
        before = found.get(key, Group(_spec(loaded.spec, case), problem, ()))
        found[key] = before._replace(cases=(*before.cases, case))
    return list(found.values())


def probes_of(groups: Sequence[Group], *, group: bool) -> list[Probe]:
    """Return all that a verifier is asked; `group` says that it judges all samples of a problem at once."""
    return [*own(groups), *_without_gold(groups), *_other_gold(groups), *_awkward(groups, group)]


def own(groups: Sequence[Group]) -> list[Probe]:
    """Return the cases as they are, named "case 0", "case 1", ..."""
    return [_probe(f"case {n}", group, group.problem) for n, group in enumerate(groups)]


def judged(verifiers: Verifiers, probes: Iterable[Probe]) -> Judged:
    """Have probes judged."""
    by_spec: dict[str, list[Probe]] = {}
    for probe in probes:
        by_spec.setdefault(probe.spec, []).append(probe)
    found: dict[str, tuple[Verdict, ...]] = {}
    for spec, mine in by_spec.items():
        items = [item for probe in mine for item in _items(probe)]
        said = {verdict.sample: verdict for verdict in verifiers.verify(spec, items)}
        found |= {p.name: tuple(said[f"{p.name}/{at}"] for at in range(len(p.responses))) for p in mine}
    return found


def _spec(spec: str, case: Case) -> str:
    if not case.settings:
        return spec
    name, settings = parse_spec(spec)
    return json.dumps({"name": name, **settings, **case.settings})


def _probe(name: str, group: Group, problem: Problem) -> Probe:
    responses, templates = zip(*((case.response, case.template) for case in group.cases), strict=True)
    return Probe(name, group.spec, problem, responses, templates)


def _without_gold(groups: Sequence[Group]) -> Iterator[Probe]:
    for n, group in enumerate(groups):
        bare = replace(group.problem, id=f"{group.problem.id}-bare", answer=None, tests=None, meta={})
        yield _probe(f"bare {n}", group, bare)


def _other_gold(groups: Sequence[Group]) -> Iterator[Probe]:
    for n, group in enumerate(groups):
        for gold in OTHER_GOLD:
            other = replace(group.problem, id=f"{group.problem.id}-{gold}", answer=gold)
            yield _probe(f"gold {n} {gold}", group, other)


def _awkward(groups: Sequence[Group], together: bool) -> Iterator[Probe]:
    """Awkward responses to a problem that is in order; for a verifier of groups, in the company of its cases."""
    group = next((g for g in groups if any(case.expect in ("pass", "scored") for case in g.cases)), groups[0])
    company = _probe("", group, group.problem)
    for name, response in AWKWARD.items():
        problem = replace(group.problem, id=f"{group.problem.id}-{name}")
        responses = (*company.responses, response) if together else (response,)
        templates = (*company.templates, company.templates[0]) if together else company.templates[:1]
        yield Probe(f"awkward {name}", group.spec, problem, responses, templates)


def _items(probe: Probe) -> Iterator[tuple[Problem, Sample]]:
    for index, (text, template) in enumerate(zip(probe.responses, probe.templates, strict=True)):
        yield (
            probe.problem,
            Sample.given(probe.problem, text, id=f"{probe.name}/{index}", model="case", index=index, template=template),
        )
