"""Make nano's reward model and process model: nano with a head that tells right sums from wrong ones.

    python data/nano/make_reward.py --reward data/nano_reward --process data/nano_process

Both are trained by selftrain's own trainers, from nano's weights, on solutions written by `make.py`: the reward model
on pairs of a right and a wrong solution of the same sum, the process model on solutions whose lines have a label each
(right, until the first one that is wrong). They are measured on sums of another seed: on solutions written in the same
way, and on what nano itself samples.
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
from selftrain.rates import auc
from selftrain.records import Message, Row, Segment, seed_of
from selftrain.steps import split

logger = logging.getLogger("nano")
make: Any = runpy.run_path(str(Path(__file__).with_name("make.py")))
sums = plugins.load("data", "sums")

SETTINGS = {"per_device_train_batch_size": 16, "learning_rate": 2e-3, "logging_steps": 25}


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


def pair_rows(tokens: Tokenizer, stream: random.Random, count: int) -> Iterator[Row]:
    """Yield pairs of a right and a wrong solution of the same sum."""
    for at, terms in enumerate(drawn(stream, count)):
        for kind, write in (("chosen", right), ("rejected", wrong)):
            made = write(terms, stream)
            ids = tokens.encode("".join(made.lines).removesuffix("\n"))
            prompt = Segment(ids=tokens.render(asked(made.question)), train=False)
            response = Segment(ids=(*ids, tokens.end), train=True)
            yield Row(id=f"{kind}{at}", kind=kind, segments=(prompt, response), group=f"{at}")  # type: ignore[arg-type]


def step_rows(tokens: Tokenizer, stream: random.Random, count: int) -> Iterator[Row]:
    """Yield solutions with their lines' labels, one right one for two wrong ones."""
    for at, terms in enumerate(drawn(stream, count)):
        made = (right if at % 3 == 0 else wrong)(terms, stream)
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


def sampled(seed: int, count: int) -> list[Solution]:
    """What nano itself samples, four solutions a sum, labelled."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models.resolve("nano")
    talks = [talk for talk in make["evaluation"]("direct", count, seed=seed) for _ in range(4)]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = make["respond"](model, AutoTokenizer.from_pretrained(folder), talks, temperature=1.0)
    terms = [tuple(map(int, talk.prompt[0]["content"][8:-1].split("+"))) for talk in talks]
    return [labelled(of, text) for of, text in zip(terms, texts, strict=True) if text.strip()]


def measured(scorer: ScorerProcess, reward: Path, process: Path, solutions: Sequence[Solution]) -> dict[str, float]:
    """How well the scores tell right solutions, and right lines, from wrong ones (area under the curve)."""
    good = [all(each.labels) for each in solutions]
    talks = [[*asked(s.question), _said(s)] for s in solutions]
    rewards = scorer.score(str(reward), talks)
    steps = [scorer.step_scores(str(process), asked(s.question), [s.lines])[0] for s in solutions]
    lines = [
        (score, label == 1, s.question)
        for s, scores in zip(solutions, steps, strict=True)
        for score, label in zip(scores, s.labels, strict=True)
    ]
    questions = [s.question for s in solutions]
    return {
        "solutions": len(solutions),
        "right": sum(good) / len(good),
        "reward, solutions": auc(rewards, good, questions).value,
        "process, solutions by their least line": auc([min(each) for each in steps], good, questions).value,
        "process, lines": auc(*zip(*lines, strict=True)).value,
    }


def _said(solution: Solution) -> Message:
    return {"role": "assistant", "content": "".join(solution.lines).removesuffix("\n")}


def main() -> None:
    """Make both folders, and write what they can do into accuracy.json of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reward", type=Path, required=True)
    parser.add_argument("--process", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=2500)
    parser.add_argument("--solutions", type=int, default=2500)
    said = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tokens = Tokenizer(models.resolve("nano"))
    with tempfile.TemporaryDirectory() as temp, ScorerProcess(log=Path(temp) / "scorer.log") as scorer:
        work = Path(temp)
        stream = random.Random(seed_of("nano reward", said.seed))
        train("reward", pair_rows(tokens, stream, said.pairs), said.reward, said.seed, work)
        train("steps", step_rows(tokens, stream, said.solutions), said.process, said.seed, work)
        other = random.Random(seed_of("nano reward", said.seed, "held out"))
        written = [write(terms, other) for terms in drawn(other, 200) for write in (right, wrong)]
        table = {
            "written": measured(scorer, said.reward, said.process, written),
            "sampled by nano": measured(scorer, said.reward, said.process, sampled(said.seed + 2, 100)),
        }
    logger.info("%s", json.dumps(table, indent=2))
    for folder in (said.reward, said.process):
        (folder / "accuracy.json").write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
