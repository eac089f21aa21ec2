"""Alarms: each kind of garbage sets off its own, and good depth sets off none."""

from __future__ import annotations

import numpy as np
import pytest

from cpcdr.depth.health import depth_health, look_at, training_alarms
from cpcdr.runtime.errors import FrameError

SLOPE = np.linspace(0.01, 0.3, 64, dtype=np.float32)[:, None] * np.ones((1, 128), np.float32)


def street(seed: int) -> np.ndarray:
    """A road with a box standing on it somewhere."""
    disparity = SLOPE.copy()
    left = int(np.random.default_rng(seed).integers(0, 90))
    disparity[20:50, left : left + 35] = 0.25
    return disparity


def test_good_depth_is_quiet() -> None:
    assert depth_health([street(i) for i in range(8)]).alarms() == []


def test_holes_in_the_lower_image() -> None:
    maps = [street(i) for i in range(8)]
    for disparity in maps:
        disparity[36:60, 20:70] = 0.005
    (alarm,) = depth_health(maps).alarms()
    assert "infinitely far" in alarm
    skies = [street(i) for i in range(8)]
    for disparity in skies:
        disparity[:20] = 0.005
    assert depth_health(skies).alarms() == [], "the sky may be far"


def test_a_network_that_ignores_its_images() -> None:
    (alarm,) = depth_health([SLOPE * (1 + 0.001 * i) for i in range(8)]).alarms()
    assert "ignores its images" in alarm
    assert depth_health([SLOPE, SLOPE]).alarms() == [], "two frames may be alike"


def test_frames_without_depth() -> None:
    class Fails:
        name = "fails:"

        def __call__(self, frames: list[object]) -> list[np.ndarray]:
            raise FrameError("disparity of x is constant.", "depth")

    health = look_at(Fails(), [None] * 4)  # type: ignore[arg-type]
    assert health.failed == 4
    (alarm,) = health.alarms()
    assert "4 of 4 frames" in alarm and alarm.endswith("constant"), "its sentence goes on"


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"photometric": 0.2, "identity": 0.1}, "doing nothing"),
        ({"photometric": 0.1, "identity": 0.2, "disparity_spread": 0.001}, "collapsed"),
    ],
)
def test_a_training_that_failed(metrics: dict[str, float], words: str) -> None:
    (alarm,) = training_alarms(metrics)
    assert words in alarm
    assert training_alarms({"photometric": 0.1, "identity": 0.2, "disparity_spread": 0.5}) == []
    assert training_alarms({}) == []
