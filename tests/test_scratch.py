"""The scratch database of a run."""

import os
import signal
import threading
from pathlib import Path

import pytest

from selftrain.scratch import Scratch
from selftrain.store import Store

LONG = "SELECT sum(a.range * b.range) FROM range(1000000) AS a, range(1000000) AS b"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_a_query_is_an_interrupt_and_no_mistake_of_ours(number: signal.Signals, tmp_path: Path) -> None:
    before = signal.signal(number, signal.default_int_handler)
    scratch = Scratch(Store(tmp_path))
    # With several, DuckDB may look at signals only when the query ends.
    scratch.run("SET threads = 1")
    late = threading.Timer(0.5, os.kill, (os.getpid(), number))
    late.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            scratch.run(LONG)
    finally:
        late.join()
        signal.signal(number, before)
    scratch.close()


def test_other_mistakes_of_a_query_are_as_duckdb_tells_them(tmp_path: Path) -> None:
    scratch = Scratch(Store(tmp_path))
    with pytest.raises(Exception, match="nowhere"):
        scratch.run("SELECT * FROM nowhere")
    scratch.close()
