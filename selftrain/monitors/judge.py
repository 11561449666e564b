"""Judge bias: whether a model that judges inflates its marks, gives all the same, or sides with a place.

Meta-Rewarding (arXiv:2407.19594), Self-Taught Evaluators (arXiv:2408.02666) and SOTOPIA-pi (arXiv:2403.08715): a judge
that is trained, or trained against, gives ever better marks to the same work. Marks are those of the verifier `judge`,
or of Credit where a model is asked for verdicts; the truth is each problem's own verifier. Of pairs judged in both
orders (problems of kind judge), the share judged the same way twice says how much the place counts.
"""

from collections.abc import Iterator

from selftrain.monitors import Reading, above, missing, reading
from selftrain.observed import Observed

INFLATED = 0.1
"""Of the marks' range, by which the mean mark less the true mean may grow: a tenth of a pass."""
SATURATED = 0.95
"""Share of responses with the best mark: what one in twenty does not tell apart is no selection."""
_MARKS = """
    marks AS (
        SELECT v.round, v.sample, s.problem, avg(v.score) AS score
        FROM verdicts AS v JOIN samples AS s ON s.id = v.sample JOIN asked AS a ON a.id = s.problem
        WHERE a.split = 'train' AND a.given AND s.finish <> 'gold' AND v.score IS NOT NULL AND (
            v."by" = 'judge' OR v."by" LIKE '{{%"name": "judge"%'
            OR (v."by" = v.stage AND EXISTS (SELECT 1 FROM problems AS p WHERE p.kind = 'verdict')))
        GROUP BY v.round, v.sample, s.problem),
    span AS (SELECT least(0.0, min(score)) AS low, max(score) AS high FROM marks)"""
_INFLATION = """
    WITH {marks} SELECT m.round, m.problem, sum((m.score - low) / (high - low) - CAST(c.correct AS INTEGER)) AS part,
        count(*) AS whole
    FROM marks AS m JOIN truth AS c ON c.sample = m.sample, span WHERE high > low GROUP BY m.round, m.problem"""
_SATURATION = """
    WITH {marks} SELECT m.round, m.problem, count_if(m.score >= high) AS part, count(*) AS whole
    FROM marks AS m, span GROUP BY m.round, m.problem"""
_PLACES = """
    SELECT s.round, a.origin AS problem, count_if(c.correct) AS part, count(*) AS whole
    FROM samples AS s JOIN asked AS a ON a.id = s.problem JOIN truth AS c ON c.sample = s.id
    WHERE a.kind = 'judge' AND a.split = 'train' GROUP BY s.round, a.origin"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure mean mark less true mean, the share of best marks, and how often judgements of pairs are right."""
    marks = _MARKS.format()
    saturation = seen.shares(_SATURATION.format(marks=marks))
    pairs = seen.shares(_PLACES)
    if not saturation and not pairs:
        yield missing(seen, "no model judges responses in this recipe")
        return
    for number, each in saturation.items():
        alarm = None
        if above(each, (None, SATURATED)):
            alarm = (
                f"{100 * each.value:.0f} % of the responses have the judge's best mark: it tells nothing apart; ask for"
                " finer marks, compare pairs, or anchor it in a verifier"
            )
        yield reading("responses with the best mark", number, each, "share", band=(None, SATURATED), alarm=alarm)
    yield from _inflation(seen, marks)
    for number, each in pairs.items():
        yield reading("right judgements of pairs", number, each, "share of judgements")


def _inflation(seen: Observed, marks: str) -> Iterator[Reading]:
    found = seen.shares(_INFLATION.format(marks=marks))
    if not found:
        return
    first = next(iter(found.values()))
    band = (None, first.high + INFLATED)
    for number, each in found.items():
        alarm = None
        if above(each, band):
            alarm = (
                f"marks lie {100 * each.value:+.0f} points above the truth, {100 * first.value:+.0f} at first: the"
                " judge is gamed; freeze it (which=base), or anchor it in a verifier"
            )
        yield reading("marks less truth", number, each, "share of the range", band=band, alarm=alarm)
