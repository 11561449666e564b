import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftrain.backends.pool import VerifierPool
from selftrain.errors import EngineError, PluginError
from selftrain.records import Problem, Sample, Verdict

Item = tuple[Problem, Sample]

MEAN = """
import ctypes, os, re, time
from selftrain.records import Case, Score

time_limit = 1.0

def verify(*, problem, response):
    what = response.split()[0]
    if what == "sleep":
        time.sleep(60)
    if what == "regex":
        re.match(r"(a+)+$", "a" * 40 + "b")
    if what == "exit":
        os._exit(3)
    if what == "quit":
        raise SystemExit(0)
    if what == "segfault":
        ctypes.string_at(0)
    if what == "raise":
        raise ValueError("no such luck")
    if what == "memory":
        return bool(bytearray(6 << 30))
    if what == "none":
        return None
    if what == "nan":
        return float("nan")
    if what == "score":
        return 0.25
    if what == "abstain":
        return Score(status="abstain", why="can't say")
    return what == "right"
"""


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[VerifierPool]:
    with VerifierPool(workers=2, log=tmp_path / "verifiers.log") as pool:
        yield pool


@pytest.fixture
def mean(tmp_path: Path) -> str:
    path = tmp_path / "mean.py"
    path.write_text(MEAN)
    return str(path)


def items_of(responses: Sequence[str], *, answer: str | None = None, verifier: str = "exact") -> list[Item]:
    problem = Problem.of("?", answer=answer, verifier=verifier)
    return [(problem, sample_of(problem, text, index)) for index, text in enumerate(responses)]


def sample_of(problem: Problem, text: str, index: int) -> Sample:
    return Sample(
        id=f"{problem.id}-{index}",
        problem=problem.id,
        index=index,
        text=text,
        prompt_ids=(1, 2),
        completion_ids=(3,),
        tokenizer="t",
        finish="stop",
        model="m",
    )


def by_response(items: Sequence[Item], verdicts: Iterator[Verdict]) -> dict[str, Verdict]:
    found = list(verdicts)
    assert len(found) == len(items) == len({verdict.sample for verdict in found})
    texts = {sample.id: sample.text for _, sample in items}
    return {texts[verdict.sample]: verdict for verdict in found}


def alive(pids: Sequence[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def children() -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout
    return [int(pid) for pid in found.split() if Path(f"/proc/{pid}").exists()]


def test_every_status_comes_back_and_a_bad_item_costs_only_itself(pool: VerifierPool, mean: str) -> None:
    bad = ["sleep", "regex", "exit", "quit", "segfault", "raise", "memory", "none", "nan", "score", "abstain"]
    items = items_of([f"right {n}" for n in range(40)] + bad + [f"wrong {n}" for n in range(40)])
    verdicts = by_response(items, pool.verify(mean, items))
    good = {verdicts[text].status for text in verdicts if text.startswith("right")}
    wrong = {verdicts[text].status for text in verdicts if text.startswith("wrong")}
    assert (good, wrong) == ({"pass"}, {"fail"})
    assert {text: verdicts[text].status for text in bad} == {
        "sleep": "timeout",
        "regex": "timeout",
        "exit": "error",
        "quit": "error",
        "segfault": "error",
        "raise": "error",
        "memory": "error",
        "none": "error",
        "nan": "error",
        "score": "scored",
        "abstain": "abstain",
    }
    assert {verdict.by for verdict in verdicts.values()} == {mean}
    assert "limit of 1 s" in verdicts["sleep"].why
    assert "exit status 3" in verdicts["exit"].why
    assert "SIGSEGV" in verdicts["segfault"].why
    assert verdicts["raise"].why == "ValueError: no such luck (mean.py line 20)"
    assert verdicts["memory"].why.startswith("MemoryError")
    assert "must return a bool, a float or a Score; it returned None" in verdicts["none"].why
    assert verdicts["score"].score == 0.25


def test_many_hangs_are_timeouts_and_leave_no_process(tmp_path: Path, mean: str) -> None:
    before = set(children())
    items = items_of([f"{'sleep' if n % 20 == 7 else 'right'} {n}" for n in range(400)])
    with VerifierPool(workers=4, log=tmp_path / "log", time_limit=0.2) as pool:
        counts = Counter(verdict.status for verdict in pool.verify(mean, items))
    assert counts == {"pass": 380, "timeout": 20}
    assert set(children()) <= before


@pytest.mark.slow
def test_two_thousand_items_of_which_five_percent_hang(tmp_path: Path, mean: str) -> None:
    before = set(children())
    items = items_of([f"{'regex' if n % 20 == 7 else 'right'} {n}" for n in range(2000)])
    with VerifierPool(workers=2, log=tmp_path / "log", time_limit=0.3) as pool:
        counts = Counter(verdict.status for verdict in pool.verify(mean, items))
    assert counts == {"pass": 1900, "timeout": 100}
    assert set(children()) <= before


def test_each_problem_is_judged_by_its_own_verifier(pool: VerifierPool) -> None:
    number = '{"name": "number", "tolerance": 0.5}'
    items = items_of(["It is 7.2"], answer="7", verifier=number) + items_of(["seven"], answer="Seven", verifier="exact")
    assert {(v.by, v.status) for v in pool.verify("", items)} == {(number, "pass"), ("exact", "pass")}


def test_a_group_verifier_gets_all_attempts_of_a_problem(pool: VerifierPool, tmp_path: Path) -> None:
    (tmp_path / "vote.py").write_text(
        "from collections import Counter\n"
        "def verify_group(*, problem, attempts):\n"
        "    counts = Counter(attempt.text for attempt in attempts)\n"
        "    return [counts[attempt.text] / len(attempts) for attempt in attempts]\n"
    )
    problems = [Problem.of(f"{n}?") for n in range(30)]
    items = [(problem, sample_of(problem, "a" if n < 3 else "b", n)) for n in range(4) for problem in problems]
    verdicts = {v.sample: v for v in pool.verify(str(tmp_path / "vote.py"), items)}
    assert {(s.text, verdicts[s.id].score) for _, s in items} == {("a", 0.75), ("b", 0.25)}


def test_a_group_verifier_that_forgets_one_is_an_error_for_the_group(pool: VerifierPool, tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("def verify_group(*, problem, attempts):\n    return [True]\n")
    verdicts = list(pool.verify(str(tmp_path / "short.py"), items_of(["a", "b"])))
    assert [v.status for v in verdicts] == ["error", "error"]
    assert "one Score for each of 2 samples, not 1" in verdicts[0].why


def test_calls_from_several_threads_share_the_workers(pool: VerifierPool) -> None:
    items = [items_of([f"#### {k}", "0"] * 50, answer=str(k)) for k in range(1, 7)]
    results: dict[int, Counter[str]] = {}

    def judge(k: int) -> None:
        results[k] = Counter(
            v.status for v in pool.verify("number", items[k]) if v.sample.startswith(items[k][0][0].id)
        )

    threads = [threading.Thread(target=judge, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {k: Counter({"pass": 50, "fail": 50}) for k in range(6)}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nonsense_module", "does not load: ModuleNotFoundError"),
        ("x = 1", "must define"),
        ("import os; os._exit(4)", "process ended while loading it: exit status 4"),
        ("def verify(*, problem, response, gpu): return True", "has a parameter 'gpu'"),
    ],
)
def test_a_verifier_that_cannot_be_had_is_the_users_error(
    pool: VerifierPool, tmp_path: Path, source: str, message: str
) -> None:
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(PluginError, match=message):
        list(pool.verify(str(tmp_path / "bad.py"), items_of(["a"])))
    assert [v.status for v in pool.verify("exact", items_of(["a"], answer="a"))] == ["pass"]


def test_a_verifier_that_hangs_while_loading_is_given_up(
    pool: VerifierPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr("selftrain.backends.pool.LOAD_LIMIT", 2.0)
    with pytest.raises(PluginError, match=r"slow.py' was not loaded after 2 s"):
        list(pool.verify(str(tmp_path / "slow.py"), items_of(["a"])))
    monkeypatch.undo()
    assert [v.status for v in pool.verify("exact", items_of(["a"], answer="a"))] == ["pass"]


def test_a_worker_that_died_between_two_calls_is_replaced(pool: VerifierPool) -> None:
    for _ in range(2):
        assert [v.status for v in pool.verify("exact", items_of(["a"], answer="a"))] == ["pass"]
        for child in list(pool._children):
            child.process.kill()
            child.process.wait()


def test_a_caller_that_leaves_early_does_not_hold_up_the_next(pool: VerifierPool, mean: str) -> None:
    verdicts = pool.verify(mean, items_of(["right"] + ["sleep"] * 200))
    assert next(verdicts).status == "pass"
    started = time.monotonic()
    verdicts.close()  # type: ignore[attr-defined]
    assert [v.status for v in pool.verify("exact", items_of(["a"], answer="a"))] == ["pass"]
    assert time.monotonic() - started < 15


def test_closing_ends_workers_at_once_and_tells_who_waits(tmp_path: Path, mean: str) -> None:
    pool = VerifierPool(workers=2, log=tmp_path / "log", time_limit=60)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            list(pool.verify(mean, items_of(["sleep"] * 10)))
        except EngineError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(1.5)
    started = time.monotonic()
    pool.close()
    thread.join(10)
    assert "closed" in str(raised[0])
    assert time.monotonic() - started < 5
    with pytest.raises(EngineError, match="closed"):
        list(pool.verify("exact", items_of(["a"])))


def test_workers_die_with_their_owner(tmp_path: Path, mean: str) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from test_pool import items_of\n"
        "from selftrain.backends.pool import VerifierPool\n"
        "pool = VerifierPool(workers=2, time_limit=60)\n"
        "next(pool.verify(sys.argv[1], items_of(['right', 'sleep'])))\n"
        "print([child.pid for child in pool._children], flush=True)\n"
        "list(pool.verify(sys.argv[1], items_of(['sleep'])))\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, mean, "", str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pids = json.loads(owner.stdout.readline())
    assert alive(pids) == pids != []
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 5
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive(pids) == []


def test_a_verifier_of_an_installed_package_judges_in_a_worker(tmp_path: Path) -> None:
    folder = tmp_path / "acme_selftrain" / "verifiers"
    folder.mkdir(parents=True)
    (tmp_path / "acme_selftrain" / "__init__.py").write_text("")
    (folder / "loud.py").write_text("def verify(*, problem, response): return response.isupper()\n")
    metadata = tmp_path / "acme_selftrain-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-selftrain\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[selftrain.plugins]\nacme = acme_selftrain\n")
    (tmp_path / "in.jsonl").write_text('{"id": "a", "response": "YES"}\n{"id": "b", "response": "no"}\n')
    program = (
        "import sys; from pathlib import Path; from selftrain.verification.verify_file import verify_file\n"
        "verify_file('acme/loud', Path(sys.argv[1]), sys.stdout, workers=1)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "in.jsonl")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    verdicts = [json.loads(line) for line in out.splitlines()]
    assert [(v["id"], v["by"], v["status"]) for v in verdicts] == [
        ("a", "acme/loud", "pass"),
        ("b", "acme/loud", "fail"),
    ]


def test_equal_responses_to_a_problem_are_judged_once(pool: VerifierPool, tmp_path: Path) -> None:
    counting = tmp_path / "counting.py"
    log = tmp_path / "calls"
    counting.write_text(
        f"def verify(*, problem, response):\n    open({str(log)!r}, 'a').write(problem.text + response + ' ')\n"
        "    return response == problem.answer\n"
    )
    items = []
    for text in ("p", "q"):
        problem = Problem.of(text, answer=text)
        items += [(problem, sample_of(problem, "pq"[index % 2], index)) for index in range(100)]
    verdicts = {verdict.sample: verdict.status for verdict in pool.verify(str(counting), items)}
    assert sorted(log.read_text().split()) == ["pp", "pq", "qp", "qq"]
    assert verdicts == {s.id: "pass" if s.text == problem.answer else "fail" for problem, s in items}


ASKING = """
import time
time_limit = 0.5

def verify(*, problem, response, model):
    if response == "too long":
        model.sample([response])
    if response == "other":
        model.weights
    time.sleep(60 if response == "sleep" else 0)
    return model.sample([response], n=2) == [[response, response]]
"""


class Echo:
    """A model that takes longer to answer than its verifier may, and repeats what it is asked."""

    folder = Path("echo")

    def __init__(self, lost: bool = False) -> None:
        self.lost = lost

    def sample(self, prompts: Any, *, n: int = 1, temperature: float = 0.0, max_tokens: int = 256) -> list[list[str]]:
        if self.lost:
            raise EngineError("the engine is lost")
        if prompts == ["too long"]:
            raise ValueError("longer than the context")
        time.sleep(0.7)
        return [[prompt] * n for prompt in prompts]

    def score(self, pairs: Any) -> list[tuple[float, ...]]:
        raise NotImplementedError


def test_a_model_answers_verifiers_and_its_time_is_not_theirs(pool: VerifierPool, tmp_path: Path) -> None:
    asking = tmp_path / "asking.py"
    asking.write_text(ASKING)
    items = items_of(["fine", "too long", "other", "sleep"])
    verdicts = by_response(items, pool.verify(str(asking), items, model=Echo()))
    assert {text: verdict.status for text, verdict in verdicts.items()} == {
        "fine": "pass",
        "too long": "error",
        "other": "error",
        "sleep": "timeout",
    }
    assert "longer than the context" in verdicts["too long"].why
    assert "a model has no weights" in verdicts["other"].why


def test_without_a_model_and_with_a_lost_one_nothing_is_judged(pool: VerifierPool, tmp_path: Path) -> None:
    asking = tmp_path / "asking.py"
    asking.write_text(ASKING)
    items = items_of(["fine"])
    with pytest.raises(PluginError, match="asks a model, and none is named"):
        list(pool.verify(str(asking), items))
    with pytest.raises(EngineError, match="the engine is lost"):
        list(pool.verify(str(asking), items, model=Echo(lost=True)))
    assert [v.status for v in pool.verify("exact", items_of(["7"], answer="7"))] == ["pass"]


def test_problems_that_differ_by_their_meta_only_are_judged_apart(pool: VerifierPool) -> None:
    problems = [Problem.of("?", meta={"pattern": pattern}) for pattern in ("a", "b")]
    assert problems[0].id == problems[1].id
    items = [(problem, replace(sample_of(problem, "a", 0), id=f"{at}")) for at, problem in enumerate(problems)]
    said = {verdict.sample: verdict.status for verdict in pool.verify("regex", items)}
    assert said == {"0": "pass", "1": "fail"}


KILLED = """
import os, signal
from pathlib import Path

left = Path(__file__).with_suffix(".left")
count = int(left.read_text())
left.write_text(str(count - 1))
if count > 0:
    os.kill(os.getpid(), signal.SIGKILL)

def verify(*, problem, response):
    return response == problem.answer
"""


@pytest.mark.parametrize("times", [1, 99])
def test_a_new_worker_that_is_killed_while_it_loads_a_verifier_is_replaced_once(
    pool: VerifierPool, tmp_path: Path, times: int
) -> None:
    path = tmp_path / "killed.py"
    path.write_text(KILLED)
    path.with_suffix(".left").write_text(str(times))
    if times == 1:
        assert [v.status for v in pool.verify(str(path), items_of(["a"], answer="a"))] == ["pass"]
    else:
        # Not the user's mistake: what is killed for want of memory goes on with more of it.
        with pytest.raises(
            EngineError, match=r"killed by SIGKILL, and so did the one before.*the same command goes on"
        ):
            list(pool.verify(str(path), items_of(["a"], answer="a")))
    assert [child for child in pool._children if child.returncode is not None] == []
    assert [v.status for v in pool.verify("exact", items_of(["a"], answer="a"))] == ["pass"]
