"""What the samples are like, round by round: how varied, how long, how often cut off; and how training went."""

from collections.abc import Sequence
from typing import Any

from selftrain.report import figures
from selftrain.report.parts import Figure, Grid, Section, Table, count
from selftrain.report.view import View

MOST = 400
"""Steps of a training curve that are drawn; of more, evenly many."""


def section(view: View) -> Section:
    """Diversity, length and truncation by round, and the curves of each training."""
    found = _measured(view)
    drawn = [
        _figure(
            found,
            4,
            "diversity",
            "Distinct samples",
            "Distinct texts (%)",
            "Distinct texts among a problem's samples, mean over problems with several. Falling: the model says the"
            " same again and again.",
        ),
        _figure(
            found,
            5,
            "answers",
            "Distinct answers",
            "Distinct answers a problem",
            "Different answers that the verifier read in a problem's samples, mean over problems with several.",
        ),
        _figure(
            found,
            6,
            "length",
            "Length",
            "Sampled tokens, mean",
            "Mean tokens of a sample; the bars reach from the 10th to the 90th percentile.",
            (7, 8),
        ),
        _figure(
            found,
            9,
            "truncated",
            "Cut off at the token limit",
            "Samples cut off (%)",
            "Share that did not end by itself. It cannot be judged fairly, and teaches not to end.",
        ),
    ]
    figures_drawn = [each for each in drawn if each]
    curves = _curves(view)
    return Section(
        id="responses",
        title="Diversity, length, truncation, training",
        parts=[Grid(figures=[*figures_drawn, *curves])],
    )


def _measured(view: View) -> list[tuple[Any, ...]]:
    """Round, what was sampled, problems, samples; then the figures drawn above, in that order."""
    return view.database.rows(
        """
        WITH by_problem AS (
            SELECT round, stage, split = 'train' AS train, problem, count(*) AS n, count(DISTINCT text_hash) AS texts,
                   count(DISTINCT answer) AS answers
            FROM attempts WHERE finish != 'gold' GROUP BY ALL),
        varied AS (
            SELECT round, stage, train, 100 * avg(texts / n) FILTER (n > 1) AS distinct_share,
                   avg(answers) FILTER (n > 1 AND answers > 0) AS answers, count(*) AS problems
            FROM by_problem GROUP BY ALL),
        long AS (
            SELECT round, stage, split = 'train' AS train, count(*) AS n, avg(tokens) AS mean,
                   quantile_cont(tokens, 0.1) AS low, quantile_cont(tokens, 0.9) AS high,
                   100 * avg((finish = 'length')::INT) AS cut
            FROM attempts WHERE finish != 'gold' GROUP BY ALL)
        SELECT l.round, l.stage || CASE WHEN l.train THEN '' ELSE ' (held out)' END, v.problems, l.n,
               v.distinct_share, v.answers, l.mean, l.low, l.high, l.cut
        FROM long l JOIN varied v ON v.round = l.round AND v.stage = l.stage AND v.train = l.train
        ORDER BY l.train DESC, 2, l.round
        """
    )


def _figure(
    found: Sequence[tuple[Any, ...]],
    column: int,
    id: str,
    title: str,
    y: str,
    says: str,
    ends: tuple[int, int] | None = None,
) -> Figure | None:
    rows = [
        {
            "round": row[0],
            "series": row[1],
            "value": row[column],
            "low": row[ends[0]] if ends else None,
            "high": row[ends[1]] if ends else None,
        }
        for row in found
        if row[column] is not None
    ]
    if not rows:
        return None
    return Figure(
        id=id,
        title=title,
        says=says,
        spec=figures.by_round(rows, y=y, series="Stage"),
        table=Table(
            head=("round", "stage", "problems", "samples", y),
            rows=[(r[0], r[1], count(r[2]), count(r[3]), f"{r[column]:.1f}") for r in found if r[column] is not None],
        ),
    )


def _curves(view: View) -> list[Figure]:
    """A figure for each metric that trainings have stored by step."""
    found: dict[str, list[dict[str, Any]]] = {}
    for result in view.run.history.rounds:
        for metric in result.metrics:
            if metric.step and not metric.split:
                row = {"at": metric.step, "series": f"round {result.number}", "value": metric.value}
                found.setdefault(metric.name, []).append(row)
    return [_curve(name, rows) for name, rows in found.items()]


def _curve(name: str, rows: list[dict[str, Any]]) -> Figure:
    every = -(-len(rows) // MOST)
    last = {row["series"]: row for row in rows}
    return Figure(
        id=f"curve-{name.replace('/', '-')}",
        title=f"Training: {name}",
        says="By optimizer step, a line a round." + (f" Every {every}th step is drawn." if every > 1 else ""),
        spec=figures.curves(rows[::every], x="Optimizer step", y=_unit(name), series="Round"),
        table=Table(
            head=("round", "steps", "first", "last"),
            rows=[
                (
                    series,
                    end["at"],
                    f"{next(row['value'] for row in rows if row['series'] == series):.3f}",
                    f"{end['value']:.3f}",
                )
                for series, end in last.items()
            ],
        ),
    )


def _unit(name: str) -> str:
    return "Loss (nats a token)" if name.endswith("/loss") else name
