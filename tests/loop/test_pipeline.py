"""Tasks in threads: each once, in its shard's order, and an error lets what is open end."""

import signal
import threading
import time
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.loop.pipeline import OPEN, Task, run_pipeline

STAGES = ("generate", "verify", "select")


def tasks(shards: int, done: set[tuple[int, int]] = frozenset()) -> list[Task]:  # type: ignore[assignment]
    return [
        Task(stage, shard, rank, (rank, shard) in done) for rank, stage in enumerate(STAGES) for shard in range(shards)
    ]


@settings(max_examples=40, deadline=None)
@given(shards=st.integers(0, 8), done=st.sets(st.tuples(st.integers(0, 2), st.integers(0, 7))), order=st.randoms())
def test_every_task_runs_once_in_its_shards_order(shards: int, done: set[tuple[int, int]], order: object) -> None:
    given_tasks = tasks(shards, done)
    order.shuffle(given_tasks)  # type: ignore[attr-defined]
    ran: dict[int, list[int]] = defaultdict(list)
    guard = threading.Lock()

    def work(task: Task) -> None:
        with guard:
            ran[task.shard].append(task.rank)

    run_pipeline(given_tasks, work, lambda: None)
    for shard in range(shards):
        assert ran[shard] == [rank for rank in range(3) if (rank, shard) not in done]


def test_a_shard_streams_on_while_others_are_at_the_first_stage() -> None:
    finished: list[Task] = []
    guard = threading.Lock()

    def work(task: Task) -> None:
        time.sleep(0.002)
        with guard:
            finished.append(task)

    run_pipeline(tasks(20), work, lambda: None)
    through = next(i for i, task in enumerate(finished) if task.rank == 2)
    begun_last = max(i for i, task in enumerate(finished) if task.rank == 0)
    assert through < begun_last


def test_no_more_are_open_than_allowed() -> None:
    running, most = 0, 0
    guard = threading.Lock()

    def work(task: Task) -> None:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        time.sleep(0.003)
        with guard:
            running -= 1

    run_pipeline(tasks(12), work, lambda: None)
    assert 1 < most <= OPEN


def test_an_error_is_raised_when_the_open_tasks_have_ended_and_nothing_new_begins() -> None:
    begun, ended = [], []
    guard = threading.Lock()

    def work(task: Task) -> None:
        with guard:
            begun.append(task)
        if task.shard == 0:
            raise RuntimeError("shard 0 broke")
        time.sleep(0.05)
        with guard:
            ended.append(task)

    with pytest.raises(RuntimeError, match="shard 0 broke"):
        run_pipeline(tasks(20), work, lambda: None)
    assert len(begun) == len(ended) + 1
    assert len(begun) <= 2 * OPEN


def test_ctrl_c_interrupts_what_is_open() -> None:
    interrupted = threading.Event()

    def work(task: Task) -> None:
        if task.shard == 0:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        interrupted.wait(20)

    began = time.monotonic()
    # A job in the background of a shell without job control is started with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(tasks(4), work, interrupted.set)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 15
