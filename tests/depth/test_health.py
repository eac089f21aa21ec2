"""Each kind of bad depth raises its own warning; good depth raises none."""

from __future__ import annotations

import numpy as np
import pytest

from cpcdr.depth.health import collapse, depth_health, measure_health, training_warnings
from cpcdr.runtime.errors import FrameError

SLOPE = np.linspace(0.01, 0.3, 64, dtype=np.float32)[:, None] * np.ones((1, 128), np.float32)


def street(seed: int) -> np.ndarray:
    """A road with a box standing on it somewhere."""
    disparity = SLOPE.copy()
    left = int(np.random.default_rng(seed).integers(0, 90))
    disparity[20:50, left : left + 35] = 0.25
    return disparity


def test_good_depth_raises_no_warning() -> None:
    assert depth_health([street(i) for i in range(8)]).warnings() == []


def test_holes_in_the_lower_image() -> None:
    maps = [street(i) for i in range(8)]
    for disparity in maps:
        disparity[36:60, 20:70] = 0.005
    (warning,) = depth_health(maps).warnings()
    assert "infinitely far" in warning
    skies = [street(i) for i in range(8)]
    for disparity in skies:
        disparity[:20] = 0.005
    assert depth_health(skies).warnings() == [], "a distant sky is fine"


def test_a_network_that_ignores_its_images() -> None:
    (warning,) = depth_health([SLOPE * (1 + 0.001 * i) for i in range(8)]).warnings()
    assert "ignores its images" in warning
    assert depth_health([SLOPE, SLOPE]).warnings() == [], "two frames may be alike"


def test_frames_without_depth() -> None:
    class Fails:
        name = "fails:"

        def __call__(self, frames: list[object]) -> list[np.ndarray]:
            raise FrameError("disparity of x is constant.", "depth")

    health = measure_health(Fails(), [None] * 4)  # type: ignore[arg-type]
    assert health.failed == 4
    (warning,) = health.warnings()
    assert "4 of 4 frames" in warning and warning.endswith("constant")


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"photometric": 0.2, "identity": 0.1}, "identity reprojection"),
        ({"photometric": 0.1, "identity": 0.2, "disparity_spread": 0.001}, "collapsed"),
    ],
)
def test_a_training_that_failed(metrics: dict[str, float], words: str) -> None:
    (warning,) = training_warnings(metrics)
    assert words in warning
    assert training_warnings({"photometric": 0.1, "identity": 0.2, "disparity_spread": 0.5}) == []
    assert training_warnings({}) == []


def seen(maps: list[np.ndarray]) -> list[np.ndarray]:
    """Images of noise, which no map follows."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*m.shape, 3), np.uint8) for m in maps]


def test_a_collapse_is_told_by_its_kind() -> None:
    good = [street(i) for i in range(8)]
    assert collapse(seen(good), good) == ""
    assert "not finite" in collapse(seen(good), [m * np.float32(np.inf) for m in good])
    two = [np.where(m > 0.1, 0.6, 0.006).astype(np.float32) for m in good]
    assert "one of two values" in collapse(seen(two), two)
    upside_down = [np.ascontiguousarray(m[::-1]) for m in good]
    assert "does not come nearer" in collapse(seen(upside_down), upside_down)
    images = seen(good)
    bright = [
        m * np.exp(i[..., 0] / 80.0).astype(np.float32) for m, i in zip(good, images, strict=True)
    ]
    grey = [np.repeat(i[..., :1], 3, 2) for i in images]
    assert "follows brightness" in collapse(grey, bright)
    for disparity in good:
        disparity[36:60, :50] = 0.005
    assert "infinitely far" in collapse(seen(good), good)
