"""Balance score: how many different right rows a problem gives, and how few others.

B-STaR (arXiv:2412.17256, section 4): the mean over problems of min(u / n, 1) * u / s, where s rows were selected, u of
them are right and different, and n are wanted. It falls when sampling explores too little, or selection lets wrong or
equal responses through.
"""

from collections.abc import Iterator

from selftrain.monitors import Reading, below, missing, reading
from selftrain.observed import Observed

HALVED = 0.5
"""Of the first round's score: at half of it twice the samples would be needed for as many good rows."""
_SCORE = """
    WITH chosen AS (
        SELECT t.round, t.problem, count(DISTINCT t.id) AS selected,
            count(DISTINCT t.text) FILTER (c.correct OR t.finish = 'gold') AS good
        FROM trained AS t LEFT JOIN truth AS c ON c.sample = t.sample
        WHERE t.kind <> 'rejected' AND t.split = 'train' AND (c.correct IS NOT NULL OR t.finish = 'gold')
        GROUP BY t.round, t.problem),
    wanted AS (SELECT max(selected) AS n FROM chosen WHERE round = (SELECT min(round) FROM chosen))
    SELECT round, problem, least(good / n, 1.0) * good / selected AS part, 1 AS whole FROM chosen, wanted"""


def readings(seen: Observed) -> Iterator[Reading]:
    """Measure the score of what was trained on, n being the most rows of a problem in the first round."""
    found = seen.shares(_SCORE)
    if not found:
        yield missing(seen, "no row comes from a sample that was judged by its problem's own verifier")
        return
    first = next(iter(found.values()))
    band = (HALVED * first.low, None)
    for number, each in found.items():
        alarm = None
        if below(each, band):
            alarm = (
                f"balance score {each.value:.2f}, {first.value:.2f} at first: fewer different right rows a problem;"
                " raise the temperature, select only what is right and distinct, or find both each round (b_star)"
            )
        yield reading("balance score", number, each, "0 to 1", band=band, alarm=alarm)
