import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpcdr.runtime.errors import InputError
from cpcdr.visualize import pictures as visualize

ROOT = Path(__file__).resolve().parents[2]
PALETTE = np.array([[128, 64, 128], [70, 130, 180], [107, 142, 35]], np.uint8)
CLASSES = ["road", "sky", "vegetation"]


def is_image(image):
    return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def test_png_round_trip_and_a_folder_that_cannot_be(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    visualize.save_png(tmp_path / "new" / "a.png", image)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new" / "a.png"))[..., ::-1], image)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="another folder"):
        visualize.save_png(tmp_path / "file" / "a.png", image)


def test_nearer_is_brighter_and_invalid_is_black():
    disparity = np.linspace(0.01, 1, 200).reshape(10, 20)
    disparity[0, 0], disparity[0, 1] = 0, np.nan
    image = visualize.colour_disparity(disparity)
    assert is_image(image) and not image[0, :2].any()
    brightness = image.reshape(-1, 3)[2:] @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(brightness) > -1.5).all() and brightness[0] > 10 and brightness[-1] > 200
    assert not visualize.colour_disparity(np.zeros((3, 4))).any()
    assert visualize.colour_disparity(np.full((3, 4), 0.5)).any()


def test_region_colours_are_stable_and_distinct():
    few, many = visualize.region_colours(5), visualize.region_colours(300)
    np.testing.assert_array_equal(few, many[:5])
    lab = cv2.cvtColor(many[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    neighbours = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert neighbours.min() > 20  # of 2.3, the least that the eye tells apart
    assert len(np.unique(many, axis=0)) > 295


def test_regions_show_borders_and_the_image_below():
    regions = np.zeros((6, 8), np.int32)
    regions[:, 4:] = 1
    plain = visualize.colour_regions(regions)
    colours = visualize.region_colours(2)
    assert (plain[:, 0] == colours[0]).all() and (plain[:, 7] == colours[1]).all()
    assert (plain[:, 3] > 185).all()  # the border
    image = np.full((6, 8, 3), 200, np.uint8)
    blended = visualize.colour_regions(regions, image)
    expected = 0.6 * colours[0].astype(float) + 0.4 * 200
    np.testing.assert_allclose(blended[0, 0], expected, atol=1)


def test_labels_take_their_colours_and_255_is_black():
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    image = visualize.colour_labels(labels, PALETTE)
    np.testing.assert_array_equal(image.reshape(-1, 3), [*PALETTE, np.zeros(3)])
    with pytest.raises(InputError, match="Label 3 has no colour"):
        visualize.colour_labels(labels + np.uint8(1), PALETTE)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 100))
def test_features_get_colours_for_any_number_of_channels(channels, seed):
    features = np.random.default_rng(seed).normal(size=(2, channels, 5, 6)).astype(np.float32)
    image = visualize.colour_features(features)
    assert image.shape == (2, 5, 6, 3)
    assert [image[..., i].any() for i in range(3)] == [i < channels for i in range(3)]


def test_equal_features_in_two_images_have_equal_colours():
    random = np.random.default_rng(0)
    palette = random.normal(size=(4, 16))
    which = random.integers(0, 4, (2, 8, 8))
    image = visualize.colour_features(palette[which].transpose(0, 3, 1, 2))
    for k in range(4):
        assert len(np.unique(image[which == k], axis=0)) == 1
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 4
    with pytest.raises(InputError, match="not finite"):
        visualize.colour_features(np.full((1, 3, 2, 2), np.nan))


def test_sheet_holds_every_image_where_it_belongs():
    red, blue = np.zeros((20, 30, 3), np.uint8), np.zeros((40, 20, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = visualize.contact_sheet([[red, blue], [blue]], height=20)
    assert sheet.shape == (6 + 2 * 26, 6 + 30 + 6 + 10 + 6, 3)
    assert (sheet == [255, 0, 0]).all(-1).sum() == 20 * 30
    assert (sheet == [0, 0, 255]).all(-1).sum() == 2 * 20 * 10
    titled = visualize.contact_sheet([[red, blue]], ["red", "a very long title"], ["first row"])
    assert titled.shape[0] > 180 + 40 and (titled < 100).all(-1).any()


def test_legend_shows_every_colour():
    image = visualize.legend(CLASSES, PALETTE, width=260)
    for colour in PALETTE:
        assert (image == colour).all(-1).sum() >= 18 * 24
    assert visualize.legend(CLASSES, PALETTE, width=100).shape[0] > image.shape[0]


def test_import_does_not_load_matplotlib():
    modules = "{'matplotlib', 'mlflow', 'ray'}"
    imports = "import sys, cpcdr.visualize.pictures, cpcdr.visualize.plots"
    code = f"{imports}; assert not {modules} & {{*sys.modules}}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_mask_tints_its_pixels_and_no_others() -> None:
    image = np.full((4, 6, 3), 100, np.uint8)
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    tinted = visualize.colour_mask(mask, image)
    assert (tinted[~mask] == 100).all() and (tinted[mask][:, 1] > 120).all()
    assert (tinted[mask][:, [0, 2]] < 100).all() and tinted.dtype == np.uint8
