"""A DuckDB database whose tables may go to disk: its memory grows with the run, not with the machine."""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.records import Sample
from selftrain.round import PROBLEMS
from selftrain.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LEAST = 600_000_000
"""Bytes that a database may hold in memory, however small the run."""
EACH = 600
"""Bytes for each sample of a run: enough for the joins of all samples with what was said of them."""


class Scratch:
    """A database for one reader of a run, in a temporary folder that goes with it."""

    def __init__(self, store: Store) -> None:
        import duckdb

        folder = tempfile.mkdtemp(prefix="selftrain-")
        self._gone = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.connection = duckdb.connect(
            str(Path(folder) / "scratch.duckdb"),
            config={
                "memory_limit": f"{max(LEAST, EACH * samples(store)) // 1_000_000}MB",
                "temp_directory": folder,
                # More threads take more memory at a time, and gain little on tables of this size.
                "threads": 2,
                "preserve_insertion_order": False,
            },
        )

    def run(self, query: str, values: Sequence[object] = ()) -> "DuckDBPyConnection":
        """Run a query to its end and return its result.

        Raises what DuckDB raises, and KeyboardInterrupt where Ctrl-C ended the query.
        """
        try:
            return self.connection.execute(query, values)
        except RuntimeError as error:
            # So DuckDB calls it when a signal's handler raised: what it raised is lost.
            if str(error) == "Query interrupted":
                raise KeyboardInterrupt from error
            raise

    def close(self) -> None:
        """Let go of memory and disk at once."""
        self.connection.close()
        self._gone()


def samples(store: Store) -> int:
    """Return how many samples a run has stored."""
    return sum(
        folder.count(Sample)
        for number in store.rounds()
        for name, folder in store.stages(number).items()
        if name != PROBLEMS
    )
