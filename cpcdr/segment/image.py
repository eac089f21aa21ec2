"""What a user may give as an image."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cpcdr.frames.decode import read_image
from cpcdr.runtime.errors import InputError

ImageLike = str | Path | Image.Image | NDArray[np.uint8]
"""A file, a PIL image, or uint8 [H, W, 3] RGB."""


def pixels_of(image: ImageLike) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB of an image; files and PIL images come upright, without alpha.

    Raises:
        InputError: it is no image, or an array or a mode whose brightness is not known.
    """
    if isinstance(image, str | Path):
        return read_image(str(Path(image).expanduser()))[1]
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):
            raise InputError(
                f"A PIL image of mode {image.mode} has no known range: scale it to 0..255 and "
                "convert it to RGB, or give the path of its file."
            )
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise InputError(
            "An image must be a path, a PIL image or an array uint8 [H, W, 3] RGB, not "
            f"{type(image).__name__}."
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            f"An image must be uint8 [H, W, 3] RGB, not {image.dtype} {list(image.shape)}: "
            "bring grey, RGBA and float arrays into this form first."
        )
    return image
