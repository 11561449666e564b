"""The response is a Python program that prints the right output for each of the problem's inputs, in the sandbox.

`tests` is JSON: a list of {"input": ..., "output": ...}, or {"inputs": [...], "outputs": [...]}. Outputs are compared
outside the sandbox, word by word: how much white space lies between the words, and at the end, doesn't matter. With a
`tolerance`, words that are numbers may differ by it. The score is the share of the inputs with the right output; only
all of them pass. A program over its time limit, or one that ends with an exception, has that input wrong.
"""

import json
from dataclasses import dataclass

from selftrain.lab import Ran, Sandbox
from selftrain.records import Case, Problem, Score
from selftrain.verification.programs import code_in

_SUMS = '[{"input": "1 2\\n", "output": "3\\n"}, {"input": "5 5\\n", "output": "10"}]'

cases = (
    Case(tests=_SUMS, response="a, b = map(int, input().split())\nprint(a + b)", expect="pass"),
    Case(tests='{"inputs": ["x"], "outputs": ["x x"]}', response="s = input()\nprint(s)\nprint(s, ' ')", expect="pass"),
    Case(tests=_SUMS, response="print(3)", expect="fail"),
    Case(tests=_SUMS, response="raise SystemExit(0)", expect="fail"),
    Case(tests=_SUMS, response="a, b = map(int, input().split())\nprint(a + b)\n1 / 0", expect="fail"),
    Case(tests="[]", response="print(3)", expect="error"),
    Case(tests='{"inputs": ["1"], "outputs": []}', response="print(3)", expect="error"),
    Case(response="print(3)", expect="error"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Runs the response on each input."""

    seconds: float = 2.0
    """What a program may take for one input."""
    total: float = 60.0
    """What all inputs may take together; those left over count as wrong."""
    tolerance: float = 0.0
    """Largest difference of two numbers, absolute or as a share of the expected one, that still passes."""

    @property
    def time_limit(self) -> float:
        """Room for the last input, and for a sandbox that has to be started."""
        return self.total + self.seconds + 60.0

    def verify(self, *, problem: Problem, response: str, sandbox: Sandbox) -> Score:
        """Score the share of inputs with the right output; pass if it is all."""
        try:
            pairs = _pairs(problem.tests)
        except (ValueError, TypeError, KeyError) as error:
            return Score(status="error", why=f"the problem's tests are no inputs with outputs: {error}")
        program = code_in(response)
        right, first, spent = 0, "", 0.0
        for number, (given, expected) in enumerate(pairs, start=1):
            if spent > self.total:
                first = first or f"over {self.total:g} s in all"
                break
            ran = sandbox.run(program, stdin=given, seconds=self.seconds)
            if ran.ended == "lost":
                return Score(status="error", why=f"test {number}: {ran.why}")
            wrong = self._wrong(ran, expected)
            right += not wrong
            first = first or (wrong and f"test {number}: {wrong}")
            spent += ran.seconds
        share = right / len(pairs)
        return Score(status="pass" if right == len(pairs) else "fail", score=share, why=first)

    def _wrong(self, ran: Ran, expected: str) -> str:
        """Say what is wrong with a run, or ''."""
        if ran.ended != "exited":
            return ran.why
        if ran.code != 0:
            return f"exit status {ran.code}: {ran.stderr.strip().rpartition(chr(10))[2][:300]}"
        printed, wanted = ran.stdout.split(), expected.split()
        if len(printed) != len(wanted):
            return f"{len(printed)} words printed, {len(wanted)} expected"
        for number, (one, other) in enumerate(zip(printed, wanted, strict=True), start=1):
            if one != other and not self._near(one, other):
                return f"word {number} is {one[:100]!r}, not {other[:100]!r}"
        return ""

    def _near(self, printed: str, wanted: str) -> bool:
        if not self.tolerance:
            return False
        try:
            expected = float(wanted)
            return abs(float(printed) - expected) <= self.tolerance * max(1.0, abs(expected))
        except ValueError:
            return False


def _pairs(tests: str | None) -> list[tuple[str, str]]:
    """Read the tests; raises what tells that they are none."""
    said = json.loads(tests or "null")
    if isinstance(said, dict):
        pairs = list(zip(said["inputs"], said["outputs"], strict=True))
    elif isinstance(said, list):
        pairs = [(each["input"], each["output"]) for each in said]
    else:
        raise ValueError("JSON of a list, or of inputs and outputs, is needed")
    if not pairs:
        raise ValueError("there are none")
    return [(_text(given), _text(expected)) for given, expected in pairs]


def _text(lines: object) -> str:
    """Some data sets give a list of lines."""
    if isinstance(lines, list):
        return "\n".join(map(str, lines))
    if not isinstance(lines, str):
        raise TypeError(f"{lines!r} is no text")
    return lines
