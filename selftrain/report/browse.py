"""Problems with their samples, verdicts and picks: found by filters, and those that a page without a server holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selftrain.errors import ConfigError
from selftrain.records import Json
from selftrain.report.database import BINS, CHANGES
from selftrain.report.view import View

TEXT = 3_000
"""Characters of a sample that a page without a server holds."""
PROMPT = 1_500
PER_ROUND = 4
"""Samples of a problem in a round that a page without a server holds."""
SAMPLES = 2_000
BYTES = 2_200_000
"""What the samples of a page without a server may take."""
PAGE = 50
"""Problems in an answer."""

FILTERS: Mapping[str, str] = {
    "round": "a.round = TRY_CAST(? AS INT)",
    "stage": "a.stage = ?",
    "split": "a.split = ?",
    "status": "a.status = ?",
    "side": "a.side = ?",
    "verifier": 'EXISTS (SELECT 1 FROM verdicts v WHERE v.sample = a.id AND v."by" = ?)',
    "bin": "g.bin = ?",
    "change": "g.change = ?",
}
"""What can be asked, and how the tables answer."""


def choices(view: View) -> dict[str, list[Any]]:
    """What each filter can be, in the order to show."""

    def found(column: str, table: str = "attempts") -> list[Any]:
        return [
            row[0] for row in view.database.rows(f'SELECT DISTINCT "{column}" FROM {table} ORDER BY 1') if row[0] != ""
        ]

    there = {row[0] for row in view.database.rows("SELECT DISTINCT bin FROM given")}
    changed = {row[0] for row in view.database.rows("SELECT DISTINCT change FROM given")}
    return {
        "round": found("round"),
        "split": found("split"),
        "stage": found("stage"),
        "status": found("status"),
        "side": found("side"),
        "verifier": found("by", "verdicts"),
        "bin": [[name, text] for name, text, _ in BINS if name in there],
        "change": [each for each in CHANGES if each in changed],
    }


@dataclass(frozen=True, slots=True)
class Found:
    """A page of problems, and how many there are in all."""

    problems: int
    samples: int
    page: Sequence[Json]


def search(view: View, asked: Mapping[str, str], *, offset: int = 0, limit: int = PAGE) -> Found:
    """Return problems that have a sample like that; raises ConfigError for a filter that is none.

    `text` is looked for in samples and prompts, whatever the case. Gained and lost problems come first.
    """
    if strange := sorted(set(asked) - {*FILTERS, "text"}):
        raise ConfigError(f"there is no filter {strange[0]!r}; there is {', '.join([*FILTERS, 'text'])}")
    given = {name: value for name, value in asked.items() if value != ""}
    wheres = [FILTERS[name] for name in given if name != "text"]
    values: list[object] = [value for name, value in given.items() if name != "text"]
    if text := given.get("text"):
        wheres.append(
            "(EXISTS (SELECT 1 FROM samples s WHERE s.id = a.id AND s.round = a.round AND contains(lower(s.text), ?))"
            " OR a.given IN (SELECT id FROM problems WHERE round = 0 AND contains(lower(prompt::VARCHAR), ?)))"
        )
        values += [text.lower()] * 2
    matching = (
        "SELECT a.given, count(*) AS n FROM attempts a LEFT JOIN given g ON g.id = a.given"
        f" WHERE {' AND '.join(wheres) or 'true'} GROUP BY 1"
    )
    problems, samples = view.database.rows(f"SELECT count(*), coalesce(sum(n), 0) FROM ({matching})", *values)[0]
    page = view.database.rows(
        f"SELECT m.given, m.n FROM ({matching}) m LEFT JOIN given g ON g.id = m.given"
        " ORDER BY coalesce(g.change IN ('gained', 'lost'), false) DESC, g.split, m.given LIMIT ? OFFSET ?",
        *values,
        limit,
        offset,
    )
    counts = dict(page)
    about = problems_of(view, list(counts))
    return Found(int(problems), int(samples), [{**each, "matching": counts[each["id"]]} for each in about])


def problems_of(view: View, ids: Sequence[str], longest: int | None = None) -> list[dict[str, Any]]:
    """Return what is to be known of given problems, in the order asked."""
    found = view.database.rows(
        """
        SELECT p.id, p.split, list_aggregate(list_transform(p.prompt, lambda m: m.content), 'string_agg', chr(10)),
               p.answer, p.verifier, g.bin, g.change, g.rate, g.first
        FROM problems p JOIN given g ON g.id = p.id
        WHERE p.round = 0 AND list_contains(?, p.id)
        """,
        list(ids),
    )
    names = ("id", "split", "prompt", "answer", "verifier", "bin", "change", "rate", "first")
    by_id = {row[0]: dict(zip(names, row, strict=True)) for row in found}
    for each in by_id.values():
        each["prompt"] = shortened(each["prompt"], longest)
        each["answer"] = shortened(each["answer"] or "", longest)
    return [by_id[id] for id in ids if id in by_id]


def samples_of(
    view: View, ids: Sequence[str], *, most: int | None = None, longest: int | None = None
) -> list[dict[str, Any]]:
    """Return all samples of given problems with what was said of them, or the first `most` of each round and stage.

    Of several, kept ones come first, then passed ones, then the rest by their order.
    """
    limit = (
        "" if most is None else f"QUALIFY row_number() OVER (PARTITION BY a.given, a.round ORDER BY {_FIRST}) <= {most}"
    )
    chosen = (
        'SELECT a.*, s."index" AS place, s.text, s.model, s.parents FROM attempts a'
        " JOIN samples s ON s.id = a.id AND s.round = a.round AND s.stage = a.stage"
        f" WHERE list_contains(?, a.given) {limit}"
    )
    found = view.database.rows(
        f"SELECT id, given, problem, round, stage, place, text, finish, tokens, status, model, parents FROM ({chosen})"
        " ORDER BY given, round, stage, place, id",
        list(ids),
    )
    names = (
        "id",
        "given",
        "problem",
        "round",
        "stage",
        "index",
        "text",
        "finish",
        "tokens",
        "status",
        "model",
        "parents",
    )
    samples: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in found]
    said = _said(view, [each["id"] for each in samples])
    for each in samples:
        each["text"] = shortened(each["text"], longest)
        each["model"] = each["model"][:12]
        each |= said.get(each["id"], {"verdicts": [], "picks": []})
    return samples


_FIRST = (
    "a.side NOT IN ('kept', 'chosen', 'rejected'), a.status NOT IN ('error', 'timeout'), a.status != 'pass',"
    ' s."index", a.id'
)


def _said(view: View, ids: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """Sample -> its verdicts, the audit's too, and its picks in every round."""
    found: dict[str, dict[str, list[Any]]] = {id: {"verdicts": [], "picks": []} for id in ids}
    for id, *verdict in view.database.rows(
        'SELECT sample, "by", status, score, why, answer, hidden FROM verdicts WHERE list_contains(?, sample)'
        " ORDER BY sample, round, stage",
        list(ids),
    ):
        verdict[3] = shortened(verdict[3] or "", 300)
        found[id]["verdicts"].append(verdict)
    for id, *pick in view.database.rows(
        "SELECT sample, round, side, rule, weight FROM picks WHERE list_contains(?, sample) ORDER BY 1, 2", list(ids)
    ):
        found[id]["picks"].append(pick)
    return found


def shortened(text: str, longest: int | None) -> str:
    """Return a text, or its beginning with a word of how much is left out."""
    if longest is None or len(text) <= longest:
        return text
    return f"{text[:longest]}\n[... {len(text) - longest:,} more characters]"
