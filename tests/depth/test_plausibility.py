"""Exact depth looks plausible without its truth, maps of brightness, noise or mirrors do not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cpcdr.depth.plausibility import (
    brightness_correlation,
    edge_alignment,
    ground,
    plausibility,
    sky_ratio,
    two_values,
)
from cpcdr.frames import open_frames

STREETS = "synthetic:seed=7,streets=3,frames=2,height=96,width=192"


def grey_of(image: np.ndarray) -> np.ndarray:
    return (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) / np.float32(255)).astype(np.float32)


def collapsed(image: np.ndarray) -> np.ndarray:
    """What a collapsed network predicts: dark is near, bright is infinitely far."""
    return np.where(grey_of(image) < 0.5, 1, 0.005).astype(np.float32)


@pytest.fixture(scope="module")
def shots() -> list[tuple[np.ndarray, np.ndarray]]:
    """Images with exact disparity: two consecutive frames of each of three streets."""
    source = open_frames(STREETS)
    frames = [source.read(ref) for ref in source.refs()]
    return [(f.image, f.disparity) for f in frames if f.disparity is not None]


def test_exact_depth_is_plausible(shots: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for image, disparity in shots:
        measures = plausibility(image, disparity)
        assert measures["ground_inliers"] > 0.6 and measures["ground_rises"] == 1
        assert measures["sky"] < 0.5 and measures["edges"] > 1.5
        assert measures["brightness"] < 0.5 and measures["two_values"] < 0.6


def test_brightness_read_as_depth_is_not(shots: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for image, _ in shots:
        measures = plausibility(image, collapsed(image))
        assert measures["ground_rises"] == 0
        assert measures["brightness"] > 0.5 and measures["two_values"] > 0.99
    skies = [plausibility(image, collapsed(image))["sky"] for image, _ in shots]
    assert np.mean(skies) > 0.3, "a dark sky is near"


def test_a_mirrored_map_has_its_edges_elsewhere(
    shots: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    for image, disparity in shots:
        mirrored = np.ascontiguousarray(disparity[:, ::-1])
        there = edge_alignment(grey_of(image), mirrored)
        assert there < 1 < edge_alignment(grey_of(image), disparity)
        assert there == pytest.approx(1 / edge_alignment(grey_of(image), disparity), rel=0.1)


def test_the_ground_is_found_beside_a_car_and_a_hole() -> None:
    rows = np.arange(100, dtype=np.float32)[:, None]
    disparity = np.repeat(np.maximum((rows - 40) / 100, 0.005), 200, axis=1)
    disparity[60:85, 80:120] = 0.5  # a car, a sixth to a third of the road ahead
    disparity[90:95, 50:60] = 0
    road = ground(disparity)
    assert road is not None and road.rises
    assert road.plane == pytest.approx([0, 1, -0.4], abs=0.03)
    assert 0.6 < road.inliers < 0.9
    on_plane = road.mask(disparity)
    assert on_plane[70, 20] and not on_plane[70, 100] and not on_plane[92, 55]
    assert not on_plane[:38].any(), "nothing above the horizon is on the ground"
    upside_down = ground(np.ascontiguousarray(disparity[::-1]))
    assert upside_down is not None and not upside_down.rises


def test_maps_without_enough_valid_pixels_have_no_measures() -> None:
    image = np.random.default_rng(2).integers(0, 255, (40, 80, 3), np.uint8)
    empty = np.zeros((40, 80), np.float32)
    empty[20, 40] = 0.5
    measures = plausibility(image, empty)
    assert measures.pop("two_values") == 1
    assert all(np.isnan(value) for value in measures.values())
    assert ground(empty) is None and np.isnan(sky_ratio(empty))


def test_sparse_rows_and_constant_grey_are_measured() -> None:
    sparse = np.zeros((40, 80), np.float32)
    sparse[::2] = np.linspace(0.1, 0.9, 80, dtype=np.float32)
    assert brightness_correlation(np.full((40, 80), 0.5, np.float32), sparse) == 0
    ramp = np.repeat(np.linspace(0, 1, 80, dtype=np.float32)[None], 40, axis=0)
    assert brightness_correlation(ramp, sparse) > 0.9
    assert two_values(sparse) < 0.3
