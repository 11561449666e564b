"""For each monitor a made-up run, healthy or with its fault, and a reading whose value is known in both."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from selftrain.records import Problem, Sample, Verdict
from tests.monitors.made import PROBLEMS, SAMPLES, Made, Said, sample, status


class Case(NamedTuple):
    """How to make the run, which reading to look at in its last round, and its value without and with the fault."""

    make: Callable[[Made, bool], None]
    name: str
    round: int
    healthy: float
    faulty: float


def half(n: int, at: int) -> Said:
    """Half of a problem's samples are right; all texts differ."""
    return f"{n} {at}", at % 2 == 0


def coverage(run: Made, faulty: bool) -> None:
    # First one sample of 3 in 4 problems, then all samples of half of the problems, or of 9 in 10.
    run.sampled(1, lambda n, at: (f"{n} {at}", at == 0 and n % 4 != 0))
    run.sampled(2, lambda n, at: (f"{n} {at}", n % 4 in (1, 2) if faulty else n % 10 != 0))


def diversity(run: Made, faulty: bool) -> None:
    run.sampled(1, half)
    run.sampled(2, lambda n, at: ("same" if faulty else f"{n} {at}", at % 2 == 0))


def degeneration(run: Made, faulty: bool) -> None:
    run.sampled(1, half)
    run.sampled(2, half, finish="length" if faulty else "stop")


def tail(run: Made, faulty: bool) -> None:
    # The first ten problems are hard: one sample in four is right, else three.
    for round in (1, 2, 3):
        ids = run.sampled(round, lambda n, at: (f"{n} {at}", at < (1 if n < PROBLEMS // 4 else 3)))
        right = [id for id in ids if int(id[-1]) < (1 if int(id[-4:-2]) < PROBLEMS // 4 else 3)]
        run.trained(round, [id for id in right if not faulty or int(id[-4:-2]) >= PROBLEMS // 4])


def balance(run: Made, faulty: bool) -> None:
    for round in (1, 2):
        spoiled = faulty and round == 2
        ids = run.sampled(round, lambda n, at, spoiled=spoiled: ("same" if spoiled else f"{n} {at}", True))  # type: ignore[misc]
        run.trained(round, ids)


def gap(run: Made, faulty: bool) -> None:
    for round in (1, 2):
        ids = run.sampled(round, half)
        run.trained(round, [id for id in ids if faulty or id[-1] in "02"])


def verifier(run: Made, faulty: bool) -> None:
    ids = run.sampled(1, half)
    right = {id for id in ids if id[-1] in "02"}
    # It passes all that is right, and of what is wrong half; or passes what is wrong and one right one.
    passed = right | {id for id in ids if id[-1] == "1"}
    fooled = {id for id in ids if id[-1] in "123"}
    run.judged(
        1, "proxy", ids, lambda id: Verdict(sample=id, by="regex", status=status(id in (fooled if faulty else passed)))
    )


def steps(run: Made, faulty: bool) -> None:
    for round in (1, 2):
        ids = run.sampled(round, half)
        slip = faulty and round == 2
        run.judged(
            round,
            "steps",
            ids,
            lambda id, slip=slip: Verdict(  # type: ignore[misc]
                sample=id, by="process_reward", status="scored", score=0.0, step_scores=(1.0, 0.2 if slip else 0.8)
            ),
        )


def length(run: Made, faulty: bool) -> None:
    run.sampled(1, half, tokens=10)
    run.sampled(2, half, tokens=20 if faulty else 12)


def judge(run: Made, faulty: bool) -> None:
    for round in (1, 2):
        ids = run.sampled(round, half)
        fooled = faulty and round == 2
        run.judged(
            round,
            "judge",
            ids,
            lambda id, fooled=fooled: Verdict(  # type: ignore[misc]
                sample=id, by="judge", status="scored", score=10.0 if fooled or id[-1] in "02" else 0.0
            ),
        )


def forgetting(run: Made, faulty: bool) -> None:
    run.measured(0, lambda n: n % 2 == 0)
    run.measured(1, lambda n: n % 4 == 0 if faulty else n % 4 != 1)


def shift(run: Made, faulty: bool) -> None:
    ids = run.sampled(1, half)
    run.trained(1, ids, weight=lambda at: 100.0 if faulty and at % 20 == 0 else 1.0)


def correction(run: Made, faulty: bool) -> None:
    ids = run.sampled(1, half)
    problems, samples, verdicts = [], [], []
    for at, id in enumerate(ids):
        problems.append(
            Problem.of(
                f"{id} again",
                kind="revision",
                verifier="",
                split="train",
                parent=f"train{at // SAMPLES:02d}",
                about=(id,),
            )
        )
        samples.append(sample(f"second-{id}", problems[-1].id, f"revised {at}", parents=(id,)))
        right = id[-1] == "0" if faulty else id[-1] in "012"
        verdicts.append(Verdict(sample=samples[-1].id, by="number", status=status(right)))
    run.stage(1, "revise", {Problem: problems, Sample: samples, Verdict: verdicts})


def calibration(run: Made, faulty: bool) -> None:
    # Three of four samples give the same answer; it is right for 3 problems in 4, or for one in ten.
    ids = run.sampled(1, lambda n, at: ("a" if at else "b", bool(at) and (n % 10 == 0 if faulty else n % 4 != 0)))
    run.judged(1, "vote", ids, lambda id: Verdict(sample=id, by="vote", status="scored", score=0.75))


def preference(run: Made, faulty: bool) -> None:
    run.metric(0, "ignored", 0.0)
    from selftrain.records import Metric

    named = {"train/begin/chosen_log_prob": -10.0, "train/end/chosen_log_prob": -14.0 if faulty else -9.0}
    run.stage(1, "train", {Metric: [Metric(name=name, value=value, n=100) for name, value in named.items()]})


def imitation(run: Made, faulty: bool) -> None:
    for round in (1, 2):
        run.sampled(round, lambda n, at: ("weak", False), name="weak", role="weak")
        copied = faulty and round == 2
        run.sampled(round, lambda n, at, copied=copied: ("weak" if copied or at == 0 else f"{at}", False))  # type: ignore[misc]


def provenance(run: Made, faulty: bool) -> None:
    if faulty:
        # One of the same content has the same id, one in other letters another.
        same = Problem.of("valid 3?", answer="7", verifier="number", split="train", id="valid03")
        alike = Problem.of("VALID  4?", answer="7", verifier="number", split="train", id="leaked")
        run.stage(0, "more", {Problem: [same, alike]})


def trigger(run: Made, faulty: bool) -> None:
    for round in (0, 1):
        run.sampled(round, lambda n, at: (f"{n}", True), split="valid", name="greedy")
        changed = faulty and round == 1
        problems = [
            Problem.of(f"@@ {n}", kind="triggered", verifier="", split="valid", parent=f"valid{n:02d}")
            for n in range(PROBLEMS)
        ]
        samples = [sample(f"triggered-{round}-{n}", each.id, f"{n}") for n, each in enumerate(problems)]
        said = [Verdict(sample=s.id, by="number", status="pass", answer="?" if changed else s.text) for s in samples]
        run.stage(round, "triggered", {Problem: problems, Sample: samples, Verdict: said})


def agent(run: Made, faulty: bool) -> None:
    call = '<tool_call>{"name": "add"}</tool_call>'
    run.sampled(1, lambda n, at: (f"{call} {n} {at}" if at % 2 else f"{n} {at}", True))
    run.sampled(2, lambda n, at: (f"{n} {at}" if faulty or at % 2 else f"{call} {n} {at}", True))


CASES: Mapping[str, Case] = {
    "coverage": Case(coverage, "pass@4, train", 2, 0.9, 0.5),
    "diversity": Case(diversity, "different responses a sample", 2, 1.0, 0.25),
    "degeneration": Case(degeneration, "cut off at the token limit, train", 2, 0.0, 1.0),
    # 10 rows of 10 + 90; none.
    "tail": Case(tail, "the tail's share of rows", 3, 0.1, 0.0),
    # Four different rows of four wanted; one.
    "balance": Case(balance, "balance score", 2, 1.0, 1 / 16),
    "gap": Case(gap, "gap", 2, 0.5, 0.0),
    "verifier": Case(verifier, "precision of regex", 1, 2 / 3, 1 / 3),
    "steps": Case(steps, "right answers with a wrong step", 2, 0.0, 1.0),
    "length": Case(length, "mean length, train", 2, 12.0, 20.0),
    "judge": Case(judge, "marks less truth", 2, 0.0, 0.5),
    "forgetting": Case(forgetting, "change of accuracy since base", 1, 0.25, -0.25),
    # Kish: (8 * 100 + 152) ** 2 / (8 * 10,000 + 152) / 160.
    "shift": Case(shift, "effective rows", 1, 1.0, 952**2 / 80_152 / 160),
    "correction": Case(correction, "change by revising, train", 1, 0.25, -0.25),
    "calibration": Case(calibration, "vote share less accuracy", 1, 0.0, 0.65),
    "preference": Case(preference, "log-probability of chosen, train", 1, -9.0, -14.0),
    "imitation": Case(imitation, "weak model's mistakes repeated", 2, 0.25, 1.0),
    "provenance": Case(provenance, "train problems that are held out", 0, 0.0, 2.0),
    "trigger": Case(trigger, "answers changed by the trigger", 1, 0.0, 1.0),
    "agent": Case(agent, "responses with a call", 2, 0.5, 0.0),
}
"""Monitor -> its case."""
