"""Estimates and intervals against brute force and known cases."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain import statistics
from selftrain.statistics import RESAMPLES, difference, mean, pass_at_k

OUTCOMES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40)


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_pass(n: int) -> None:
    for passed, k in itertools.product(range(n + 1), range(1, n + 1)):
        marks = [True] * passed + [False] * (n - passed)
        subsets = list(itertools.combinations(marks, k))
        share = sum(any(subset) for subset in subsets) / len(subsets)
        assert pass_at_k(n, passed, k) == pytest.approx(share)


@given(n=st.integers(1, 60), data=st.data())
def test_pass_at_k_grows_with_k_and_with_passes(n: int, data: st.DataObject) -> None:
    passed = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    here = pass_at_k(n, passed, k)
    assert 0 <= here <= 1
    assert pass_at_k(n, passed, 1) == pytest.approx(passed / n)
    if k < n:
        assert pass_at_k(n, passed, k + 1) >= here
    if passed < n:
        assert pass_at_k(n, passed + 1, k) >= here


@pytest.mark.parametrize("k", [0, -1, 5])
def test_pass_at_k_of_more_than_there_are_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"pass@{k} cannot be estimated from 4 samples"):
        pass_at_k(4, 1, k)


@settings(max_examples=40, deadline=None)
@given(OUTCOMES)
def test_an_interval_holds_its_mean_and_stays_in_range(values: list[float]) -> None:
    found = mean(values)
    assert found.n == len(values)
    assert found.value == pytest.approx(sum(values) / len(values))
    assert min(values) - 1e-9 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= max(values) + 1e-9
    assert found == mean(values)


@settings(max_examples=30, deadline=None)
@given(OUTCOMES)
def test_equal_outcomes_do_not_differ(values: list[float]) -> None:
    assert difference(values, values)[:3] == (0.0, 0.0, 0.0)


@settings(max_examples=30, deadline=None)
@given(OUTCOMES, st.randoms(use_true_random=False))
def test_a_difference_turned_round_changes_its_sign(values: list[float], stream: object) -> None:
    other = list(reversed(values))
    one, two = difference(values, other), difference(other, values)
    assert one.value == pytest.approx(-two.value)


def test_a_difference_is_paired() -> None:
    # Every problem got better by the same: no doubt at all, though the outcomes themselves vary.
    before = [0.0, 0.25, 0.5, 0.75] * 10
    gain = difference([b + 0.25 for b in before], before)
    assert (gain.value, gain.low, gain.high) == (0.25, 0.25, 0.25)
    assert mean(before).low < mean(before).high


def test_a_difference_of_unequal_problems_is_refused() -> None:
    with pytest.raises(ValueError, match="2 outcomes after, 1 before"):
        difference([1.0, 0.0], [1.0])


def test_no_problems_have_no_mean() -> None:
    found = mean([])
    assert found.n == 0
    assert math.isnan(found.value)


def test_drawing_counts_is_the_plain_bootstrap() -> None:
    """Against resampling by index: the same interval up to the noise of 10 000 draws."""
    values = np.array([1.0] * 30 + [0.0] * 70 + [0.5] * 20)
    rng = np.random.default_rng(1)
    plain = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(plain, [0.025, 0.975])
    found = mean(values.tolist())
    assert found.low == pytest.approx(low, abs=0.006)
    assert found.high == pytest.approx(high, abs=0.006)


def test_intervals_cover_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        found = mean((rng.random(150) < 0.4).astype(float).tolist(), seed=seed)
        hits += found.low <= 0.4 <= found.high
    assert 180 <= hits <= 199


def test_nested_intervals_are_wider_where_the_groups_differ() -> None:
    values = [1.0, 0.0, 0.0, 1.0] * 25
    alike, _ = statistics.nested([values] * 4)
    apart, _ = statistics.nested([[1.0] * 100, [0.0] * 100, [1.0] * 100, [0.0] * 100])
    assert alike.value == apart.value == 0.5
    assert apart.high - apart.low > 3 * (alike.high - alike.low)
    one, _ = statistics.nested([values])
    flat = statistics.mean(values)
    assert abs(one.low - flat.low) < 0.02
    assert abs(one.high - flat.high) < 0.02


def test_nested_p_values_are_small_for_a_difference_and_large_for_none() -> None:
    rng = random.Random(0)
    drawn = [[rng.gauss(0.0, 1.0) for _ in range(50)] for _ in range(5)]
    moved = [[value + 1 for value in group] for group in drawn]
    assert statistics.nested(drawn)[1] > 0.05
    assert statistics.nested(moved)[1] < 0.01
    estimate, p = statistics.nested([])
    assert estimate.n == 0
    assert p == 1.0


def test_chance_is_called_so_about_as_often_as_the_level_says() -> None:
    rng = random.Random(1)
    outside = 0
    for _ in range(60):
        groups = [[rng.gauss(0.0, 1.0) for _ in range(20)] for _ in range(5)]
        estimate, _ = statistics.nested(groups)
        outside += not estimate.low <= 0 <= estimate.high
    # Percentile intervals of few groups are somewhat too narrow; far too narrow would be a mistake.
    assert outside <= 0.15 * 60


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_never_lowers_a_value(values: list[float]) -> None:
    found = statistics.holm(values)
    assert all(new >= old for new, old in zip(found, values, strict=True))
    assert all(0 <= each <= 1 for each in found)
    order = sorted(range(len(values)), key=lambda at: values[at])
    assert [found[at] for at in order] == sorted(found)


def test_holm_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
