"""The response's answer gets full marks from the scorer of its reasoning-gym task.

The answer is what the response marks (`#### ...`, `\\boxed{...}`, `<answer>...</answer>`), what stands after its last
"answer is" or "answer:", or its last line. The scorers give part of the marks to wrong answers, so only 1.0 passes;
some of them evaluate the answer, so they run in the sandbox, and an answer that could be more than a formula or a
literal fails before it gets there. The problem's metadata must be that of `gym:TASK`.
"""

import json
import re
from dataclasses import dataclass

from selftrain.lab import Sandbox
from selftrain.records import Case, Problem, Score
from selftrain.verification.answers import marked

_SUM = {"source_dataset": "chain_sum", "gym": {"task": "chain_sum", "settings": {}}}
_COUNTDOWN = {
    "numbers": [4, 6, 2],
    "target": 26,
    "expression": "4*6 + 2",
    "gym": {"task": "countdown", "settings": {}},
}

cases = (
    Case(answer="18", meta=_SUM, response="9 + 9 = 18\n#### 18", expect="pass"),
    Case(answer="4*6 + 2", meta=_COUNTDOWN, response="<answer>2 + 6*4</answer>", expect="pass"),
    Case(answer="18", meta=_SUM, response="#### 19", expect="fail"),
    Case(answer="4*6 + 2", meta=_COUNTDOWN, response="The answer is 4*6 + 3", expect="fail"),
    Case(answer="4*6 + 2", meta=_COUNTDOWN, response="#### (lambda: 26)()", expect="fail"),
    Case(answer="4*6 + 2", meta=_COUNTDOWN, response="#### exec(\"print({'score': 1.0})\") + 4*6 + 2", expect="fail"),
    Case(answer="18", meta=_SUM, response="", expect="fail"),
    Case(answer="18", response="18", expect="error"),
)

_SCORE = """
import inspect, json, os, re, sys
import reasoning_gym
from reasoning_gym.factory import DATASETS
from selftrain.backends.sandbox_wire import unpack
said = json.load(sys.stdin)
name = said["task"]
if name not in DATASETS:
    sys.exit(f"reasoning-gym has no task {name!r}")
source = inspect.getsource(sys.modules[DATASETS[name][0].__module__])
if not said["plain"] and re.search(r"\\b(eval|exec|parse_expr|sympify|S)\\(", source):
    print(json.dumps({"score": 0.0, "why": "it is neither a formula nor a literal"}))
    sys.exit()
scored = reasoning_gym.create_dataset(name, seed=0, size=1, **said["settings"])
metadata = unpack(said["packed"]) if said["packed"] is not None else said["metadata"]
entry = {"question": said["question"], "answer": said["gold"], "metadata": metadata}
score = float(scored.score_answer(said["answer"], entry))
print()
print(json.dumps({"score": score, "why": ""}))
"""
_FUNCTIONS = (
    "sin cos tan cot sec csc asin acos atan acot asec acsc sinh cosh tanh asinh acosh atanh exp log ln sqrt cbrt Abs "
    "abs erf erfi Rational Integer Float factorial gamma Si Ci Ei li"
)
_CALL = re.compile(rf"(?:(?<![\w.])(?:{'|'.join(_FUNCTIONS.split())})|(?:^|[-+*/^%=<>,(\[{{~¬∧∨→↔⊕&|!:]))\s*\(")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_SAID = re.compile(r"\banswer(?:\s+is)?\s*[:=]?[ \t]*(.+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Asks the task's own scorer."""

    seconds: float = 10.0
    """What the scorer may take."""

    @property
    def time_limit(self) -> float:
        """Room for the first response of a worker, when reasoning-gym is imported."""
        return self.seconds + 120.0

    def verify(self, *, problem: Problem, response: str, sandbox: Sandbox) -> Score:
        """Pass at 1.0."""
        answer = _answer(response)
        task = problem.meta.get("gym")
        if not isinstance(task, dict) or "task" not in task:
            return Score(status="error", why="the problem is none of gym:TASK: its meta has no 'gym'", answer=answer)
        if answer is None:
            return Score(status="fail", why="there is no answer in the response")
        said = {
            "task": task["task"],
            "settings": task.get("settings", {}),
            "packed": task.get("packed"),
            "metadata": {key: value for key, value in problem.meta.items() if key != "gym"},
            "question": problem.text,
            "gold": problem.answer,
            "answer": answer,
            "plain": _plain(answer),
        }
        ran = sandbox.run(_SCORE, stdin=json.dumps(said), seconds=self.seconds, preload=("reasoning_gym",))
        if ran.ended in ("time", "memory"):
            return Score(status="fail", why=f"the answer can't be scored: {ran.why}", answer=answer)
        if ran.ended != "exited" or ran.code != 0:
            return Score(
                status="error", why=f"the scorer failed: {ran.why or ran.stderr.strip()[-500:]}", answer=answer
            )
        scored = json.loads(ran.stdout.strip().rpartition("\n")[2])
        why = scored["why"] or f"the scorer of {task['task']} gives {scored['score']:g}"
        return Score(status="pass" if scored["score"] == 1.0 else "fail", score=scored["score"], why=why, answer=answer)


def _answer(response: str) -> str | None:
    """Return what the response gives as its answer."""
    if tagged := _TAGGED.findall(response):
        return str(tagged[-1]).strip() or None
    if (mark := marked(response)) is not None:
        return mark
    if said := _SAID.findall(response):
        return str(said[-1]).strip()
    lines = [line for line in response.splitlines() if line.strip()]
    return lines[-1].strip() if lines else None


def _plain(answer: str) -> bool:
    """Whether evaluating a text can do no more than arithmetic: no attributes, and calls of known functions only."""
    if "__" in answer or re.search(r"\.\s*[A-Za-z_]", answer) or "lambda" in answer:
        return False
    return len(_CALL.findall(answer)) == answer.count("(")
