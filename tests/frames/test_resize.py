"""`fit` moves pixels and intrinsics together."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cpcdr.frames.decode import decode_image, encode_jpeg
from cpcdr.frames.frame import Frame, FrameRef
from cpcdr.frames.resize import (
    fit,
    fit_intrinsics,
    fit_note,
    kept,
    picture_size,
    unfit_intrinsics,
)


def make_frame(image, intrinsics, labels=None, disparity=None):
    encoded = encode_jpeg(image)
    return Frame(
        FrameRef("s", 0),
        encoded,
        decode_image(encoded, "x"),
        np.array(intrinsics, np.float32),
        "images:x",
        labels,
        disparity,
    )


def blob(size, u, v, sigma):
    rows, columns = np.mgrid[: size[0], : size[1]]
    bump = np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * sigma**2))
    return np.repeat((bump * 255).astype(np.uint8)[..., None], 3, axis=2)


def centroid(image):
    weight = np.clip(image[..., 1].astype(float) - 30, 0, None)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(90, 180), st.integers(90, 240)),
    new_size=st.tuples(st.integers(60, 240), st.integers(60, 300)),
    place=st.tuples(st.floats(0.2, 0.8), st.floats(0.2, 0.8)),
    depth=st.floats(1, 50),
)
def test_a_3d_point_projects_to_the_same_scene_content(size, new_size, place, depth):
    u, v = place[0] * size[1], place[1] * size[0]
    fx, fy, cx, cy = 120.0, 110.0, size[1] * 0.45, size[0] * 0.55
    point = np.array([(u - cx) / fx, (v - cy) / fy, 1.0]) * depth
    fitted = fit(make_frame(blob(size, u, v, 5.0), (fx, fy, cx, cy)), new_size)
    assert fitted.image.shape == (*new_size, 3)
    fx, fy, cx, cy = fitted.intrinsics.astype(float)
    projected = point[0] / point[2] * fx + cx, point[1] / point[2] * fy + cy
    margin = 15 * max(new_size[0] / size[0], new_size[1] / size[1])
    assume(margin < projected[0] < new_size[1] - margin)
    assume(margin < projected[1] < new_size[0] - margin)
    np.testing.assert_allclose(centroid(fitted.image), projected, atol=0.2)


def test_labels_and_disparity_stay_on_the_image():
    """Nearest neighbours, no half-pixel shift: the edge of a label is the edge in the image."""
    image = np.zeros((120, 200, 3), np.uint8)
    image[40:, 100:] = 255
    labels = (image[..., 0] > 0).astype(np.uint8) * 7
    disparity = np.where(labels > 0, 0.75, 0.25).astype(np.float32)
    frame = make_frame(image, (100, 100, 99.5, 59.5), labels, disparity)
    for size in [(60, 100), (240, 400), (30, 40), (120, 100)]:
        fitted = fit(frame, size)
        bright = fitted.image[..., 0] > 127
        np.testing.assert_array_equal(fitted.labels > 0, bright)
        assert set(np.unique(fitted.disparity)) == {np.float32(0.25), np.float32(0.75)}
        np.testing.assert_array_equal(fitted.disparity > 0.5, bright)
        assert fitted.labels.dtype == np.uint8
        assert fitted.disparity.dtype == np.float32


def test_the_same_size_is_the_same_frame():
    frame = make_frame(np.zeros((30, 40, 3), np.uint8), (10, 10, 20, 15))
    assert fit(frame, (30, 40)) is frame


def test_image_equals_its_encoded_bytes():
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    fitted = fit(make_frame(image, (10, 10, 20, 15)), (32, 64))
    np.testing.assert_array_equal(fitted.image, decode_image(fitted.encoded, "x"))


def test_shrinking_does_not_alias():
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, ::2] = 255
    fitted = fit(make_frame(image, (10, 10, 20, 15)), (8, 16))
    assert np.abs(fitted.image.astype(int) - 127).max() <= 3


@pytest.mark.parametrize("new_size", [(1, 1), (1, 300), (300, 1), (7, 13)])
def test_extreme_sizes(new_size):
    frame = make_frame(np.full((20, 30, 3), 90, np.uint8), (10, 10, 20, 15))
    assert fit(frame, new_size).image.shape == (*new_size, 3)


def test_centre_stays_the_centre():
    centred = np.array([100, 100, (640 - 1) / 2, (480 - 1) / 2])
    for height, width in [(240, 320), (480, 320), (960, 1280), (192, 640)]:
        cx, cy = fit_intrinsics(centred, (480, 640), (height, width))[2:]
        assert (cx, cy) == pytest.approx(((width - 1) / 2, (height - 1) / 2), abs=0.51)


def test_a_frame_without_labels_has_none_afterwards():
    frame = make_frame(cv2.merge([np.zeros((20, 30), np.uint8)] * 3), (10, 10, 20, 15))
    fitted = fit(replace(frame, pose=np.eye(4)), (10, 10))
    assert fitted.labels is None
    assert fitted.disparity is None
    np.testing.assert_array_equal(fitted.pose, np.eye(4))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(60, 400), st.integers(60, 400)),
    new_size=st.tuples(st.integers(60, 400), st.integers(60, 400)),
)
def test_fitted_intrinsics_come_back(size, new_size):
    camera = np.array([120.0, 110.0, size[1] * 0.45, size[0] * 0.55])
    fitted = fit_intrinsics(camera, size, new_size)
    np.testing.assert_allclose(unfit_intrinsics(fitted, size, new_size), camera, rtol=1e-5)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    height=st.integers(400, 2200),
    aspect=st.floats(0.5, 4.0),
    pixels=st.sampled_from([288 * 512, 384 * 768]),
)
def test_a_chosen_size_shows_all_of_the_picture_with_its_pixels(height, aspect, pixels):
    shape = (height, round(height * aspect))
    size = picture_size(shape, pixels)
    assert kept(shape, size) == 1, "nothing is cropped"
    if height * shape[1] <= pixels:
        assert size == shape
    else:
        assert 0.6 * pixels < size[0] * size[1] <= pixels and not size[0] % 32 + size[1] % 32
    centre = [100, 100, (shape[1] - 1) / 2, (height - 1) / 2]
    cx, cy = fit_intrinsics(np.array(centre), shape, size)[2:]
    assert (cx, cy) == pytest.approx(((size[1] - 1) / 2, (size[0] - 1) / 2), abs=1e-3)


def test_extreme_pictures_have_a_size_too():
    for shape in [(32, 100_000), (100_000, 40), (3, 70_000)]:
        height, width = picture_size(shape, 288 * 512)
        assert min(height, width) >= 32 and height * width <= 288 * 512


def test_what_is_cropped_is_said():
    assert fit_note((540, 960), (192, 640)).endswith("the middle 53 % of the picture")
    assert fit_note((375, 1242), (128, 416)) == "1242×375 -> 416×128, all of the picture"
    assert fit_note((64, 128), (0, 0)) == "128×64 -> 128×64, all of the picture"
