"""Rates with intervals, against hand-made and brute-force answers."""

import itertools
import math
import random

import pytest

from selftrain.verification import rates


def test_a_share_is_over_rows_and_its_interval_over_problems() -> None:
    alone = rates.share([(1, 1)] * 30 + [(0, 1)] * 70)
    assert (alone.value, alone.n) == (0.3, 100)
    # The binomial's 95 % interval at 30 of 100 is about 0.21 to 0.39.
    assert alone.low == pytest.approx(0.21, abs=0.015)
    assert alone.high == pytest.approx(0.39, abs=0.015)
    # Ten equal responses to each problem are no more than one.
    alike = rates.share([(10, 10)] * 3 + [(0, 10)] * 7)
    assert (alike.value, alike.n) == (0.3, 100)
    assert alike.high - alike.low > 2.5 * (alone.high - alone.low)


def test_all_or_nothing_is_not_certain() -> None:
    none, every = rates.share([(0, 2)] * 20), rates.share([(2, 2)] * 20)
    # Clopper and Pearson: 0 of 20 is at most 16.8 %.
    assert (none.low, round(none.high, 3)) == (0.0, 0.168)
    assert (round(every.low, 3), every.high) == (0.832, 1.0)
    assert math.isnan(rates.share([]).value)
    assert math.isnan(rates.share([(0, 0)]).value)


def test_a_change_has_no_such_bound() -> None:
    found = rates.change([(-1, 2), (1, 2), (0, 2), (0, 2)])
    assert (found.value, found.n) == (0.0, 8)
    assert found.low < 0 < found.high
    still = rates.change([(0, 2), (0, 1)])
    assert (still.value, math.isnan(still.low)) == (0.0, True)


def test_kappa_is_cohens() -> None:
    # Cohen's own kind of example: 20 and 15 agreed of 50, 5 and 10 not: (0.7 - 0.5) / 0.5.
    found = rates.kappa([(1, 0, 0, 0)] * 20 + [(0, 1, 0, 0)] * 5 + [(0, 0, 1, 0)] * 10 + [(0, 0, 0, 1)] * 15)
    assert found.value == pytest.approx(0.4)
    assert found.n == 50
    assert 0.1 < found.low < 0.2
    assert 0.6 < found.high < 0.7
    same = rates.kappa([(1, 0, 0, 0), (0, 0, 0, 1)] * 5)
    assert (same.value, math.isnan(same.low)) == (1.0, True)
    assert math.isnan(rates.kappa([(3, 0, 0, 0)]).value)
    assert math.isnan(rates.kappa([]).value)


def test_auc_counts_pairs_with_ties_half() -> None:
    draw = random.Random(1)
    scores = [draw.choice([0.0, 0.5, 1.0, draw.random()]) for _ in range(60)]
    right = [draw.random() < 0.3 + 0.5 * score for score in scores]
    good = [s for s, r in zip(scores, right, strict=True) if r]
    bad = [s for s, r in zip(scores, right, strict=True) if not r]
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(good, bad)]
    found = rates.auc(scores, right, [str(n) for n in range(60)])
    assert found.value == pytest.approx(sum(pairs) / len(pairs))
    assert found.low < found.value < found.high
    # Each response four times over is no more evidence.
    again = rates.auc(scores * 4, right * 4, [str(n % 60) for n in range(240)])
    assert again.value == pytest.approx(found.value)
    assert again.high - again.low == pytest.approx(found.high - found.low, rel=0.1)


def test_auc_says_when_it_knows_nothing() -> None:
    assert math.isnan(rates.auc([], [], []).value)
    assert math.isnan(rates.auc([1.0, 2.0], [True, True], ["a", "b"]).value)
    perfect = rates.auc([1.0, 2.0, 3.0, 4.0], [False, False, True, True], list("abcd"))
    assert (perfect.value, math.isnan(perfect.low)) == (1.0, True)
