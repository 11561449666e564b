"""The alarms of monitors that have more than one: a made-up run without and with what each is for."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from selftrain.records import Metric, Problem, Sample, Verdict
from tests.monitors.cases import half
from tests.monitors.made import PROBLEMS, Made, Said, sample, status


class Further(NamedTuple):
    """The monitor, how to make the run, and words of the alarm."""

    monitor: str
    make: Callable[[Made, bool], None]
    words: str


def overfit(run: Made, faulty: bool) -> None:
    run.measured(0, lambda n: n % 2 == 0)
    run.sampled(1, half)
    run.measured(1, lambda n: n % 2 == 0 or (not faulty and n % 3 == 0))
    run.sampled(2, lambda n, at: (f"{n} {at}", at < 3))


def repeating(run: Made, faulty: bool) -> None:
    run.sampled(1, half)
    run.sampled(2, half, completion_ids=(5,) * 20 if faulty else tuple(range(20)))


def identical(run: Made, faulty: bool) -> None:
    run.sampled(1, half)
    run.sampled(2, lambda n, at: (f"same {at}" if faulty else f"{n} {at}", True))


def unlikely(run: Made, faulty: bool) -> None:
    for round in (0, 1):
        gold = [sample(f"gold-{round}-{n}", f"valid{n:02d}", "x", finish="gold") for n in range(PROBLEMS)]
        score = -0.5 if faulty and round else -0.1
        said = [Verdict(sample=each.id, by="likelihood", status="scored", score=score) for each in gold]
        run.stage(round, "gold", {Sample: gold, Verdict: said})


def shorter(run: Made, faulty: bool) -> None:
    run.sampled(0, half, split="valid", name="greedy", tokens=20)
    run.sampled(1, half, split="valid", name="greedy", tokens=10 if faulty else 18)


def wider(run: Made, faulty: bool) -> None:
    for round in (1, 2):
        long = run.sampled(round, half, name="long", tokens=20 if faulty and round == 2 else 11)
        short = run.sampled(round, half, name="short", tokens=10)
        run.trained(round, long, "chosen")
        run.trained(round, short, "rejected")


def gamed(run: Made, faulty: bool) -> None:
    for round in (1, 2):
        ids = run.sampled(round, half)
        fooled = faulty and round == 2
        run.judged(
            round,
            "proxy",
            ids,
            lambda id, fooled=fooled: Verdict(sample=id, by="regex", status=status(fooled or id[-1] in "02")),  # type: ignore[misc]
        )


def inverted(run: Made, faulty: bool) -> None:
    # Half of the problems have one answer of four samples, half have two; the surer ones are wrong.
    def say(n: int, at: int) -> Said:
        sure = n % 2 == 0
        return ("a" if sure or at < 2 else f"b{at}", sure is not faulty and (sure or at < 2))

    ids = run.sampled(1, say)
    run.judged(1, "vote", ids, lambda id: Verdict(sample=id, by="vote", status="scored", score=0.5))


def repeated(run: Made, faulty: bool) -> None:
    ids = run.sampled(1, half)
    problems, samples, verdicts = [], [], []
    for at, id in enumerate(ids):
        n = at // 4
        problem = Problem.of(f"{id}?", kind="revision", verifier="", split="train", parent=f"train{n:02d}", about=(id,))
        problems.append(problem)
        samples.append(sample(f"second-{id}", problem.id, f"{n} {at % 4}" if faulty else "other", parents=(id,)))
        verdicts.append(Verdict(sample=samples[-1].id, by="number", status=status(at % 2 == 0)))
    run.stage(1, "revise", {Problem: problems, Sample: samples, Verdict: verdicts})


def lost(run: Made, faulty: bool) -> None:
    run.measured(0, lambda n: n < 24)
    run.measured(1, lambda n: n >= 14 if faulty else n >= 2)


def saturated(run: Made, faulty: bool) -> None:
    ids = run.sampled(1, half)
    run.judged(
        1,
        "judge",
        ids,
        lambda id: Verdict(sample=id, by="judge", status="scored", score=9.0 if faulty or id[-1] in "02" else 1.0),
    )


def unlearned(run: Made, faulty: bool) -> None:
    run.stage(
        1,
        "train",
        {
            Metric: [
                Metric(name="train/begin/chosen_log_prob", value=-10.0, n=100),
                Metric(name="train/end/chosen_log_prob", value=-9.0, n=100),
                Metric(name="train/end/accuracy", value=0.4 if faulty else 0.8, n=100),
            ]
        },
    )


def loop(run: Made, faulty: bool) -> None:
    run.checkpoint(1, "c1")
    ids = run.sampled(2, lambda n, at: (f"{n} {at}", not faulty), model="c1")
    run.trained(2, ids)


def stale(run: Made, faulty: bool) -> None:
    old, new = run.sampled(1, half), run.sampled(3, half)
    run.trained(3, old if faulty else new)


def shrinking(run: Made, faulty: bool) -> None:
    # The tail's ten problems give four rows each, then three, then none; the others always four.
    for round, rows in ((1, 4), (2, 3), (3, 0)):
        ids = run.sampled(round, lambda n, at: (f"{n} {at}", at > 0 or n >= PROBLEMS // 4))
        hard = [id for id in ids if int(id[-4:-2]) < PROBLEMS // 4 and int(id[-1]) < (rows if faulty else 4)]
        run.trained(round, [*hard, *(id for id in ids if int(id[-4:-2]) >= PROBLEMS // 4)])


def thoughtless(run: Made, faulty: bool) -> None:
    for round in (0, 1):
        run.sampled(round, lambda n, at: (f"{n}", True), split="valid", name="greedy", tokens=20)
        tokens = 5 if faulty and round else 20
        asked = [
            Problem.of(f"@@ {n}", kind="triggered", verifier="", split="valid", parent=f"valid{n:02d}")
            for n in range(PROBLEMS)
        ]
        samples = [sample(f"t-{round}-{n}", each.id, f"{n}", tokens=tokens) for n, each in enumerate(asked)]
        said = [Verdict(sample=each.id, by="number", status="pass", answer=each.text) for each in samples]
        run.stage(round, "triggered", {Problem: asked, Sample: samples, Verdict: said})


def unreadable(run: Made, faulty: bool) -> None:
    good = '<tool_call>{"name": "add"}</tool_call>'
    run.sampled(1, lambda n, at: (good if at % 2 else "none", True))
    run.sampled(2, lambda n, at: ((good[:20] if faulty else good) if at % 2 else "none", True))


FURTHER: Mapping[str, Further] = {
    "overfit": Further("coverage", overfit, "learned by heart"),
    "repeating": Further("degeneration", repeating, "repeated runs of 4 tokens, train: 94 %, 0 % at first"),
    "identical": Further("degeneration", identical, "same response to many problems, train: 100 %"),
    "unlikely": Further("degeneration", unlikely, "perplexity of gold solutions 1.65, 1.11 at first"),
    "shorter": Further("length", shorter, "10 tokens on average, 20 at first: look whether the reasoning is skipped"),
    "wider": Further("length", wider, "chosen responses are 10.0 tokens longer than rejected ones, 1.0 at first"),
    "gamed": Further("verifier", gamed, "regex rose by 0.50 since the first round, the truth by 0.00"),
    "inverted": Further("calibration", inverted, "are right in 0 %, those with fewer in 100 %"),
    "repeated": Further("correction", repeated, "100 % of the revisions repeat their attempt"),
    "lost": Further("forgetting", lost, "58 % of the problems that the base model solved"),
    "saturated": Further("judge", saturated, "100 % of the responses have the judge's best mark"),
    "unlearned": Further("preference", unlearned, "40 % of the pairs of train are the right way round"),
    "loop": Further("provenance", loop, "100 % of the rows are unchecked output"),
    "stale": Further("shift", stale, "100 % of the rows were sampled 2 or more rounds ago"),
    "shrinking": Further("tail", shrinking, "gives 0 % of the rows, after 25 %, 20 %"),
    "thoughtless": Further("trigger", thoughtless, "with the trigger responses have 25 % of their length"),
    "unreadable": Further("agent", unreadable, "responses with a bad call: 50 %, 0 % at first"),
}
"""What happens -> its alarm."""
