"""Intervals against SciPy's own tests and plain loops; words that claim no more than these."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cpcdr.evaluate.matching import match, scores
from cpcdr.evaluate.statistics import estimate, holm, miou_interval, paired, verdict
from cpcdr.runtime.errors import InputError


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


def test_p_values_agree_with_the_interval_and_holm_with_its_definition() -> None:
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.05, 0.2):
        first = dict(enumerate(rng.normal(shift, 0.1, 6)))
        found = paired(first, dict.fromkeys(range(6), 0.0))
        assert (found["p"] < 0.05) == (found["low"] > 0 or found["high"] < 0)
        assert found["p"] == pytest.approx(stats.ttest_1samp(list(first.values()), 0).pvalue)
    assert paired({0: 1.0}, {0: 0.5})["p"] is None
    assert paired({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0})["p"] == 1.0
    values = rng.random(7).tolist()
    ordered = np.sort(values)
    expected = np.minimum(np.maximum.accumulate(ordered * np.arange(7, 0, -1)), 1)
    assert sorted(holm(values)) == pytest.approx(expected.tolist())
    assert holm([]) == []


def test_a_verdict_never_claims_what_its_test_does_not() -> None:
    clear = {"mean": 0.02, "low": 0.01, "high": 0.03, "n": 6}
    assert "excludes zero after correction for 4" in verdict(clear, 0.02, 4)
    assert "excludes zero alone, not after correction" in verdict(clear, 0.08, 4)
    unclear = clear | {"low": -0.01}
    for p in (0.06, 0.5, 1.0):
        assert "does not exclude zero" in verdict(unclear, p, 4)
    assert verdict(clear, 0.02, 4, factor=1).startswith("+0.020 [+0.010, +0.030], n = 6")
    assert "too few seeds" in verdict({"mean": 0.1, "low": None, "high": None, "n": 1}, None, 0)
    assert verdict({"mean": None, "low": None, "high": None, "n": 0}, None, 0).startswith("no pair")


def tables(frames=30, spread=0.1, clusters=5, classes=4):
    random = np.random.default_rng(0)
    confusions = []
    for _ in range(frames):
        right = np.clip(0.7 + spread * random.normal(), 0.05, 0.95)
        chance = np.full((clusters, classes), (1 - right) / clusters)
        chance[np.arange(classes), np.arange(classes)] += right
        confusions.append(np.round(1000 * chance))
    return np.array(confusions).astype(np.int64)


def test_the_interval_holds_the_score_and_grows_with_the_spread():
    widths = []
    for spread in (0.02, 0.15):
        confusions = tables(spread=spread)
        whole = match(confusions.sum(0))
        interval = miou_interval(confusions, whole, seed=1)
        assert interval["low"] < scores(whole.fold(confusions.sum(0))).miou < interval["high"]
        assert interval == miou_interval(confusions, whole, seed=1)
        widths.append(interval["high"] - interval["low"])
    assert widths[0] < widths[1] / 3


def test_agrees_with_a_plain_loop_over_resampled_sets():
    confusions = tables(frames=12)
    whole = match(confusions.sum(0))
    random = np.random.default_rng(5)
    mious = [
        scores(whole.fold(confusions[random.integers(0, 12, 12)].sum(0))).miou for _ in range(2000)
    ]
    interval = miou_interval(confusions, whole, samples=2000, level=0.9)
    np.testing.assert_allclose(
        (interval["low"], interval["high"]), np.quantile(mious, [0.05, 0.95]), atol=0.01
    )


def test_frames_without_labels_change_only_the_resampling():
    confusions = np.concatenate([tables(frames=2), np.zeros((3, 5, 4), np.int64)])
    interval = miou_interval(confusions, match(confusions.sum(0)))
    assert 0 < interval["low"] <= interval["high"] <= 1
    with pytest.raises(InputError, match="label maps"):
        miou_interval(np.zeros((3, 5, 4), np.int64), match(np.zeros((5, 4), np.int64)))
