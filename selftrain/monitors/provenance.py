"""Provenance: where the rows come from, how many generations from real data, and whether a held-out problem is in them.

Self-consuming loops (arXiv:2307.01850) and ground truth dampens self-distillation: training on unchecked own output
drifts generation by generation, unless some real data stays in it. A train problem that is a held-out problem makes
every gain worthless. Depth is 0 for a gold solution, 1 for a sample of the base model, and one more for each training
that the sampled model has been through.
"""

from collections.abc import Iterator

import numpy as np

from selftrain.monitors import FEWEST, Reading, missing, reading
from selftrain.observed import Columns, Observed
from selftrain.statistics import Estimate, of_sums, quotient

DEEP = 2
"""Generations from which unchecked rows are the output of a model that has learned its own output."""
UNCHECKED = 0.5
"""Share of rows that nobody has checked, from which they rule."""
REAL = 0.1
"""Share of gold rows that keeps such a loop near the data, in the theory's easiest case."""
_ROWS = """
    WITH judged AS (SELECT DISTINCT sample FROM verdicts WHERE status IN ('pass', 'scored')
        AND NOT starts_with(stage, 'audit')),
    born AS (SELECT id, min(round) AS born FROM checkpoints GROUP BY id)
    SELECT t.round, t.problem, count(*) AS rows, count_if(t.finish = 'gold') AS gold,
        count_if(t.finish <> 'gold' AND j.sample IS NULL) AS unchecked,
        sum(CASE WHEN t.finish = 'gold' THEN 0 ELSE 1 + coalesce(b.born, 0) END) AS depth,
        count(*) - count(DISTINCT t.text) AS twice
    FROM (SELECT DISTINCT round, problem, sample, model, finish, text FROM trained WHERE split = 'train'
        AND kind <> 'rejected') AS t
    LEFT JOIN judged AS j ON j.sample = t.sample LEFT JOIN born AS b ON b.id = t.model
    GROUP BY t.round, t.problem ORDER BY t.round, t.problem"""
_OVERLAP = """
    SELECT count(DISTINCT t.id) AS hits, min(t.id) AS example FROM problems AS t
    JOIN (SELECT DISTINCT text FROM problems WHERE split <> 'train' AND parent IS NULL) AS h ON h.text = t.text
    WHERE t.split = 'train'"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure gold, unchecked and repeated rows, their depth, and train problems that are held-out ones."""
    yield _overlap(seen)
    found = seen.query(_ROWS)
    if not len(found["round"]):
        yield missing(seen, "no rows are stored")
    for number in np.unique(found["round"]):
        mine = found["round"] == number
        yield from _rows({name: values[mine] for name, values in found.items()}, int(number))


def _overlap(seen: Observed) -> Reading:
    found = seen.query(_OVERLAP)
    hits = int(found["hits"][0])
    alarm = None
    if hits:
        alarm = (
            f"{hits} train problems are held-out problems, word for word ({found['example'][0]} is one): no held-out"
            " figure means anything; take them out of the data and run again"
        )
    every = seen.query("SELECT count(DISTINCT id) AS n FROM problems WHERE split = 'train'")
    each = Estimate(float(hits), np.nan, np.nan, int(every["n"][0]))
    return reading("train problems that are held out", seen.last, each, "problems", band=(0.0, 0.0), alarm=alarm)


def _rows(found: Columns, number: int) -> Iterator[Reading]:
    rows = {name: np.asarray(found[name], dtype=float) for name in found if name != "problem"}
    gold, unchecked, depth, twice = (
        of_sums([rows[name], rows["rows"]], quotient) for name in ("gold", "unchecked", "depth", "twice")
    )
    alarm = None
    if min(unchecked.n, gold.n) >= FEWEST and unchecked.low > UNCHECKED and gold.high < REAL and depth.low >= DEEP:
        alarm = (
            f"{100 * unchecked.value:.0f} % of the rows are unchecked output of a model that has learned its own output"
            f" (generation {depth.value:.1f}), {100 * gold.value:.0f} % are gold: select by a verifier, or mix in gold"
        )
    yield reading("unchecked rows", number, unchecked, "share of rows", band=(None, UNCHECKED), alarm=alarm)
    yield reading("gold rows", number, gold, "share of rows")
    yield reading("generations from real data", number, depth, "generations")
    yield reading("rows with the text of another row of their problem", number, twice, "share of rows")
