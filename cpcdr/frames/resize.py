"""Frames of any size to the size that a stage works at, with intrinsics that follow exactly."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.decode import decode_image, encode_jpeg
from cpcdr.frames.frame import Frame


def fit(frame: Frame, size: tuple[int, int]) -> Frame:
    """The frame at ``size``: scaled to cover it, then cropped about the centre.

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
