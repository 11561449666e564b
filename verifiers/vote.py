"""Self-consistency: a response's score is the share of the problem's samples that give the same answer.

Another verifier (`by`) reads the answers and says which are equal (`selftrain/verification/consensus.py`); the gold
answer is not looked at. The share is of all samples, this one included, so samples without an answer count against
every answer; they abstain themselves, and so do all where fewer than `least` have an answer. Without a `threshold` the
verdict is scored; with one the response passes from that share on, but where several answers are first together, the
vote doesn't decide: the responses with those answers abstain. (Wang et al. 2022, arXiv:2203.11171.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from selftrain.lab import Judge
from selftrain.records import Case, Problem, Sample, Score
from selftrain.verification.combine import Part, checked_share, named
from selftrain.verification.consensus import Answers, verdict

_HALF = {"by": "number", "threshold": 0.5}
_THIRD = {"by": "number", "threshold": 0.3}
cases = (
    Case(settings=_HALF, response="3 + 4 = 7", expect="pass"),
    Case(settings=_HALF, response="#### 7.0", expect="pass"),
    Case(settings=_HALF, response=r"\boxed{\frac{14}{2}}", expect="pass"),
    Case(settings=_HALF, response="It is 8.", expect="fail"),
    Case(settings=_HALF, response="七かな", expect="abstain"),
    Case(settings=_THIRD, response="7", expect="abstain"),
    Case(settings=_THIRD, response="7.0", expect="abstain"),
    Case(settings=_THIRD, response="8", expect="abstain"),
    Case(settings=_THIRD, response="8 " * 10_000, expect="abstain"),
    Case(settings=_THIRD, response="9", expect="fail"),
    Case(settings={"by": "number"}, response="7", expect="scored"),
    Case(settings={"by": "number"}, response="8", expect="scored"),
    Case(settings={"by": "number"}, response="", expect="abstain"),
    Case(settings={"by": "number", "least": 3}, prompt="Few?", response="7", expect="abstain"),
    Case(settings={"by": "number", "least": 3}, prompt="Few?", response="7.0", expect="abstain"),
    Case(response="Yes.", expect="scored"),
    Case(response="yes", expect="scored"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Counts votes."""

    by: Part = ""
    """The verifier that reads and compares answers; "" is the problem's own."""
    threshold: float | None = None
    """The share from which a response passes."""
    least: int = 2
    """How many samples must have an answer; one is no vote."""

    def __post_init__(self) -> None:
        checked_share("threshold", self.threshold)

    @property
    def parts(self) -> tuple[str, ...]:
        """The verifier that it uses."""
        return named([self.by])

    def verify_group(self, *, problem: Problem, attempts: Sequence[Sample], judge: Judge) -> list[Score]:
        """Score each sample by the share of samples with its answer."""
        answers = Answers(judge=judge, by=self.by, problem=problem, attempts=attempts)
        everyone = range(len(attempts))
        said = {score.answer for score in answers.read if score.answer is not None}
        votes = {answer: answers.alike(answer, everyone) for answer in said}
        given = sum(score.answer is not None for score in answers.read)
        return [self._verdict(score, votes, given, answers) for score in answers.read]

    def _verdict(self, read: Score, votes: dict[str, int], given: int, answers: Answers) -> Score:
        answer, n = read.answer, len(answers.attempts)
        if answer is None:
            return read
        if given < self.least:
            return Score(status="abstain", why=f"{given} of {n} samples have an answer", answer=answer)
        most = max(votes.values())
        first = [each for each, count in votes.items() if count == most]
        tied = not all(answers.equal(first[0], each) for each in first)
        why = f"{votes[answer]} of {n} samples say {answer[:80]}"
        if self.threshold is not None and tied and votes[answer] == most:
            return Score(status="abstain", score=most / n, why=f"a tie: {why}", answer=answer)
        return verdict(votes[answer] / n, threshold=self.threshold, why=why, answer=answer)
