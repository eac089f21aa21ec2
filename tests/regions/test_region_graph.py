import pickle
from dataclasses import replace

import numpy as np
import pytest
from reference_grouping import reference_distances

from cpcdr.regions.config import RegionConfig
from cpcdr.regions.graph import superpixel_graph
from cpcdr.runtime.errors import FrameError, InputError

PAPER = RegionConfig.presets()["paper"]
INTRINSICS = np.array([60.0, 55.0, 32.0, 20.0], np.float32)


def textured(height=40, width=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def ramp(height=40, width=64):
    """Disparity of a ground plane that falls off to the sides."""
    v, u = np.mgrid[:height, :width]
    return (0.02 + 0.4 * v / height + 0.1 * u / width).astype(np.float32)


def test_distances_of_centres_agree_with_the_formula():
    disparity = ramp()
    graph = superpixel_graph(textured(), disparity, INTRINSICS, PAPER)
    expected = reference_distances(graph.superpixels, disparity, INTRINSICS)
    assert [tuple(e) for e in graph.edges.tolist()] == list(expected)
    assert np.allclose(graph.distance, np.array(list(expected.values())), rtol=1e-5)
    assert graph.superpixels.dtype == np.uint16 and graph.edges.dtype == np.int32
    assert graph.distance.dtype == np.float32


def test_distance_on_a_surface_shrinks_with_the_superpixels():
    """The paper's term: at twice the resolution, neighbours on a surface are half as far apart."""
    medians = []
    for scale in (1, 2):
        v, u = np.mgrid[: 128 * scale, : 256 * scale] / scale
        disparity = (0.05 + 0.003 * v + 0.0002 * u).astype(np.float32)
        intrinsics = np.array([200, 200, 128, 64], np.float32) * scale
        image = np.full((128 * scale, 256 * scale, 3), 99, np.uint8)
        graph = superpixel_graph(
            image, disparity, intrinsics, replace(PAPER, superpixels=1111 * scale**2)
        )
        medians.append(np.median(graph.distance))
    assert medians[1] == pytest.approx(medians[0] / 2, rel=0.1)


def test_every_size_of_frame_has_as_many_superpixels():
    assert RegionConfig().superpixel_count(192, 256) == 5000
    assert RegionConfig().superpixel_count(4000, 6000) == 5000
    assert RegionConfig().superpixel_count(40, 60) == 400
    assert RegionConfig(superpixels=10**6).superpixel_count(4000, 6000) == 32767


def test_holes_take_the_nearest_valid_disparity():
    disparity = ramp()
    holed = disparity.copy()
    holed[3, 5], holed[20, 30], holed[0, 0], holed[39, 63] = np.nan, 0.0, np.inf, -1.0
    whole = superpixel_graph(textured(), disparity, INTRINSICS, PAPER)
    filled = superpixel_graph(textured(), holed, INTRINSICS, PAPER)
    assert np.isfinite(filled.distance).all()
    assert np.abs(filled.distance - whole.distance).max() < 0.53


@pytest.mark.parametrize("factor", [0.3, 0.5, 0.7, 1.7, 2.0, 3.0])
def test_a_factor_of_all_disparity_changes_no_distance(factor):
    plain, scaled = (
        superpixel_graph(textured(), ramp() * np.float32(f), INTRINSICS, RegionConfig())
        for f in (1.0, factor)
    )
    assert np.array_equal(plain.edges, scaled.edges)
    assert np.allclose(plain.distance, scaled.distance, rtol=1e-4, atol=1e-4)


def test_what_lies_beyond_parallax_is_one_surface():
    """A step from 100 to 50 units of depth in the far plane, and from 10 to 5 near by."""
    image = np.full((160, 256, 3), 99, np.uint8)
    v, u = np.mgrid[:160, :256]
    steps = []
    for scale in (0.1, 1.0):
        background = scale * np.where(u > 130, 0.02, 0.01)
        disparity = np.where(v > 80, 0.2, background).astype(np.float32)
        graph = superpixel_graph(image, disparity, INTRINSICS, RegionConfig(superpixels=800))
        size = np.bincount(graph.superpixels.ravel())
        row = np.bincount(graph.superpixels.ravel(), v.ravel()) / size
        steps.append(graph.distance[(row[graph.edges] < 70).all(axis=1)].max())
    assert steps[0] < 0.3 and steps[1] > 1


def test_colour_term_responds_to_colour_alone():
    image = np.full((40, 64, 3), 60, np.uint8)
    image[:, 32:] = (230, 60, 40)
    plain, painted = (
        superpixel_graph(image, ramp(), INTRINSICS, RegionConfig(sigma=0, colour_weight=weight))
        for weight in (0.0, 1.0)
    )
    added = painted.distance - plain.distance
    flat = plain.superpixels.ravel()
    side = np.bincount(flat, np.tile(np.arange(64), 40)) / np.bincount(flat) > 31.5
    across = side[plain.edges[:, 0]] != side[plain.edges[:, 1]]
    assert across.any() and added[across].min() > 0.5
    assert np.abs(added[~across]).max() < 1e-3


def test_plane_term_responds_to_the_fold_between_two_planes():
    """A wall on a floor: depth is continuous where the planes meet."""
    v, _ = np.mgrid[:160, :256]
    wall = 1.0 / 6.0
    floor = (v - 80.0) / 220.0  # of a plane one unit below the camera
    disparity = np.maximum(floor, wall).astype(np.float32)
    image = np.full((160, 256, 3), 99, np.uint8)
    graph = superpixel_graph(image, disparity, INTRINSICS, RegionConfig(superpixels=800))
    size = np.bincount(graph.superpixels.ravel())
    kind = (np.bincount(graph.superpixels.ravel(), (floor <= wall).ravel()) / size)[graph.edges]
    same = (kind == 0).all(axis=1) | (kind == 1).all(axis=1)
    assert graph.distance[same].max() < 0.15
    assert np.median(graph.distance[same]) < 0.05
    assert graph.distance[~same].max() > 0.5


@pytest.mark.parametrize(
    ("disparity", "words"),
    [
        (np.full((40, 64), 0.3, np.float32), "flat"),
        (np.full((40, 64), 0.001, np.float32), "flat"),
        (np.zeros((40, 64), np.float32), "no valid pixel"),
        (np.full((40, 64), np.nan, np.float32), "no valid pixel"),
        (ramp(20, 64), "does not fit"),
    ],
)
def test_useless_disparity_rejects_the_frame(disparity, words):
    with pytest.raises(FrameError, match=words) as caught:
        superpixel_graph(textured(), disparity, INTRINSICS, RegionConfig())
    assert caught.value.stage == "regions"
    assert pickle.loads(pickle.dumps(caught.value)).stage == "regions"


def test_useless_image_or_intrinsics_reject_the_frame():
    with pytest.raises(FrameError, match="uint8"):
        superpixel_graph(textured()[..., 0], ramp(), INTRINSICS, RegionConfig())
    with pytest.raises(FrameError, match="focal"):
        superpixel_graph(textured(), ramp(), np.array([0, 1, 2, 3], np.float32), RegionConfig())


@pytest.mark.parametrize(
    "wrong",
    [
        {"superpixels": 0},
        {"compactness": 0.0},
        {"separation": 1.5},
        {"preferred_modules": -1},
        {"min_superpixels": -1},
        {"plane_weight": -1.0},
    ],
)
def test_invalid_configuration_is_refused(wrong):
    with pytest.raises(InputError):
        RegionConfig(**wrong)
