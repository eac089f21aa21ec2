"""Paths, PIL images and arrays are the same image."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cpcdr.runtime.errors import InputError
from cpcdr.segment.image import pixels_of

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)


def test_a_path_a_picture_and_an_array_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), PIXELS[..., ::-1])
    for image in (path, str(path), Image.open(path), Image.fromarray(PIXELS), PIXELS):
        np.testing.assert_array_equal(pixels_of(image), PIXELS)


def test_pictures_come_upright_and_as_rgb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right shows it upright
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path, exif=exif)
    upright = np.rot90(PIXELS, -1)
    for image in (path, Image.open(path)):
        np.testing.assert_array_equal(pixels_of(image), upright)
    grey = Image.fromarray(PIXELS[..., 0])
    np.testing.assert_array_equal(pixels_of(grey), PIXELS[..., [0, 0, 0]])
    alpha = Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]))
    np.testing.assert_array_equal(pixels_of(alpha), PIXELS)


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a path, a PIL image or an array uint8 .* not list"):
        pixels_of([[1, 2]])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="PIL image of mode F has no known range"):
        pixels_of(Image.fromarray(PIXELS[..., 0].astype(np.float32)))
    (tmp_path / "a.mp4").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.mp4"):
        pixels_of(tmp_path / "a.mp4")
    with pytest.raises(InputError, match=r"gone\.png"):
        pixels_of(tmp_path / "gone.png")
