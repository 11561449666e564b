"""Run (stage, shard) tasks so that a shard goes through its stages while the next ones are under way."""

import heapq
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

OPEN = 4
"""Tasks at once, at least: two shards being sampled keep the engine busy while others are judged and built."""


class Task(NamedTuple):
    """A stage's work on one shard; it waits for the same shard of the stage before it."""

    stage: str
    shard: int
    rank: int
    """The stage's place in the pipeline; later ones go first, so that shards get finished and memory stays small."""
    done: bool


def run_pipeline(
    tasks: Sequence[Task], work: Callable[[Task], None], interrupt: Callable[[], None], *, at_once: int = OPEN
) -> None:
    """Run tasks in threads; an error lets the open ones end, then is raised; Ctrl-C calls `interrupt` first."""
    by_shard: dict[int, list[Task]] = defaultdict(list)
    for task in sorted(tasks, key=lambda each: each.rank):
        if not task.done:
            by_shard[task.shard].append(task)
    waiting = [(-queue[0].rank, shard) for shard, queue in by_shard.items()]
    heapq.heapify(waiting)
    running: dict[Future[None], int] = {}
    failed = threading.Event()
    with ThreadPoolExecutor(at_once, thread_name_prefix="shard") as threads:
        try:
            while (waiting and not failed.is_set()) or running:
                while waiting and len(running) < at_once and not failed.is_set():
                    _, shard = heapq.heappop(waiting)
                    running[threads.submit(work, by_shard[shard].pop(0))] = shard
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                errors = []
                for future in finished:
                    shard = running.pop(future)
                    if error := future.exception():
                        errors.append(error)
                        failed.set()
                    elif by_shard[shard]:
                        heapq.heappush(waiting, (-by_shard[shard][0].rank, shard))
                if errors:
                    wait(running)
                    raise errors[0]
        except KeyboardInterrupt:
            interrupt()
            raise
