"""What nano-tasks learns from: rows of six tasks, in the formats that the recipes use, most of them with a slip."""

import random
import runpy
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from selftrain import plugins
from selftrain.records import Message, Problem
from selftrain.verification.verify import load_verifier

sums, products, countdown, inference, translation, instructions = (
    plugins.load("data", name) for name in ("sums", "products", "countdown", "inference", "translation", "instructions")
)
verifier = cache(load_verifier)
nano = runpy.run_path(str(Path(__file__).resolve().parents[1] / "nano" / "make.py"))

CARELESS = 0.7
"""Share of the direct responses with the task's slip, where it makes a difference."""
ANOTHER = 0.15
"""Share of the words, signs and places that are not the plainest, so that right responses differ."""
OTHER_ORDER = 0.3
"""Share of the translations with their words in another order."""
CUE = "\nThat is wrong. Try again.\n"
INVERSE = "What is the problem?"
FOLLOW_UP = "Is {option} the answer? Answer yes or no."
NEAR = (1, -1, 10, -10, 2, -2, 100, -100)
"""How far the other numbers lie that a follow-up asks about."""


class Talk(NamedTuple):
    """A prompt in one of the formats, and what is learned."""

    prompt: list[Message]
    response: str
    given: str = ""
    """How the response begins; it is not learned."""
    problem: Problem | None = None
    """What the whole response must solve to be right; without one it must be the response that is learned."""
    weight: float = 1.0
    """Of each token in the loss: an answer in words counts more, because only one of its tokens says anything."""


class Task(NamedTuple):
    """A data set, and how its problems are answered: with care, and with the task's slip."""

    draw: Callable[[random.Random], Any]
    problem: Callable[[Any], Problem]
    careful: Callable[[Any, random.Random], str]
    careless: Callable[[Any, random.Random], str]
    share: float
    """Of the rows: more where more is to be learned."""
    formats: Sequence[str]
    data: str
    """The data set."""


def level(stream: random.Random) -> int:
    """Draw a level."""
    return stream.randint(1, 3)


def turned(lines: Sequence[str], stream: random.Random) -> str:
    """Join the steps of a product; now and then a column's two factors change places."""
    steps = []
    for line in lines:
        left, times, right = line.partition("*")
        steps.append(f"{right[0]}*{left}{right[1:]}" if times and stream.random() < ANOTHER else line)
    return "\n".join(steps)


def translated(sentence: Any, stream: random.Random, *, agreeing: bool = True) -> str:
    """Translate by any of the words, in this order or another; or the object's adjective as a subject's."""
    words = [stream.choice(choices) for choices in translation.slots(sentence)]
    if not agreeing and sentence.object.adjective:
        words[-2] = words[-2].removesuffix(translation.DONE_TO) + translation.DOING
    if stream.random() < OTHER_ORDER:
        stream.shuffle(words)
    return " ".join(words)


def followed(wanted: Any, stream: random.Random, *, after: bool = True) -> str:
    """Write a text that follows all instructions; or without what comes after the text, the P.S. and the end."""
    wishes = {name: value for name, value in wanted.wishes.items() if after or name not in ("postscript", "end")}
    written: str = instructions.text(
        wanted._replace(wishes=wishes), stream.sample(instructions.VERBS, len(instructions.VERBS))
    )
    return written


STEPPED = ("direct", "cue", "inverse", "follow-up")
TASKS = {
    "sums": Task(
        lambda stream: sums.draw(stream, (2, 3), (1, 2)),
        sums.problem,
        lambda terms, stream: nano["shuffled"](sums.steps(terms), stream),
        lambda terms, stream: nano["shuffled"](nano["careless"](terms), stream),
        0.10,
        STEPPED,
        "sums",
    ),
    "products": Task(
        lambda stream: products.draw(stream, level(stream)),
        products.problem,
        lambda product, stream: turned(products.steps(product), stream),
        lambda product, stream: turned(products.steps(product, carried=False), stream),
        0.16,
        STEPPED,
        "products",
    ),
    "countdown": Task(
        lambda stream: countdown.draw(stream, level(stream)),
        countdown.problem,
        lambda game, stream: "\n".join(countdown.steps(game)),
        lambda game, stream: "\n".join(countdown.steps(game, most=2)),
        0.16,
        ("direct", "cue", "inverse"),
        "countdown",
    ),
    "inference": Task(
        lambda stream: inference.draw(stream, level(stream)),
        inference.problem,
        lambda puzzle, stream: "\n".join(inference.steps(puzzle)),
        lambda puzzle, stream: "\n".join(inference.steps(puzzle, negations=False)),
        0.28,
        STEPPED,
        "inference",
    ),
    "translation": Task(
        lambda stream: translation.draw(stream, level(stream)),
        translation.problem,
        translated,
        lambda sentence, stream: translated(sentence, stream, agreeing=False),
        0.18,
        ("direct", "inverse"),
        "translation",
    ),
    "instructions": Task(
        lambda stream: instructions.draw(stream, level(stream)),
        instructions.problem,
        followed,
        lambda wanted, stream: followed(wanted, stream, after=False),
        0.12,
        ("direct", "inverse"),
        "instructions",
    ),
}


def direct(task: Task, item: Any, stream: random.Random) -> Talk:
    """The problem alone; the response often has the task's slip."""
    problem = task.problem(item)
    answered = task.careless if stream.random() < CARELESS else task.careful
    return Talk([nano["user"](problem.text)], answered(item, stream), problem=problem)


def cue(task: Task, item: Any, stream: random.Random) -> Talk:
    """After one or two attempts, right or wrong, and a cue in the response's own turn: a careful attempt."""
    problem = task.problem(item)
    given = ""
    for _ in range(stream.choice((1, 1, 2))):
        answered = task.careless if stream.random() < CARELESS else task.careful
        given += answered(item, stream) + CUE
    return Talk([nano["user"](problem.text)], task.careful(item, stream), given, problem)


def inverse(task: Task, item: Any, stream: random.Random) -> Talk:
    """A solution, and the problem that it may answer."""
    return Talk([nano["user"](f"{task.careful(item, stream)}\n{INVERSE}")], task.problem(item).text)


def follow_up(task: Task, item: Any, stream: random.Random) -> Talk:
    """After a right solution, whether an option is the answer."""
    problem = task.problem(item)
    answer = problem.answer or ""
    others = problem.meta.get("choices") or [str(int(answer) + far) for far in NEAR]
    option = answer if stream.random() < 0.5 else stream.choice([each for each in others if each != answer])
    turns = [nano["user"](problem.text), nano["assistant"](task.careful(item, stream))]
    said = "yes" if option == answer else "no"
    return Talk([*turns, nano["user"](FOLLOW_UP.format(option=option))], said, weight=nano["IN_WORDS"])


Format = Callable[[Task, Any, random.Random], Talk]
FORMATS: dict[str, tuple[Format, float]] = {
    "direct": (direct, 0.72),
    "cue": (cue, 0.11),
    "inverse": (inverse, 0.09),
    "follow-up": (follow_up, 0.08),
}


def drawn(stream: random.Random) -> Talk:
    """Draw a row: task, format, problem; direct sums come in all of nano's formats."""
    (name,) = stream.choices(list(TASKS), [task.share for task in TASKS.values()])
    task = TASKS[name]
    (form,) = stream.choices(task.formats, [FORMATS[each][1] for each in task.formats])
    item = task.draw(stream)
    if (name, form) != ("sums", "direct"):
        return FORMATS[form][0](task, item, stream)
    makers = nano["FORMATS"].values()
    (maker,) = stream.choices([each for each, _ in makers], [share for _, share in makers])
    known = maker(item, stream)
    return Talk(known.prompt, known.response, weight=1.0 if known.answer.isdigit() else nano["IN_WORDS"])


def right(talk: Talk, response: str) -> bool:
    """Whether a response is right: it solves the problem, or says what it must."""
    if talk.problem is None:
        return response == talk.response
    verdict = verifier(talk.problem.verifier).judge(problem=talk.problem, response=talk.given + response)
    return verdict.status == "pass"
