"""What another language model says of this response: a rating, yes or no, or how often it is better than the others.

The model is the one that the stage names (`Verify(by="judge", model="policy")`). `pointwise` asks for a number on the
scale, `yes_no` whether the response is right (1 or 0); of several votes the mean counts. `pairwise` compares samples of
a problem with each other, each pair in both orders; orders that disagree are a tie, and the score is the share of wins.
The prompts are files (`verifiers/prompts/`, or a path that ends in .txt; `selftrain/verification/judging.py` says what
they hold); the gold answer is shown only by a template that has the place {answer}. How a reply is read says
`selftrain/verification/replies.py`; one that can't be read abstains. Without a threshold the verdict is a score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from selftrain.errors import PluginError
from selftrain.lab import AskedModel
from selftrain.records import Case, Message, Problem, Sample, Score
from selftrain.verification import replies
from selftrain.verification.asking import each_or_error, thresholded
from selftrain.verification.judging import Template, agreed, majority, pairs, template, template_file

cases = (
    # What it says of others is the model's matter.
    Case(settings={"template": "pointwise_with_answer"}, response="4", expect="error"),
    Case(settings={"mode": "pairwise"}, response="4", expect="abstain"),
)

_PROMPTS = Path(__file__).with_name("prompts")


class _Told(NamedTuple):
    """What came of one question: the votes, None for those that could not be read, or an error."""

    votes: tuple[float | None, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Asks a model, about all of a problem's samples at once."""

    mode: Literal["pointwise", "yes_no", "pairwise"] = "pointwise"
    template: str = ""
    """A bundled template's name, or a path that ends in .txt; '' takes the mode's own."""
    scale: tuple[float, float] = (1, 10)
    """The least and the greatest rating."""
    votes: int = 1
    """How often each question is asked."""
    temperature: float = 0.0
    max_tokens: int = 512
    """Of a reply; one that is cut off before its verdict abstains."""
    opponents: int | None = None
    """How many others a sample is compared with at least; all by default."""
    threshold: float | None = None
    """The least score that passes."""

    def __post_init__(self) -> None:
        if self.votes < 1 or (self.votes > 1 and self.temperature <= 0):
            raise PluginError(f"votes is {self.votes}: at least 1, and above 1 only with a temperature above 0")
        if self.scale[0] >= self.scale[1]:
            raise PluginError(f"scale is {self.scale}: its first number must be the smaller one")
        if self.opponents is not None and self.opponents < 1:
            raise PluginError(f"opponents is {self.opponents}: at least 1")
        self._template()

    @property
    def files(self) -> tuple[str, ...]:
        """The template: with another text it says something else."""
        return (str(template_file(self.template or self.mode, _PROMPTS)),)

    def verify(self, *, problem: Problem, response: str, model: AskedModel) -> Score:
        """Judge one response; pairwise abstains, for there is nothing to compare it with."""
        return self._judged(problem, [response], model)[0]

    def verify_group(self, *, problem: Problem, attempts: Sequence[Sample], model: AskedModel) -> list[Score]:
        """Judge all samples of a problem."""
        return self._judged(problem, [attempt.text for attempt in attempts], model)

    def _judged(self, problem: Problem, texts: Sequence[str], model: AskedModel) -> list[Score]:
        if "answer" in self._template().places and problem.answer is None:
            why = "the template shows the gold answer, and the problem has none"
            return [Score(status="error", why=why)] * len(texts)
        if self.mode == "pairwise":
            return self._compared(problem, texts, model)
        # Equal texts are asked about once.
        asked = list(dict.fromkeys(texts))
        told = self._told(model, [self._question(problem, response=text) for text in asked])
        said = dict(zip(asked, told, strict=True))
        return [self._rated(said[text]) for text in texts]

    def _rated(self, told: _Told) -> Score:
        read = [vote for vote in told.votes if vote is not None]
        if told.error:
            return Score(status="error", why=told.error)
        if not read:
            return Score(status="abstain", why=f"none of {len(told.votes)} replies could be read")
        votes = ", ".join(f"{vote:g}" for vote in read)
        why = f"{len(read)} of {len(told.votes)} replies read: {votes}"
        return thresholded(sum(read) / len(read), self.threshold, why=why)

    def _compared(self, problem: Problem, texts: Sequence[str], model: AskedModel) -> list[Score]:
        if len(texts) < 2:
            return [Score(status="abstain", why="there is no other sample to compare with")] * len(texts)
        # Equal texts are a tie, and each two that differ are compared once.
        meetings = pairs(len(texts), self.opponents)
        asked = list(dict.fromkeys((texts[i], texts[j]) for i, j in meetings if texts[i] != texts[j]))
        orders = list(dict.fromkeys(order for one, other in asked for order in ((one, other), (other, one))))
        told = self._told(model, [self._question(problem, first=one, second=other) for one, other in orders])
        said = dict(zip(orders, told, strict=True))
        results: list[list[float | None]] = [[] for _ in texts]
        errors = [""] * len(texts)
        for i, j in meetings:
            there, back = (said.get(order, _Told((0.5,))) for order in ((texts[i], texts[j]), (texts[j], texts[i])))
            second = majority(back.votes)
            won = agreed(majority(there.votes), None if second is None else 1 - second)
            results[i].append(won)
            results[j].append(None if won is None else 1 - won)
            errors[i] = errors[j] = there.error or back.error or errors[i] or errors[j]
        return [self._share(won, error) for won, error in zip(results, errors, strict=True)]

    def _share(self, results: Sequence[float | None], error: str) -> Score:
        read = [won for won in results if won is not None]
        if not read:
            why = f"none of {len(results)} comparisons could be read"
            return Score(status="error", why=error) if error else Score(status="abstain", why=why)
        counts = f"{read.count(1.0)} wins, {read.count(0.5)} ties, {read.count(0.0)} losses"
        unread = f", {len(results) - len(read)} not read" if len(read) < len(results) else ""
        return thresholded(sum(read) / len(read), self.threshold, why=counts + unread)

    def _told(self, model: AskedModel, questions: Sequence[list[Message]]) -> list[_Told]:
        def ask(part: Sequence[list[Message]]) -> list[list[str]]:
            return model.sample(part, n=self.votes, temperature=self.temperature, max_tokens=self.max_tokens)

        found = each_or_error(ask, questions)
        return [
            _Told(error=each.why) if isinstance(each, Score) else _Told(tuple(map(self._read, each))) for each in found
        ]

    def _read(self, reply: str) -> float | None:
        if self.mode == "pointwise":
            return replies.number(reply, *self.scale)
        if self.mode == "pairwise":
            return replies.better(reply)
        said = replies.yes(reply)
        return None if said is None else float(said)

    def _question(self, problem: Problem, **responses: str) -> list[Message]:
        low, high = (f"{end:g}" for end in self.scale)
        return self._template().filled(
            {"prompt": problem.text, "answer": problem.answer or "", "low": low, "high": high, **responses}
        )

    def _template(self) -> Template:
        needs = ("first", "second") if self.mode == "pairwise" else ("response",)
        return template(self.template or self.mode, _PROMPTS, needs)
