"""Verdicts per second of `expression` in the worker pool against math-verify called one by one, as its page shows it.

python -m benchmarks.expression [--problems 2000] [--runs 5]

Problems and responses are made from a seed: integers, fractions, decimals, roots, polynomials and sets, half of the
responses right in another form. "Repeated" gives every response twice. The two take turns; the medians count.
"""

import argparse
import logging
import random
import statistics
import time
from collections.abc import Callable, Sequence

from benchmarks.paired import keep
from selftrain.backends.pool import VerifierPool
from selftrain.loop.plan import cores
from selftrain.records import Problem, Sample

Item = tuple[Problem, Sample]
Draw = Callable[[random.Random], tuple[str, str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    found = {}
    for name, repeats in (("distinct", 1), ("repeated", 2)):
        items = made(asked.problems // repeats, repeats)
        speeds: dict[str, list[float]] = {"one by one": [], "pool": []}
        for run in range(asked.runs):
            theirs, slow = one_by_one(items)
            ours, fast = pooled(items)
            speeds["one by one"].append(slow)
            speeds["pool"].append(fast)
            differ = [id for id in theirs if theirs[id] != ours[id]]
            print(
                f"{name}, run {run}: {slow:.0f}/s one by one, {fast:.0f}/s in the pool, {len(differ)} differ",
                flush=True,
            )
            assert not differ, differ[:5]
        middle = {way: statistics.median(values) for way, values in speeds.items()}
        ratio = statistics.median(b / a for a, b in zip(speeds["one by one"], speeds["pool"], strict=True))
        found[name] = {"verdicts_per_second": middle, "ratio": ratio, "runs": speeds, "items": len(items)}
        print(f"{name}: {ratio:.2f}x", flush=True)
    keep("expression", f"python -m benchmarks.expression --problems {asked.problems} --runs {asked.runs}", found)


def one_by_one(items: Sequence[Item]) -> tuple[dict[str, bool], float]:
    """Judge in this process; returns the verdicts and how many a second."""
    from math_verify import parse, verify

    begun = time.perf_counter()
    said = {}
    for problem, sample in items:
        said[sample.id] = bool(verify(parse(f"${problem.answer}$"), parse(sample.text)))
    return said, len(items) / (time.perf_counter() - begun)


def pooled(items: Sequence[Item]) -> tuple[dict[str, bool], float]:
    """Judge in the pool, whose workers have loaded the verifier before the clock starts."""
    with VerifierPool(cores()) as pool:
        warm = made(cores() * 8, 1, seed=1)
        list(pool.verify("expression", warm))
        begun = time.perf_counter()
        said = {verdict.sample: verdict.status == "pass" for verdict in pool.verify("expression", items)}
        return said, len(items) / (time.perf_counter() - begun)


def made(problems: int, repeats: int, seed: int = 0) -> list[Item]:
    """Return problems with a response each, every one of them `repeats` times, in a random order."""
    stream = random.Random(seed)
    items = []
    for number in range(problems):
        gold, same, other = stream.choice(KINDS)(stream)
        problem = Problem.of(f"Problem {number}", answer=gold, verifier="expression")
        text = f"We work it out.\nThe steps lead to \\boxed{{{stream.choice((same, other))}}}."
        items += [(problem, sample(problem, text, index)) for index in range(repeats)]
    stream.shuffle(items)
    return items


def sample(problem: Problem, text: str, index: int) -> Sample:
    return Sample.given(problem, text, id=f"{problem.id}-{index}", model="benchmark", index=index)


def integer(stream: random.Random) -> tuple[str, str, str]:
    a = stream.randint(10, 9999)
    return str(a), f"{a - 7} + 7", str(a + 1)


def fraction(stream: random.Random) -> tuple[str, str, str]:
    a, b = stream.randint(1, 60), stream.randint(61, 99)
    return f"\\frac{{{a}}}{{{b}}}", f"\\frac{{{3 * a}}}{{{3 * b}}}", f"\\frac{{{a + 1}}}{{{b}}}"


def decimal(stream: random.Random) -> tuple[str, str, str]:
    a = stream.randint(1, 399)
    return f"{a / 8}", f"\\frac{{{a}}}{{8}}", f"{a / 8 + 0.5}"


def root(stream: random.Random) -> tuple[str, str, str]:
    a, b = stream.randint(2, 30), stream.choice((2, 3, 5, 6, 7))
    return f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}", f"{a + 1}\\sqrt{{{b}}}"


def polynomial(stream: random.Random) -> tuple[str, str, str]:
    a, b = stream.randint(1, 40), stream.randint(1, 40)
    return f"(x+{a})(x+{b})", f"x^2+{a + b}x+{a * b}", f"x^2+{a + b}x+{a * b + 1}"


def numbers(stream: random.Random) -> tuple[str, str, str]:
    a, b, c = stream.sample(range(100), 3)
    return f"\\{{{a}, {b}, {c}\\}}", f"\\{{{c}, {a}, {b}\\}}", f"\\{{{a}, {b}\\}}"


KINDS: tuple[Draw, ...] = (integer, fraction, decimal, root, polynomial, numbers)


if __name__ == "__main__":
    main()
