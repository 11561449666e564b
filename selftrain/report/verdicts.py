"""What the verifiers said, how often they could not say, and what a hidden audit makes of them."""

from collections.abc import Iterator

from selftrain.report import figures
from selftrain.report.parts import Figure, Grid, Section, Table, Text, count, interval, percent
from selftrain.report.view import View
from selftrain.statistics import Estimate
from selftrain.verification.rates import share

STATUSES = ("pass", "fail", "scored", "abstain", "error", "timeout")


def section(view: View) -> Section:
    """Verdicts by verifier and round, the first errors, and the audit."""
    parts: list[Text | Table | Grid] = [_table(view)]
    if broken := _broken(view):
        parts.append(broken)
    parts += _audit(view)
    return Section(id="verifiers", title="Verifiers", parts=parts)


def _table(view: View) -> Table:
    counts = ", ".join(f"count(*) FILTER (status = '{each}')" for each in STATUSES)
    found = view.database.rows(
        f'SELECT round, stage, "by", hidden, count(*), {counts}, sum(seconds) FROM verdicts GROUP BY ALL ORDER BY 1, 2'
    )
    used = [at for at in range(len(STATUSES)) if any(row[5 + at] for row in found)]
    head = ("round", "stage", "verifier", "verdicts", *(STATUSES[at] for at in used), "seconds")
    rows = [
        (
            row[0],
            f"{row[1]}{' (hidden)' if row[3] else ''}",
            row[2],
            count(row[4]),
            *(count(row[5 + at]) for at in used),
            f"{row[-1] or 0:.1f}",
        )
        for row in found
    ]
    return Table(
        head=head,
        rows=rows,
        caption="Verdicts. Error, timeout and abstain are neither right nor wrong and never count as fails",
    )


def _broken(view: View) -> Table | None:
    found = view.database.rows(
        "SELECT \"by\", status, count(*), any_value(why) FROM verdicts WHERE status IN ('error', 'timeout')"
        " GROUP BY 1, 2 ORDER BY 3 DESC"
    )
    if not found:
        return None
    return Table(head=("verifier", "status", "count", "for example"), rows=found, caption="What could not be judged")


def _audit(view: View) -> Iterator[Text | Grid]:
    """What the recipe's verifiers passed, beside the problems' own verifier where it ran hidden."""
    pairs = view.database.rows(
        """
        SELECT v.round, v."by", s.problem,
               count(*) FILTER (v.status = 'pass' AND a.status = 'pass') AS both,
               count(*) FILTER (v.status = 'pass') AS passed,
               count(*) FILTER (a.status = 'pass') AS rightly
        FROM verdicts v JOIN verdicts a ON a.sample = v.sample AND a.round = v.round AND a.hidden
        JOIN samples s ON s.id = v.sample AND s.round = v.round
        WHERE NOT v.hidden AND v.status IN ('pass', 'fail') AND a.status IN ('pass', 'fail')
        GROUP BY ALL ORDER BY 1, 2, 3
        """
    )
    if not pairs:
        hidden = view.database.one("SELECT count(*) FROM verdicts WHERE hidden")
        yield Text(
            text="The hidden audit has judged samples, but the recipe's own verifiers pass or fail none of them"
            " (they score, vote, or abstain), so precision and recall can't be told."
            if hidden
            else "No hidden audit: the recipe itself judges by each problem's own verifier, with its gold answer, so"
            " there is nothing to compare it with."
        )
        return
    rows, table = [], []
    for number, by in sorted({(row[0], row[1]) for row in pairs}):
        here = [row for row in pairs if row[:2] == (number, by)]
        for name, estimate in (
            ("precision", share([(row[3], row[4]) for row in here])),
            ("recall", share([(row[3], row[5]) for row in here])),
        ):
            rows.append({"round": number, "series": f"{name}: {by}", **_scaled(estimate)})
            table.append((number, by, name, percent(estimate.value), interval(estimate.low, estimate.high), estimate.n))
    figure = Figure(
        id="audit",
        title="Recipe's verifier beside the hidden audit",
        says="Precision: of what it passed, the share that is right. Recall: of what is right, the share it passed."
        " The audit is each problem's own verifier; no stage can read it. 95 % intervals over problems.",
        spec=figures.by_round([row for row in rows if row["value"] is not None], y="Share (%)", series="Figure"),
        table=Table(head=("round", "verifier", "figure", "value", "95 % interval", "samples"), rows=table),
    )
    yield Grid(figures=[figure])


def _scaled(found: Estimate) -> dict[str, float | None]:
    values = {"value": found.value, "low": found.low, "high": found.high}
    return {name: None if value != value else 100 * value for name, value in values.items()}
