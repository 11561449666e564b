"""The response is an SQL query whose result on the problem's database is the gold query's, in the sandbox (SQLite).

`tests` is JSON: {"schema": a script that makes and fills the tables, "ordered": whether the order of rows counts}.
`answer` is the gold query, or its rows as a JSON list of lists. Queries can only read, one statement each; column names
don't matter, the columns' order does, and numbers are equal within 1e-6.
"""

import json
from collections import Counter
from dataclasses import dataclass

from selftrain.lab import Ran, Sandbox
from selftrain.records import Case, JsonValue, Problem, Score
from selftrain.verification.programs import SQL, code_in

_TESTS = json.dumps({"schema": "CREATE TABLE t (a INT, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (2, 'y');"})
_ORDERED = json.dumps({**json.loads(_TESTS), "ordered": True})

cases = (
    Case(tests=_TESTS, answer="SELECT b FROM t WHERE a > 1", response="SELECT b FROM t WHERE a = 2;", expect="pass"),
    Case(tests=_TESTS, answer="[[2], [1], [2]]", response="```sql\nSELECT a FROM t\n```", expect="pass"),
    Case(tests=_TESTS, answer="SELECT sum(a) FROM t", response="SELECT 5.0", expect="pass"),
    Case(tests=_TESTS, answer="SELECT b FROM t WHERE a = 2", response="SELECT DISTINCT b FROM t", expect="fail"),
    Case(tests=_ORDERED, answer="[[1], [2], [2]]", response="SELECT a FROM t ORDER BY a DESC", expect="fail"),
    Case(tests=_TESTS, answer="SELECT a FROM t", response="DELETE FROM t", expect="fail"),
    Case(tests=_TESTS, answer="SELECT a FROM t", response="I would look at table t.", expect="fail"),
    Case(tests=_TESTS, answer="SELECT nothing FROM t", response="SELECT a FROM t", expect="error"),
    Case(tests=_TESTS, response="SELECT a FROM t", expect="error"),
)

_QUERY = """
import json, sqlite3, sys
said = json.load(sys.stdin)
database = sqlite3.connect(":memory:")
database.executescript(said["schema"])
database.commit()
database.execute("PRAGMA query_only = ON")
may = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in may else sqlite3.SQLITE_DENY)
try:
    rows = database.execute(said["query"]).fetchall()
except (sqlite3.Error, sqlite3.Warning) as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({"rows": rows}, default=lambda value: {"bytes": value.hex()}))
"""
Row = tuple[object, ...]


class _Wrong(Exception):
    """A query gave no rows, by its own fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Runs both queries and compares their rows."""

    seconds: float = 5.0

    @property
    def time_limit(self) -> float:
        """Room for both queries, and for a sandbox that has to be started."""
        return 2 * self.seconds + 60.0

    def verify(self, *, problem: Problem, response: str, sandbox: Sandbox) -> Score:
        """Pass if the rows are the gold ones."""
        if not problem.answer:
            return Score(status="error", why="the problem has no gold query and no rows")
        try:
            tests = json.loads(problem.tests or "null")
            schema, ordered = str(tests["schema"]), bool(tests.get("ordered", False))
            if problem.answer.lstrip().startswith("["):
                gold = [_plain(row) for row in json.loads(problem.answer)]
            else:
                gold = self._rows(schema, problem.answer, sandbox)
        except (ValueError, TypeError, KeyError, AttributeError, _Wrong) as error:
            return Score(status="error", why=f"the problem's schema or gold query does not work: {error}")
        try:
            found = self._rows(schema, code_in(response, languages=SQL).strip(), sandbox)
        except _Wrong as error:
            return Score(status="fail", why=str(error)[:500])
        taken = json.dumps(found if ordered else sorted(found, key=repr))[:1000]
        if (found == gold) if ordered else (Counter(found) == Counter(gold)):
            return Score(status="pass", answer=taken)
        return Score(status="fail", why=f"{len(found)} rows, not the {len(gold)} expected ones", answer=taken)

    def _rows(self, schema: str, query: str, sandbox: Sandbox) -> list[Row]:
        ran = sandbox.run(_QUERY, stdin=json.dumps({"schema": schema, "query": query}), seconds=self.seconds)
        if ran.ended == "lost":
            raise RuntimeError(ran.why)
        said = _said(ran)
        return [_plain(row) for row in said]


def _said(ran: Ran) -> list[list[JsonValue]]:
    """Return what the query's process says; raises _Wrong for an error or a limit."""
    if ran.ended != "exited" or ran.code != 0:
        raise _Wrong(ran.why or ran.stderr.strip().rpartition("\n")[2])
    said = json.loads(ran.stdout)
    if "error" in said:
        raise _Wrong(said["error"])
    rows: list[list[JsonValue]] = said["rows"]
    return rows


def _plain(row: list[JsonValue]) -> Row:
    """A row as it is compared: 5 and 5.0 are one number."""
    return tuple(
        round(float(value), 6) if isinstance(value, int | float) and not _large(value)
        else json.dumps(value) if isinstance(value, dict) else value
        for value in row
    )  # fmt: skip


def _large(value: float) -> bool:
    """An integer that a float would round."""
    return isinstance(value, int) and abs(value) > 2**53
