"""Depth errors against values computed by hand."""

import math

import numpy as np
import pytest

from cpcdr.depth.metrics import depth_errors, mean_errors
from cpcdr.runtime.errors import InputError


def test_hand_computed_values():
    truth = np.array([[1.0, 2.0, 4.0, 0.0]])
    predicted = np.array([[1.0, 3.0, 3.0, 9.0]])
    errors = depth_errors(predicted, truth, median_scaling=False)
    assert errors["abs_rel"] == pytest.approx((0 + 1 / 2 + 1 / 4) / 3)
    assert errors["sq_rel"] == pytest.approx((0 + 1 / 2 + 1 / 4) / 3)
    assert errors["rmse"] == pytest.approx(math.sqrt(2 / 3))
    logs = [math.log(1.5), math.log(0.75)]
    assert errors["rmse_log"] == pytest.approx(math.sqrt(sum(x * x for x in logs) / 3))
    # Ratios 1, 1.5, 1.333 against 1.25, 1.5625, 1.953.
    assert (errors["d1"], errors["d2"], errors["d3"]) == (pytest.approx(1 / 3), 1, 1)


def test_median_scaling_and_caps():
    truth = np.array([[2.0, 4.0, 6.0, 100.0, np.inf, np.nan]])
    errors = depth_errors(truth / 7, truth)
    assert errors["scale"] == pytest.approx(7) and errors["abs_rel"] == pytest.approx(0)
    assert errors["d1"] == 1
    far = depth_errors(np.array([[1000.0, 2.0]]), np.array([[50.0, 2.0]]), median_scaling=False)
    assert far["rmse"] == pytest.approx(30 / math.sqrt(2))  # clipped to 80


def test_the_scale_is_that_of_the_medians_not_of_the_means():
    truth = np.array([[1.0, 2.0, 3.0, 4.0, 60.0]])
    predicted = np.array([[0.5, 1.0, 1.5, 2.0, 2.0]])
    errors = depth_errors(predicted, truth)
    assert errors["scale"] == 2.0
    assert errors["abs_rel"] == pytest.approx((56 / 60) / 5), "four of five pixels are exact"


def test_mean_over_frames():
    truth = np.array([[2.0, 4.0]])
    twice = depth_errors(truth * 2, truth, median_scaling=False)
    exact = depth_errors(truth, truth, median_scaling=False)
    assert mean_errors([twice, exact])["abs_rel"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("predicted", "truth"),
    [
        (np.ones((2, 2)), np.ones((2, 3))),
        (np.ones((2, 2)), np.zeros((2, 2))),
        (np.zeros((2, 2)), np.ones((2, 2))),
        (np.full((2, 2), np.nan), np.ones((2, 2))),
    ],
)
def test_bad_input(predicted, truth):
    with pytest.raises(InputError):
        depth_errors(predicted, truth)
    with pytest.raises(InputError):
        mean_errors([])
