"""What a monitor sees of a run: the stored tables as columns, read by DuckDB; finished stages alone.

Queries name these tables, which are loaded when they are first named. Stored: `stages` (round, place, stage, class,
model), `problems`, `samples`, `verdicts`, `picks`, `rows`, `metrics`, `outcomes`, `checkpoints`, each with round, place
and stage. Made of them:

    asked     every problem: kind, split, origin (the given problem it comes from), own verifier, answered, text
    read      sample -> the answer that a verifier read in it
    truth     sample -> correct, by its problem's own verifier, the hidden audit's verdicts among them
    attempts  what the policy said to the given problems: of each split the stage that sampled most, by round
    trained   rows (example, chosen, rejected) with the sample that each comes from, and its problem
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selftrain import statistics, tables
from selftrain.records import Checkpoint, Metric, Outcome, Pick, Problem, Row, Sample, Verdict
from selftrain.scratch import Scratch
from selftrain.statistics import Estimate
from selftrain.store import StageFolder, Store

Columns = dict[str, npt.NDArray[Any]]

SHOWN = 2_000
"""Samples of a stage and round, about, whose tokens and texts are looked at one by one: which ones depends on ids."""


class Stored(NamedTuple):
    """A stored table: its record type, and what is read of it."""

    kind: type[Any]
    columns: str
    split: bool = False
    """Whether it has a column `split`."""


_NORMAL = "nfc_normalize(lower(trim(regexp_replace({text}, '\\s+', ' ', 'g'))))"
STORED: Mapping[str, Stored] = {
    "problems": Stored(
        Problem,
        "id, kind, parent, split, verifier, answer IS NOT NULL OR tests IS NOT NULL AS answered, "
        + f"hash({_NORMAL.format(text='array_to_string([m.content for m in prompt], chr(10))')}) AS text",
        split=True,
    ),
    "samples": Stored(
        Sample,
        f"id, problem, finish, model, template, parents, logprob, len(completion_ids) AS tokens, "
        f"hash({_NORMAL.format(text='text')}) AS text, "
        "CASE WHEN hash(id) % {every} = 0 THEN completion_ids END AS ids, "
        "CASE WHEN hash(id) % {every} = 0 THEN text END AS words",
    ),
    "verdicts": Stored(
        Verdict, 'sample, "by", status, score, answer, list_min(step_scores) AS least, step_scores AS steps'
    ),
    "picks": Stored(Pick, "sample, problem, side, rule, weight"),
    "rows": Stored(Row, 'id, kind, weight, "group", sources'),
    "metrics": Stored(Metric, "name, value, low, high, n, split, step", split=True),
    "outcomes": Stored(Outcome, "problem, split, name, value", split=True),
    "checkpoints": Stored(Checkpoint, "id, role, parent"),
}

DERIVED: Mapping[str, str] = {
    "asked": """
        SELECT p.id, p.kind, p.split, p.text, p.parent IS NULL AS given, coalesce(p.parent, p.id) AS origin,
            CASE WHEN p.verifier = '' THEN o.verifier ELSE p.verifier END AS own,
            p.answered OR (p.verifier = '' AND coalesce(o.answered, false)) AS answered
        FROM (SELECT DISTINCT ON (id) * FROM problems ORDER BY id, round, place, split) AS p
        LEFT JOIN (SELECT DISTINCT ON (id) * FROM problems WHERE parent IS NULL ORDER BY id, round, place, split) AS o
            ON o.id = p.parent""",
    "read": "SELECT sample, min(answer) AS answer FROM verdicts WHERE answer IS NOT NULL GROUP BY sample",
    "truth": """
        SELECT v.sample, bool_or(v.status = 'pass') AS correct
        FROM verdicts AS v JOIN samples AS s ON s.id = v.sample JOIN asked AS a ON a.id = s.problem
        WHERE v."by" = a.own AND v.status IN ('pass', 'fail') GROUP BY v.sample""",
    "attempts": """
        WITH given AS (
            SELECT s.*, a.split, coalesce(g.model, 'policy') = 'policy' AS mine
            FROM samples AS s JOIN asked AS a ON a.id = s.problem
            LEFT JOIN stages AS g ON g.round = s.round AND g.place = s.place
            WHERE a.given AND s.finish <> 'gold' AND s.template <> 'hint' AND s.tokens > 0 AND len(s.parents) = 0),
        main AS (
            SELECT split, stage FROM given GROUP BY split, stage
            QUALIFY row_number() OVER (
                PARTITION BY split ORDER BY bool_and(mine) DESC, count(*) DESC, min(place), stage) = 1)
        SELECT given.round, given.split, given.problem, given.id, given.model, given.tokens, given.text, given.ids,
            given.words, given.finish = 'length' AS cut, truth.correct, read.answer
        FROM given JOIN main ON main.split = given.split AND main.stage = given.stage
        LEFT JOIN truth ON truth.sample = given.id LEFT JOIN read ON read.sample = given.id""",
    "trained": """
        SELECT r.round, r.stage, r.id, r.kind, r.weight, s.id AS sample, s.round AS made, s.model, s.finish, s.tokens,
            s.text, a.origin AS problem, a.split
        FROM (SELECT * EXCLUDE (sources), unnest(sources) AS source FROM rows) AS r
        JOIN samples AS s ON s.id = r.source JOIN asked AS a ON a.id = s.problem""",
}


class Observed:
    """A run's tables, for queries.

    `before` is a round and a place in it: what a Gate that stands there may see, and then no test split.
    """

    def __init__(self, store: Store, *, before: tuple[int, int] | None = None) -> None:
        self.store = store
        self._before = before
        self._known: set[str] = set()
        self._scratch = Scratch(store)

    @cached_property
    def folders(self) -> list[tuple[int, int, StageFolder]]:
        """Round, place and folder of each finished stage."""
        found = [
            (number, int(folder.path.name[:2]), folder)
            for number in self.store.rounds()
            for folder in self.store.stages(number).values()
            if folder.done()
        ]
        return [each for each in found if self._before is None or each[:2] < self._before]

    @property
    def last(self) -> int:
        """The last round of which anything is there."""
        return max((number for number, *_ in self.folders), default=0)

    @cached_property
    def held_out(self) -> str:
        """The split that monitors look at: valid; without one test, which a Gate never sees."""
        return "valid" if len(self.query("SELECT 1 FROM problems WHERE split = 'valid' LIMIT 1")["1"]) else "test"

    def query(self, text: str, *parameters: object) -> Columns:
        """Return the columns that a query gives, as arrays."""
        self._need(text)
        found: Columns = self._scratch.run(text, list(parameters)).fetchnumpy()
        return found

    def shares(self, text: str, *parameters: object) -> dict[int, Estimate]:
        """Return, by round, the sum of `part` over that of `whole`, from a query for round, problem, part and whole.

        Intervals are over problems.
        """
        return {
            number: statistics.of_sums([each["part"], each["whole"]], statistics.quotient)
            for number, each in self._by_round(text, parameters).items()
        }

    def changes(self, text: str, *parameters: object) -> dict[int, Estimate]:
        """Return, by round after the first, the mean change of part / whole since the first one, paired by problem."""
        rounds = self._by_round(text, parameters)
        if not rounds:
            return {}
        (_, first), *later = rounds.items()
        found = {}
        for number, each in later:
            _, one, other = np.intersect1d(first["problem"], each["problem"], return_indices=True)
            before, after = first["part"][one] / first["whole"][one], each["part"][other] / each["whole"][other]
            found[number] = statistics.of_sums([after - before, np.ones(len(one))], statistics.quotient)
        return found

    def _by_round(self, text: str, parameters: Sequence[object]) -> dict[int, Columns]:
        # In the order of ids, so that intervals do not depend on the order of shards.
        text = f"SELECT * FROM ({text}) WHERE whole > 0 ORDER BY round, problem"
        found = {
            name: np.asarray(values, dtype=None if name == "problem" else np.float64)
            for name, values in self.query(text, *parameters).items()
        }
        return {
            int(number): {name: values[found["round"] == number] for name, values in found.items()}
            for number in np.unique(found["round"])
        }

    def _need(self, text: str) -> None:
        for word in dict.fromkeys(re.findall(r"\b[a-z]+\b", text)):
            if word in self._known:
                continue
            if word in STORED:
                self._known.add(word)
                self._load(word, STORED[word])
            elif word in DERIVED:
                self._known.add(word)
                self._need(DERIVED[word])
                self._scratch.run(f"CREATE TABLE {word} AS {DERIVED[word]}")
            elif word == "stages":
                self._known.add(word)
                self._load_stages()

    def _load(self, name: str, stored: Stored) -> None:
        self._scratch.connection.register("nothing", tables.to_table(stored.kind, []))
        columns = stored.columns.replace("{every}", "1")
        self._scratch.run(f"CREATE TABLE {name} AS SELECT 0 AS round, 0 AS place, '' AS stage, {columns} FROM nothing")
        hidden = " WHERE split <> 'test'" if stored.split and self._before is not None else ""
        for number, place, folder in self.folders:
            files = [str(path) for path in folder.files(stored.kind)]
            if not files:
                continue
            columns = stored.columns
            if "{every}" in columns:
                ((count,),) = self._scratch.run("SELECT count(*) FROM read_parquet(?)", [files]).fetchall()
                columns = columns.replace("{every}", str(max(1, count // SHOWN)))
            self._scratch.run(
                f"INSERT INTO {name} SELECT ?, ?, ?, {columns} FROM read_parquet(?){hidden}",
                [number, place, folder.name, files],
            )

    def _load_stages(self) -> None:
        self._scratch.run(
            "CREATE TABLE stages (round INTEGER, place INTEGER, stage VARCHAR, class VARCHAR, model VARCHAR)"
        )
        for number, place, folder in self.folders:
            key = folder.settings()
            model = key.get("settings", {}).get("model") or None
            self._scratch.run(
                "INSERT INTO stages VALUES (?, ?, ?, ?, ?)", [number, place, folder.name, key.get("stage"), model]
            )
