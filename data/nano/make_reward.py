"""Make nano's reward model and process model: nano with a head that tells right sums from wrong ones.

    python data/nano/make_reward.py --reward data/nano_reward --process data/nano_process

Both are trained by selftrain's own trainers, from nano's weights, half on solutions written by `make.py` and half on
what nano itself samples: the reward model on pairs of a right and a wrong solution of the same sum, the process model
on solutions whose lines have a label each (right, until the first one that is wrong). They are measured on sums of
another seed: on solutions written in the same way, and on what nano samples.
"""

import argparse
import json
import logging
import random
import runpy
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selftrain import plugins, tables
from selftrain.backends import checkpoints, models
from selftrain.backends.scorer import ScorerProcess
from selftrain.backends.tokens import Tokenizer
from selftrain.backends.trainer import TrlTrainer
from selftrain.lab import TrainJob
from selftrain.records import Message, Row, Segment, seed_of
from selftrain.verification.rates import auc
from selftrain.verification.steps import split

logger = logging.getLogger("nano")
make: Any = runpy.run_path(str(Path(__file__).with_name("make.py")))
sums = plugins.load("data", "sums")

SETTINGS = {
    "per_device_train_batch_size": 32,
    "learning_rate": 1e-3,
    "warmup_steps": 50,
    "num_train_epochs": 4,
    "logging_steps": 100,
}
OWN = 8
"""Samples that nano draws of a sum."""


class Solution(NamedTuple):
    """A sum and its solution, and of each line whether it is right."""

    question: str
    lines: tuple[str, ...]
    labels: tuple[float, ...]


def right(terms: Sequence[int], stream: random.Random) -> Solution:
    """A right solution."""
    return labelled(terms, make["shuffled"](sums.steps(terms), stream))


def wrong(terms: Sequence[int], stream: random.Random) -> Solution:
    """A wrong solution: without the carry where there is one, else, and one time in five, with some other mistake."""
    lines = make["careless"](terms)
    if lines == sums.steps(terms) or stream.random() < 0.2:
        lines, _ = make["spoiled"](terms, stream)
    return labelled(terms, make["shuffled"](lines, stream))


def labelled(terms: Sequence[int], text: str) -> Solution:
    """Label the lines of a solution: right as far as they are those of the right one, its digits in any order."""
    known = [evened(line) for line in sums.steps(terms)]
    lines = split(text)
    said = [evened(line) for line in lines]
    good = next((at for at, (a, b) in enumerate(zip(said, known, strict=False)) if a != b), min(len(said), len(known)))
    return Solution(make["question"](terms), lines, tuple(float(at < good) for at in range(len(lines))))


def evened(line: str) -> tuple[str, ...]:
    """A line with its digits in one order."""
    left, equals, right = line.strip().partition("=")
    return (*sorted(left.split("+")), equals, right)


def drawn(stream: random.Random, count: int) -> Iterator[tuple[int, ...]]:
    """Yield the terms of so many sums."""
    for _ in range(count):
        yield sums.draw(stream, (2, 3), (1, 2))


def pairs(stream: random.Random, count: int, own: Sequence[Sequence[Solution]]) -> Iterator[tuple[Solution, Solution]]:
    """Yield right and wrong solutions of the same sum: so many written ones, then one of each sum that nano tried."""
    for terms in drawn(stream, count):
        yield right(terms, stream), wrong(terms, stream)
    for group in own:
        good, bad = ([each for each in group if all(each.labels) is side] for side in (True, False))
        if good and bad:
            yield stream.choice(good), stream.choice(bad)


def pair_rows(tokens: Tokenizer, found: Iterator[tuple[Solution, Solution]]) -> Iterator[Row]:
    """Yield two rows a pair."""
    for at, pair in enumerate(found):
        for kind, made in zip(("chosen", "rejected"), pair, strict=True):
            ids = tokens.encode("".join(made.lines).removesuffix("\n"))
            prompt = Segment(ids=tokens.render(asked(made.question)), train=False)
            response = Segment(ids=(*ids, tokens.end), train=True)
            yield Row(id=f"{kind}{at}", kind=kind, segments=(prompt, response), group=f"{at}")  # type: ignore[arg-type]


def step_rows(tokens: Tokenizer, found: Sequence[Solution]) -> Iterator[Row]:
    """Yield solutions with their lines' labels."""
    for at, made in enumerate(found):
        prompt = Segment(ids=tokens.render(asked(made.question)), train=False)
        lines = tuple(Segment(ids=tokens.encode(line), train=True) for line in made.lines)
        yield Row(id=f"{at}", kind="example", segments=(prompt, *lines), labels=made.labels)


def asked(question: str) -> list[Message]:
    """The prompt of a sum."""
    return [{"role": "user", "content": question}]


def train(loss: str, rows: Iterator[Row], out: Path, seed: int, work: Path) -> Path:
    """Train from nano's weights, and leave the model folder in 16 bits; return it."""
    trainer = TrlTrainer(log=work / "trainer.log")
    try:
        trainer.prepare(models.resolve("nano"), work / "start")
        tables.write(Row, rows, work / f"{loss}.parquet")
        job = TrainJob(
            rows=(work / f"{loss}.parquet",), start=work / "start", out=work / loss, loss=loss, adapter="full",
            settings=SETTINGS, seed=seed,
        )  # fmt: skip
        done = trainer.train(job, lambda steps: None)
    finally:
        trainer.close()
    curve = ", ".join(f"{each:.2f}" for each in done.loss)
    logger.info("%s: %d steps, %.0f s, loss %s", loss, done.steps, done.seconds, curve)
    store(checkpoints.master_of(done.path), loss, out)
    return out


def store(master: Path, kind: str, out: Path) -> None:
    """Write a trained model in 16 bits, with the tokenizer."""
    from selftrain.backends import classifiers

    out.mkdir(parents=True, exist_ok=True)
    classifiers.load(master, kind, "bfloat16").save_pretrained(out)
    checkpoints.copy_companions(master, out)


def sampled(seed: int, count: int) -> list[list[Solution]]:
    """What nano itself samples of so many sums, labelled, by sum."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models.resolve("nano")
    talks = [talk for talk in make["evaluation"]("direct", count, seed=seed) for _ in range(OWN)]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = make["respond"](model, AutoTokenizer.from_pretrained(folder), talks, temperature=1.0)
    terms = [tuple(map(int, talk.prompt[0]["content"][8:-1].split("+"))) for talk in talks]
    found = [labelled(of, text) if text.strip() else None for of, text in zip(terms, texts, strict=True)]
    groups = [found[at : at + OWN] for at in range(0, len(found), OWN)]
    return [[each for each in group if each is not None] for group in groups]


def measured(
    scorer: ScorerProcess, reward: Path, process: Path, groups: Sequence[Sequence[Solution]]
) -> dict[str, float]:
    """How well the scores tell right solutions from wrong ones of the same sum, and right lines from wrong ones.

    Of a right and a wrong solution, how often the right one scores higher; the share of sums whose best of the samples
    by the score is right; and of lines the area under the curve.
    """
    solutions = [each for group in groups for each in group]
    talks = [[*asked(s.question), _said(s)] for s in solutions]
    steps = {id(s): scorer.step_scores(str(process), asked(s.question), [s.lines])[0] for s in solutions}
    scores = {
        "reward": {id(s): score for s, score in zip(solutions, scorer.score(str(reward), talks), strict=True)},
        "process, by the least line": {key: min(each) for key, each in steps.items()},
    }
    lines = [
        (score, label == 1, s.question) for s in solutions for score, label in zip(steps[id(s)], s.labels, strict=True)
    ]
    found: dict[str, float] = {
        "solutions": len(solutions),
        "right": sum(all(s.labels) for s in solutions) / len(solutions),
    }
    for name, by in scores.items():
        pairs = [
            by[id(good)] > by[id(bad)]
            for g in groups
            for good in g
            if all(good.labels)
            for bad in g
            if not all(bad.labels)
        ]
        best = [all(max(group, key=lambda s: by[id(s)]).labels) for group in groups if group]
        found[f"{name}: right over wrong"] = sum(pairs) / len(pairs)
        found[f"{name}: best is right"] = sum(best) / len(best)
    return {**found, "process, lines": auc(*zip(*lines, strict=True)).value}


def _said(solution: Solution) -> Message:
    return {"role": "assistant", "content": "".join(solution.lines).removesuffix("\n")}


def main() -> None:
    """Make both folders, and write what they can do into accuracy.json of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reward", type=Path, required=True)
    parser.add_argument("--process", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sums", type=int, default=6000, help="sums that are written, and as many that nano tries")
    said = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tokens = Tokenizer(models.resolve("nano"))
    with tempfile.TemporaryDirectory() as temp, ScorerProcess(log=Path(temp) / "scorer.log") as scorer:
        work = Path(temp)
        stream = random.Random(seed_of("nano reward", said.seed))
        own = sampled(said.seed + 3, said.sums)
        train("reward", pair_rows(tokens, pairs(stream, said.sums, own)), said.reward, said.seed, work)
        written = [
            (right if at % 3 == 0 else wrong)(terms, stream) for at, terms in enumerate(drawn(stream, said.sums))
        ]
        steps = [*written, *(each for group in own for each in group[:2])]
        train("steps", step_rows(tokens, steps), said.process, said.seed, work)
        other = random.Random(seed_of("nano reward", said.seed, "held out"))
        groups = [[write(terms, other) for write in (right, wrong)] for terms in drawn(other, 200)]
        table = {
            "written": measured(scorer, said.reward, said.process, groups),
            "sampled by nano": measured(scorer, said.reward, said.process, sampled(said.seed + 2, 200)),
        }
    logger.info("%s", json.dumps(table, indent=2))
    for folder in (said.reward, said.process):
        (folder / "accuracy.json").write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
