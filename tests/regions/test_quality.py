"""Quality measures on constructed cases, and the number of regions of the baselines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpcdr.regions.alternatives import depth_components, felzenszwalb, slic
from cpcdr.regions.quality import (
    boundary_recall,
    label_quality,
    label_segments,
    planarity,
    shape_quality,
    too_small,
)

H, W = 96, 192


def halves() -> np.ndarray:
    labels = np.zeros((H, W), np.uint8)
    labels[:, W // 2 :] = 3
    labels[:4] = 255
    return labels


def test_perfect_regions() -> None:
    labels = halves()
    quality = label_quality((labels == 3).astype(int), labels)
    assert quality.accuracy == quality.purity == quality.boundary_recall == 1.0
    assert quality.undersegmentation == 0.0


def test_one_region_for_everything() -> None:
    labels = halves()
    quality = label_quality(np.zeros((H, W), int), labels)
    assert quality.accuracy == pytest.approx(0.5) == quality.purity
    assert quality.boundary_recall == 0.0
    assert quality.undersegmentation == pytest.approx(1.0), "each half leaks into the other"
    assert shape_quality(np.zeros((H, W), int)).problems() == {"giant region": 1.0}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_refining_never_hurts(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 4, (6, 12)), np.ones((8, 8), int)).astype(np.uint8)
    coarse = np.kron(rng.integers(0, count, (12, 24)), np.ones((4, 4), int))
    fine = 2 * coarse + np.kron(rng.integers(0, 2, (12, 24)), np.ones((4, 4), int))
    a, b = label_quality(coarse, labels), label_quality(fine, labels)
    assert b.accuracy >= a.accuracy
    assert boundary_recall(fine, labels) >= boundary_recall(coarse, labels)
    assert 0 <= b.undersegmentation <= 1 and 0 < b.purity <= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_region_ids_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 4, (6, 12)), np.ones((8, 8), int)).astype(np.uint8)
    regions = np.kron(rng.integers(0, 30, (12, 24)), np.ones((4, 4), int))
    renamed = rng.permutation(30)[regions]
    for quality, same in (
        (label_quality(renamed, labels), label_quality(regions, labels)),
        (shape_quality(renamed), shape_quality(regions)),
    ):
        assert vars(quality) == pytest.approx(vars(same), nan_ok=True)


def test_label_segments_are_connected_and_of_one_class() -> None:
    labels = np.array([[1, 1, 2], [2, 1, 2], [2, 2, 1]], np.uint8)
    segments = label_segments(labels)
    assert len(np.unique(segments)) == 4
    assert segments[0, 0] == segments[1, 1] != segments[2, 2]
    assert segments[0, 2] == segments[1, 2] != segments[1, 0]


def test_too_small_follows_the_pasting_rule() -> None:
    regions = np.zeros((384, 768), int)
    regions[10:25, 0:100] = 1  # 15 rows
    regions[50:150, 5:10] = 2  # 5 columns
    regions[200:231, 5:36] = 3  # below 32 on both sides
    regions[300:332, 100:140] = 4
    assert too_small(regions).tolist() == [False, True, True, True, False]


def test_planes_have_no_residual_and_steps_lie_on_borders() -> None:
    rows, columns = np.indices((H, W))
    regions = (columns >= W // 2).astype(int)
    disparity = np.where(regions, 0.3, 0.05 + 0.001 * rows)
    assert planarity(regions, disparity) < 1e-4
    assert planarity(np.zeros((H, W), int), disparity) > 0.1
    quality = shape_quality(regions, disparity)
    assert quality.discontinuities == 1.0 and quality.regions == 2
    assert shape_quality((rows > H // 2).astype(int), disparity).discontinuities < 0.1
    assert np.isnan(shape_quality(regions, np.full((H, W), 0.1)).discontinuities)


@pytest.mark.parametrize("count", [60, 120])
def test_baselines_yield_about_the_requested_number(count: int) -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (8, 16, 3))
    image = np.kron(blocks, np.ones((12, 12, 1), int)).astype(np.uint8)
    noise = rng.normal(0, 0.002, (H, W))
    disparity = np.kron(rng.uniform(0.05, 0.5, (8, 16)), np.ones((12, 12))) + noise
    for ids in (slic(image, count), felzenszwalb(image, count), depth_components(disparity, count)):
        assert ids.shape == (H, W)
        assert np.array_equal(np.unique(ids), np.arange(ids.max() + 1))
        assert count / 2.5 <= ids.max() + 1 <= 2.5 * count


def test_stripes_and_rows_are_told_from_thin_objects() -> None:
    rows, columns = np.indices((H, W))
    bands = rows // 4
    quality = shape_quality(bands)
    assert quality.stripes == 1.0 and quality.rows == 1.0
    assert set(quality.problems()) == {"stripes", "rows"}
    broad = shape_quality(rows // 24)
    assert broad.stripes == 0.0 and set(broad.problems()) == {"rows"}
    assert shape_quality(columns // 4).stripes == shape_quality(columns // 4).rows == 0.0, "poles"
    line = np.abs(rows - columns / 2) < 2  # a lane marking
    assert shape_quality(line.astype(int)).stripes == 0.0
    squares = shape_quality(rows // 24 * 8 + columns // 24)
    assert squares.rows < 0.1 and not squares.problems()
