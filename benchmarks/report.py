"""How long the report of a run of a million samples takes, how much memory and disk, and how soon it opens.

python -m benchmarks.report --work FOLDER [--samples 1000000] [--rounds 5]

The run is stored by the store's own writers, with the tables that a run of `rest_em` leaves: problems, samples with
token ids, verdicts, picks, rows, outcomes, metrics, decisions, plans. Its texts are made up; no model is involved. It
is made once. `selftrain report` runs in a process of its own, whose peak memory the operating system tells; the page is
opened from its file in headless Chromium, where there is one.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.paired import keep
from selftrain import statistics
from selftrain.loop import config
from selftrain.loop.keys import encoded
from selftrain.records import (
    Checkpoint,
    Decision,
    Metric,
    Outcome,
    Pick,
    Problem,
    Row,
    Sample,
    Segment,
    Verdict,
    digest,
)
from selftrain.round import GIVEN, PROBLEMS, History
from selftrain.store import FORMAT, Store, write_text

EACH = 8
"""Samples of a train problem in a round."""
KEEP = 2
SHARD = 256
HELD_OUT = 500
"""Problems of valid, and of test."""
WORDS = "first then add take away from the number which gives so we get carry one tens units sum is answer left".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    root = asked.work / f"run-{asked.samples}-{asked.rounds}"
    if not (root / "whole").exists():
        shutil.rmtree(root, ignore_errors=True)
        begun = time.monotonic()
        make(root, asked.samples, asked.rounds)
        (root / "whole").touch()
        print(f"made {root} in {time.monotonic() - begun:.0f} s", flush=True)
    page = asked.work / "report.html"
    found = measured(root, page)
    found |= opened(page)
    command = f"python -m benchmarks.report --work FOLDER --samples {asked.samples} --rounds {asked.rounds}"
    keep("report", command, found)


def make(root: Path, samples: int, rounds: int) -> None:
    """Store a run of so many samples on train problems."""
    pool = samples // (EACH * rounds)
    job = config.load("rest_em", {"model": "nano", "pool": pool, "rounds": rounds, "samples": EACH, "keep": KEEP})
    store = Store(root)
    root.mkdir(parents=True)
    write_text(root / "run.yaml", f"format: {FORMAT}\n{yaml.safe_dump(job.as_file(), sort_keys=False)}")
    problems = {split: made(split, n) for split, n in (("train", pool), ("valid", HELD_OUT), ("test", HELD_OUT))}
    shards = stored_problems(store, problems)
    base = store.stage(0, 1, "base")
    base.begin({})
    base.write(
        0, {Checkpoint: [Checkpoint(id=digest("base"), path="round-00/01-base/checkpoint", base=digest("base"))]}
    )
    base.finish({"checkpoint": 1})
    stages = list(job.recipe.stages(History()))
    for number in range(rounds + 1):
        if number:
            store.round(number).mkdir(exist_ok=True)
            store.write_json(store.round(number) / "plan.json", {"stages": [encoded(stage) for stage in stages]})
            trained(store, number, shards)
        evaluated(store, number, shards, offset=5 if number else GIVEN)
        if number:
            gate = store.stage(number, 8, "gate")
            gate.begin({})
            gate.write(0, {Decision: [Decision(outcome="accepted", best=number, stop=False, why="made up")]})
            gate.finish({"decision": 1, "wall_seconds": 0.0, "busy_seconds": 0.0})


def made(split: str, count: int) -> list[Problem]:
    """Sums that are told apart by their terms."""
    first = {"train": 0, "valid": 10**7, "test": 2 * 10**7}[split]
    return [
        Problem.of(f"What is {first + i} + {i % 89}?", answer=str(first + i + i % 89), verifier="number", split=split)
        for i in range(count)
    ]


def stored_problems(store: Store, problems: dict[str, list[Problem]]) -> list[list[Problem]]:
    """Store the problems in shards; return the shards."""
    folder = store.stage(0, 0, PROBLEMS)
    folder.begin({})
    shards = [part[at : at + SHARD] for part in problems.values() for at in range(0, len(part), SHARD)]
    for number, shard in enumerate(shards):
        folder.write(number, {Problem: shard})
    folder.finish({"problem": sum(map(len, shards)), "shard": SHARD})
    return shards


def passes(problem: Problem, number: int, stream: random.Random) -> bool:
    """Harder problems pass less; every round passes more."""
    hardness = int(problem.id[:4], 16) / 0xFFFF
    return stream.random() < max(0.0, min(1.0, 1.2 - 1.5 * hardness + 0.06 * number))


def sampled(problem: Problem, stage: str, number: int, count: int, right: list[bool]) -> Iterator[Sample]:
    """Responses with the ids that a tokenizer of some words a token would give."""
    for index in range(count):
        id = digest(number, stage, problem.id, index)
        stream = random.Random(id)
        text = " ".join(stream.choices(WORDS, k=stream.randrange(20, 60)))
        answer = problem.answer if right[index] else str(stream.randrange(10**6))
        ids = tuple(stream.choices(range(30_000), k=text.count(" ") + 6))
        yield Sample(
            id=id,
            problem=problem.id,
            index=index,
            text=f"{text}. The answer is {answer}.",
            prompt_ids=ids[:12],
            completion_ids=ids,
            tokenizer="made-up",
            finish="length" if stream.random() < 0.03 else "stop",
            model=digest("weights", number - 1),
            settings={"temperature": 1.0},
        )


def judged(samples: list[Sample], right: list[bool]) -> list[Verdict]:
    return [
        Verdict(sample=s.id, by="number", status="pass" if good else "fail", answer=s.text.rsplit(" ", 1)[-1][:-1])
        for s, good in zip(samples, right, strict=True)
    ]


def trained(store: Store, number: int, shards: list[list[Problem]]) -> None:
    """The stages of a round on train problems, shard by shard."""
    names = ("generate", "verify", "select", "build")
    folders = {name: store.stage(number, at, name) for at, name in enumerate(names)}
    for folder in folders.values():
        folder.begin({})
    totals = dict.fromkeys((*names, "tokens"), 0)
    for shard, problems in enumerate(shards):
        if problems[0].split != "train":
            continue
        samples, verdicts, picks, rows = [], [], [], []
        for problem in problems:
            right = [passes(problem, number, random.Random(digest(number, problem.id, i))) for i in range(EACH)]
            group = list(sampled(problem, "generate", number, EACH, right))
            kept = [each.id for each, good in zip(group, right, strict=True) if good][:KEEP]
            samples += group
            verdicts += judged(group, right)
            for each, good in zip(group, right, strict=True):
                side, rule = ("kept" if each.id in kept else "dropped"), (f"AtMost({KEEP})" if good else "passed")
                picks.append(Pick(sample=each.id, problem=problem.id, side=side, rule=rule))  # type: ignore[arg-type]
                if each.id in kept:
                    segments = (Segment(ids=each.prompt_ids, train=False), Segment(ids=each.completion_ids, train=True))
                    rows.append(Row(id=digest(each.id), kind="example", segments=segments, sources=(each.id,)))
        folders["generate"].write(shard, {Sample: samples})
        folders["verify"].write(shard, {Verdict: verdicts})
        folders["select"].write(shard, {Pick: picks})
        folders["build"].write(shard, {Row: rows})
        totals["generate"] += len(samples)
        totals["build"] += len(rows)
        totals["tokens"] += sum(len(each.completion_ids) for each in samples)
    for name, folder in folders.items():
        said: dict[str, Any] = {"wall_seconds": 900.0 if name == "generate" else 0.0, "busy_seconds": 10.0}
        folder.finish(said | ({"sample": totals[name], "tokens": totals["tokens"]} if name == "generate" else {}))
    train = store.stage(number, 4, "train")
    train.begin({})
    id, base = digest("weights", number), digest("base")
    losses = [Metric(name="train/loss", value=2.0 / (1 + step / 200), step=step) for step in range(1, 2_001)]
    path = f"round-{number:02d}/04-train/checkpoint"
    checkpoint = Checkpoint(id=id, path=path, parent=base, base=base, round=number)
    train.write(0, {Checkpoint: [checkpoint], Metric: [Metric(name="train/rows", value=totals["build"]), *losses]})
    train.finish({"checkpoint": 1, "wall_seconds": 600.0, "busy_seconds": 600.0})


def evaluated(store: Store, number: int, shards: list[list[Problem]], offset: int) -> None:
    """The stages of an evaluation on held-out problems."""
    names = ("evaluate-greedy", "evaluate-verify", "evaluate")
    folders = [store.stage(number, offset + at, name) for at, name in enumerate(names)]
    for folder in folders:
        folder.begin({})
    outcomes, tokens = [], 0
    for shard, problems in enumerate(shards):
        if problems[0].split == "train":
            continue
        right = [passes(problem, number, random.Random(digest("greedy", number, problem.id))) for problem in problems]
        samples = [s for p, good in zip(problems, right, strict=True) for s in sampled(p, names[0], number, 1, [good])]
        folders[0].write(shard, {Sample: samples})
        folders[1].write(shard, {Verdict: judged(samples, right)})
        tokens += sum(len(each.completion_ids) for each in samples)
        outcomes += [
            Outcome(problem=p.id, split=p.split, name="accuracy", value=float(good))
            for p, good in zip(problems, right, strict=True)
        ]
    metrics = []
    for split in ("valid", "test"):
        found = statistics.mean([each.value for each in outcomes if each.split == split])
        metrics.append(
            Metric(name="accuracy", value=found.value, low=found.low, high=found.high, n=found.n, split=split)
        )
    folders[2].write(0, {Metric: metrics, Outcome: outcomes})
    for folder in folders:
        folder.finish({"wall_seconds": 30.0, "busy_seconds": 30.0, "tokens": tokens if folder is folders[0] else 0})


def measured(root: Path, page: Path) -> dict[str, Any]:
    """Write the report in a process of its own; seconds, peak memory, bytes."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "selftrain.cli", "report", str(root), "--out", str(page)]
    child = subprocess.Popen(command)
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.monotonic() - begun
    assert status == 0, status
    files = list(root.rglob("*.parquet"))
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_megabytes": round(used.ru_maxrss / 1e3),
        "page_megabytes": round(page.stat().st_size / 1e6, 2),
        "run_files": len(files),
        "run_megabytes": round(sum(path.stat().st_size for path in files) / 1e6),
    }


def opened(page: Path) -> dict[str, Any]:
    """Seconds from the call until the browser has loaded it, shows problems and the charts in sight, has drawn all."""
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        return {"opened": "no Chromium here"}
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(each)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.get("about:blank")
        begun = time.monotonic()
        browser.get(page.resolve().as_uri())
        loaded = time.monotonic() - begun
        ready = (
            "return document.querySelector('#problems li') !== null && [...document.querySelectorAll('.chart')]"
            ".filter(c => c.getBoundingClientRect().top < innerHeight).every(c => c.dataset.drawn)"
        )
        while not browser.execute_script(ready):
            time.sleep(0.02)
        shown = time.monotonic() - begun
        while browser.execute_script("return document.body.dataset.charts") != "drawn":
            time.sleep(0.02)
        drawn = time.monotonic() - begun
    finally:
        browser.quit()
    return {"load_seconds": round(loaded, 2), "shown_seconds": round(shown, 2), "all_drawn_seconds": round(drawn, 2)}


if __name__ == "__main__":
    main()
