"""Frames of any size to the size that a stage works at, with intrinsics that follow exactly.

`covering_size` is the scale of the picture in every stage: a network meets things as large as those
that it was trained on.
"""

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.decode import decode_image, encode_jpeg
from cpcdr.frames.frame import Frame

_MULTIPLE = 32
"""Of which the sides of a chosen size are multiples: the networks' largest stride."""
_STRETCH = 0.05
"""Difference of aspects, as a logarithm, that is stretched away instead of cropped."""


PIXELS = 288 * 512
"""The most that a chosen size has."""


def picture_size(shape: tuple[int, ...], pixels: int = PIXELS) -> tuple[int, int]:
    """Height and width that show all of a picture with at most ``pixels``, in multiples of 32.

    The aspect counts ten times as much as the use of the pixels. A picture that has no more of them
    keeps its size.

    Args:
        shape: of the picture, (H, W, ...).
        pixels: at least 32 × 32.

    >>> picture_size((720, 1280), 288 * 512), picture_size((375, 1242), 288 * 512)
    ((288, 512), (192, 640))
    """
    height, width = shape[:2]
    if height * width <= pixels:
        return height, width

    def cost(size: tuple[int, int]) -> float:
        unused = math.log(pixels / (size[0] * size[1]))
        return abs(math.log(size[1] * height / (size[0] * width))) + 0.1 * unused

    sizes = []
    for h in range(_MULTIPLE, pixels // _MULTIPLE + 1, _MULTIPLE):
        most = pixels // h // _MULTIPLE
        units = h * width / height / _MULTIPLE
        for n in {math.floor(units), math.ceil(units)}:
            sizes.append((h, _MULTIPLE * min(max(n, 1), most)))
    return min(sizes, key=cost)


def kept(shape: tuple[int, ...], size: tuple[int, int]) -> float:
    """The fraction of a picture that `fit` keeps."""
    scaled = covering_size(shape, size)
    return size[0] * size[1] / (scaled[0] * scaled[1])


def fit_note(shape: tuple[int, ...], size: tuple[int, int]) -> str:
    """What `fit` does to a picture, in words, width by height as people write it; ``size`` may be
    0 0.

    >>> fit_note((720, 1280), (288, 512))
    '1280×720 -> 512×288, all of the picture'
    >>> fit_note((720, 1280), (192, 640))
    '1280×720 -> 640×192, the middle 53 % of the picture'
    """
    size = size if min(size) > 0 else (shape[0], shape[1])
    part = kept(shape, size)
    what = "all" if part > 0.995 else f"the middle {100 * part:.0f} %"
    return f"{shape[1]}×{shape[0]} -> {size[1]}×{size[0]}, {what} of the picture"


def fit(frame: Frame, size: tuple[int, int]) -> Frame:
    """The frame at ``size``: scaled to cover it, then cropped about the centre.

    Where the aspects differ by less than 5 %, the frame is stretched and nothing is cropped.

    Image: area average when made smaller, bilinear when made larger, then encoded once as JPEG,
    quality 95. Labels and disparity: nearest. Disparity keeps its values (it is 1/z, in no pixel
    unit). A frame that has the size already is returned as it is.

    Args:
        size: (H, W) in pixels; 0 0 keeps the frame's own.
    """
    if min(size) <= 0 or frame.image.shape[:2] == tuple(size):
        return frame
    shrinks = covering_size(frame.image.shape, size)[0] < frame.image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    encoded = encode_jpeg(cover_and_crop(frame.image, size, method))
    nearest = cv2.INTER_NEAREST_EXACT  # INTER_NEAREST would shift by half a pixel
    labels, disparity = (
        None if array is None else cover_and_crop(array, size, nearest)
        for array in (frame.labels, frame.disparity)
    )
    return replace(
        frame,
        encoded=encoded,
        image=decode_image(encoded, frame.ref.frame_id),
        intrinsics=fit_intrinsics(frame.intrinsics, frame.image.shape[:2], size),
        labels=labels,
        disparity=disparity,
    )


def fit_intrinsics(
    intrinsics: NDArray[np.floating], size: tuple[int, ...], new_size: tuple[int, int]
) -> NDArray[np.float32]:
    """float32 [4] fx, fy, cx, cy after `fit` from ``size`` to ``new_size`` (both H, W).

    Pixel centres are at integer coordinates, hence the halves: a pixel edge at -0.5 stays there.

    >>> fit_intrinsics(np.array([100, 100, 49.5, 24.5]), (50, 100), (100, 200)).tolist()
    [200.0, 200.0, 99.5, 49.5]
    """
    scale, offset = _cover_xy(size, new_size)
    focal, centre = np.asarray(intrinsics, np.float64).reshape(2, 2)
    fitted = (focal * scale, (centre + 0.5) * scale - 0.5 - offset)
    return np.concatenate(fitted).astype(np.float32)


def unfit_intrinsics(
    intrinsics: NDArray[np.floating], size: tuple[int, ...], new_size: tuple[int, int]
) -> NDArray[np.float32]:
    """float32 [4] fx, fy, cx, cy before `fit` from ``size`` to ``new_size``, of those after it.

    >>> unfit_intrinsics(np.array([200, 200, 99.5, 49.5]), (50, 100), (100, 200)).tolist()
    [100.0, 100.0, 49.5, 24.5]
    """
    scale, offset = _cover_xy(size, new_size)
    focal, centre = np.asarray(intrinsics, np.float64).reshape(2, 2)
    original = (focal / scale, (centre + offset + 0.5) / scale - 0.5)
    return np.concatenate(original).astype(np.float32)


def covering_size(size: tuple[int, ...], new_size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) to which `fit` scales a frame of ``size`` before it crops it to ``new_size``.

    >>> covering_size((480, 640), (96, 192))
    (144, 192)
    """
    return _cover(size, new_size)[0]


def cover_scale(size: tuple[int, ...], new_size: tuple[int, ...]) -> float:
    """How much `fit` magnifies a frame of ``size`` horizontally."""
    return _cover(size, (new_size[0], new_size[1]))[0][1] / size[1]


def cover_and_crop(array: NDArray, size: tuple[int, ...], interpolation: int) -> NDArray:
    """Any map [h, w, ...] of a frame, to the pixels of the frame that was fit to ``size``."""
    (scaled_h, scaled_w), (top, left) = _cover(array.shape, (size[0], size[1]))
    if array.shape[:2] != (scaled_h, scaled_w):
        array = cv2.resize(array, (scaled_w, scaled_h), interpolation=interpolation)
    return np.ascontiguousarray(array[top : top + size[0], left : left + size[1]])


def _cover(
    size: tuple[int, ...], new_size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The smallest scaled (H, W) covering ``new_size``, and the crop's (top, left) in it."""
    (height, width), (new_height, new_width) = size[:2], new_size
    if abs(math.log(new_width * height / (new_height * width))) < _STRETCH:
        return new_size, (0, 0)
    scale = max(new_height / height, new_width / width)
    scaled_h = max(new_height, round(height * scale))
    scaled_w = max(new_width, round(width * scale))
    return (scaled_h, scaled_w), ((scaled_h - new_height) // 2, (scaled_w - new_width) // 2)


def _cover_xy(
    size: tuple[int, ...], new_size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and offset of `_cover`, each as (x, y)."""
    scaled, offset = _cover(size, new_size)
    scale = [scaled[1] / size[1], scaled[0] / size[0]]
    return np.array(scale), np.array(offset[::-1], np.float64)
