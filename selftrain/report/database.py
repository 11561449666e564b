"""A run's tables as DuckDB views, and one table with a line for each sample: read by columns, never as objects."""

import threading
from collections.abc import Sequence
from typing import Any

from selftrain import tables
from selftrain.records import Outcome, Pick, Problem, Quarantined, Row, Sample, Verdict
from selftrain.round import PROBLEMS
from selftrain.scratch import Scratch
from selftrain.store import StageFolder, Store

BINS = (
    ("never", "never, 0 %", 0.0),
    ("rarely", "rarely, up to 25 %", 0.25),
    ("sometimes", "sometimes, up to 75 %", 0.75),
    ("mostly", "mostly, under 100 %", 0.999999),
    ("always", "always, 100 %", 1.0),
)
"""Difficulty: name, how it reads, and the highest share of passing samples when the problem was first sampled."""

CHANGES = ("gained", "lost", "kept", "unsolved", "once")
"""What became of a problem between its first samples and those of the round shown; once: sampled in one round only."""

_COLUMNS: dict[type[Any], tuple[str, ...]] = {
    Problem: ("id", "prompt", "kind", "answer", "verifier", "split", "parent"),
    Sample: ("id", "problem", '"index"', "text", "finish", "model", "template", "parents"),
    Verdict: ("sample", '"by"', "status", "score", "why", "answer", "seconds"),
    Pick: ("sample", "problem", "side", "rule", '"group"', "weight"),
    Row: ("id", "kind", "weight", "sources"),
    Outcome: ("problem", "split", "name", "value"),
    Quarantined: ("problem", "why"),
}
_FURTHER = {
    Sample: ", len(completion_ids) - prefix AS tokens",
    Row: ", list_sum(list_transform(list_filter(segments, lambda s: s.train), lambda s: len(s.ids))) AS tokens",
}


_ATTEMPTS = """
WITH judged AS (
    SELECT sample, bool_or(status = 'fail') AS failed, bool_or(status = 'pass') AS passed,
           max(status) FILTER (status NOT IN ('pass', 'fail')) AS other, any_value(answer) AS answer
    FROM verdicts WHERE NOT hidden AND round = ? GROUP BY sample),
chosen AS (SELECT sample, min(side) AS side, min(rule) AS rule FROM picks WHERE round = ? GROUP BY sample)
SELECT s.round, s.stage, s.id, s.problem, coalesce(r.given, s.problem) AS given, s.tokens, s.finish, s.template,
       coalesce(g.split, 'train') AS split,
       CASE WHEN j.failed THEN 'fail' WHEN j.passed THEN 'pass' ELSE coalesce(j.other, 'unjudged') END AS status,
       coalesce(c.side, '') AS side, coalesce(c.rule, '') AS rule, hash(s.text) AS text_hash, j.answer
FROM samples s
LEFT JOIN roots r ON r.id = s.problem
LEFT JOIN given_problems g ON g.id = coalesce(r.given, s.problem)
LEFT JOIN judged j ON j.sample = s.id
LEFT JOIN chosen c ON c.sample = s.id
WHERE s.round = ?
"""
"""Lines of `attempts` of a round: a pass without a fail is a pass, one fail is a fail, else what was said last."""


class Database:
    """Views `problems`, `samples`, `verdicts`, `picks`, `rows`, `outcomes`, `quarantined`; tables `given`, `attempts`.

    Every view has `round`, `stage` and `hidden` (the audit). `given` has a line for each problem that the run was
    given, with its difficulty and what became of it; `attempts` one for each sample, with its status and what Select
    made of it. Folders and files are those that were there when it was opened.
    """

    def __init__(self, store: Store, *, shown: int) -> None:
        self.store = store
        self._scratch = Scratch(store)
        self._guard = threading.Lock()
        folders = [(number, folder) for number in store.rounds() for folder in store.stages(number).values()]
        for kind in _COLUMNS:
            self._scratch.run(f"CREATE VIEW {tables.NAMES[kind]} AS {_union(kind, folders)}")
        self._make_given()
        self._make_attempts()
        self._make_difficulty(shown)

    def close(self) -> None:
        """Let go of memory and of what was put on disk."""
        self._scratch.close()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what a query finds; for answers of few lines. Threads take turns."""
        with self._guard:
            return self._scratch.run(query, values).fetchall()

    def one(self, query: str, *values: object) -> Any:
        """Return the first value that a query finds."""
        return self.rows(query, *values)[0][0]

    def _make_given(self) -> None:
        """Each problem's given problem: itself, or that from which it was made."""
        run = self._scratch.run
        run(
            "CREATE TABLE roots AS SELECT id, any_value(coalesce(parent, id)) AS given,"
            " any_value(kind) AS kind FROM problems GROUP BY id"
        )
        while True:
            changed = run(
                "UPDATE roots SET given = up.given FROM roots AS up WHERE up.id = roots.given AND up.given != up.id"
            ).fetchall()
            if not changed or not changed[0][0]:
                break
        run(
            "CREATE TABLE given_problems AS SELECT id, split FROM problems WHERE round = 0 AND stage = ?",
            [PROBLEMS],
        )

    def _make_attempts(self) -> None:
        """One line a sample, round by round; by what was said in its own round."""
        self._scratch.run(f"CREATE TABLE attempts AS {_ATTEMPTS} LIMIT 0", [-1, -1, -1])
        for number in self.store.rounds():
            self._scratch.run(f"INSERT INTO attempts {_ATTEMPTS}", [number, number, number])

    def _make_difficulty(self, shown: int) -> None:
        """Compare each problem's first samples with its last ones up to the round shown."""
        cases = " ".join(f"WHEN rate <= {most} THEN '{name}'" for name, _, most in BINS)
        self._scratch.run(
            f"""
            CREATE TABLE given AS
            WITH by_round AS (
                SELECT given, round, avg((status = 'pass')::INT) AS rate, bool_or(status = 'pass') AS solved
                FROM attempts WHERE template NOT IN ('gold', 'hint') GROUP BY given, round),
            ends AS (
                SELECT given, min(round) AS first, arg_min(rate, round) AS rate, arg_min(solved, round) AS before,
                       max(round) FILTER (round <= {shown}) AS last,
                       arg_max(solved, round) FILTER (round <= {shown}) AS after
                FROM by_round GROUP BY given)
            SELECT p.id, p.split, e.first, e.rate, e.before, e.after, e.last,
                   CASE WHEN e.rate IS NULL THEN '' {cases} END AS bin,
                   CASE WHEN e.first IS NULL THEN '' WHEN e.last IS NULL OR e.last = e.first THEN 'once'
                        WHEN e.before AND e.after THEN 'kept' WHEN e.before THEN 'lost'
                        WHEN e.after THEN 'gained' ELSE 'unsolved' END AS change
            FROM given_problems p LEFT JOIN ends e ON e.given = p.id
            """
        )


def _union(kind: type[Any], folders: Sequence[tuple[int, StageFolder]]) -> str:
    """Return a query over all files of a record type; one that finds nothing where there are none."""
    columns = ", ".join(_COLUMNS[kind]) + _FURTHER.get(kind, "")
    parts = []
    for number, folder in folders:
        files = folder.files(kind)
        if files:
            listed = ", ".join(_quoted(str(path)) for path in files)
            parts.append(
                f"SELECT {number} AS round, {_quoted(folder.path.name[3:])} AS stage, {folder.hidden} AS hidden,"
                f" {columns} FROM read_parquet([{listed}])"
            )
    if parts:
        return " UNION ALL ".join(parts)
    return f"SELECT {_nothing(kind)} WHERE false"


def _nothing(kind: type[Any]) -> str:
    """Return the columns of a record type as typed nulls."""
    types = {"VARCHAR": "", "DOUBLE": "score seconds weight value", "BIGINT": "index tokens"}
    of = {name: type for type, names in types.items() for name in names.split()}
    names = [column.strip('"') for column in _COLUMNS[kind]]
    lists = {"parents": "VARCHAR[]", "sources": "VARCHAR[]", "prompt": "STRUCT(role VARCHAR, content VARCHAR)[]"}
    fields = [f'NULL::{lists.get(name) or of.get(name, "VARCHAR")} AS "{name}"' for name in names]
    if kind in _FURTHER:
        fields.append("NULL::BIGINT AS tokens")
    return ", ".join(["NULL::INTEGER AS round", "NULL::VARCHAR AS stage", "NULL::BOOLEAN AS hidden", *fields])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
