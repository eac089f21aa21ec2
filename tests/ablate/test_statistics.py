"""Intervals against SciPy's own tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cpcdr.ablate.statistics import estimate, paired


@pytest.mark.parametrize("n", [2, 3, 12])
def test_the_interval_is_that_of_the_t_test(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 0.1, n)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = estimate(values)
    assert (found["mean"], found["n"]) == (pytest.approx(values.mean()), n)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))


def test_paired_differences_use_common_seeds_alone() -> None:
    rng = np.random.default_rng(0)
    first = {seed: float(rng.normal()) for seed in range(6)}
    second = {seed: float(rng.normal()) for seed in range(2, 9)}
    common = range(2, 6)
    a, b = ([values[seed] for seed in common] for values in (first, second))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    found = paired(first, second)
    assert found["n"] == 4
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    # A common offset of each seed cancels.
    offset = {seed: 100.0 * seed for seed in range(9)}
    moved = paired(
        {seed: v + offset[seed] for seed, v in first.items()},
        {seed: v + offset[seed] for seed, v in second.items()},
    )
    assert moved["mean"] == pytest.approx(found["mean"])
    assert moved["high"] == pytest.approx(found["high"])


def test_what_was_not_measured_is_left_out() -> None:
    assert estimate([math.nan, 2.0, 4.0])["n"] == 2
    one = estimate([2.0])
    assert one["mean"] == 2.0 and one["low"] is None
    assert estimate([]) == {"mean": None, "low": None, "high": None, "n": 0}
