"""Disparity of stereo pairs by OpenCV's semi-global matching (Hirschmüller, TPAMI 2008)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.depth.source import Disparity, check_disparity
from cpcdr.frames.decode import read_image
from cpcdr.frames.frame import Frame
from cpcdr.frames.resize import cover_and_crop
from cpcdr.runtime.errors import FrameError

_SEARCHED = 0.125  # of the width: the nearest thing that can be matched
_LEAST_MATCHED = 0.2  # of the pixels: below it the images are no rectified pair
_BLOCK = 5


class Stereo:
    """Matches a frame with the right image of its pair, rectified as both datasets are.

    Disparity is in units of the searched range, an unknown but constant factor from 1 / z. Pixels
    that the right camera does not see, or that match nothing well, are 0: grouping gives them the
    disparity of their nearest neighbour.
    """

    name = "stereo:"

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        """One map a frame, 0 = invalid."""
        return [self._of(frame) for frame in frames]

    def _of(self, frame: Frame) -> Disparity:
        path = frame.ref.right_path
        if not path:
            raise FrameError(
                f"{frame.ref.frame_id}: {frame.source} has no right image for it: unpack the right "
                "images (Cityscapes rightImg8bit, KITTI image_03 or image_3) beside the left ones, "
                "or give another --depth.",
                "depth",
            )
        right = _read_right(path)
        shrinks = right.shape[0] > frame.image.shape[0]
        right = cover_and_crop(
            right, frame.image.shape, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        pixels = match(frame.image, right)
        if (pixels > 0).mean() < _LEAST_MATCHED:
            raise FrameError(
                f"{path}: only {100 * (pixels > 0).mean():.0f} % of the pixels match the left "
                "image: give rectified pairs, with the right one on the right.",
                "depth",
            )
        searched = searched_range(frame.image.shape[1])
        return check_disparity(np.minimum(pixels / np.float32(searched), 1), path)


def _read_right(path: str) -> NDArray[np.uint8]:
    try:
        return read_image(path)[1]
    except FrameError as error:
        raise FrameError(str(error), "depth") from error


def searched_range(width: int) -> int:
    """Disparities that are searched in images of this width, a multiple of 16."""
    return max(16, 16 * round(_SEARCHED * width / 16))


def match(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Disparity in pixels, float32 [H, W], 0 where nothing matches; images uint8 [H, W, 3]."""
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (left, right)]
    searched = searched_range(left.shape[1])
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=searched,
        blockSize=_BLOCK,
        P1=8 * _BLOCK**2,
        P2=32 * _BLOCK**2,
        disp12MaxDiff=1,
        preFilterCap=31,
        uniquenessRatio=10,
        speckleWindowSize=100,
        speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_HH4,
    )
    # Columns further left than the search reaches would never match: mirror the border there.
    wide = [cv2.copyMakeBorder(g, 0, 0, searched, 0, cv2.BORDER_REPLICATE) for g in greys]
    fixed = matcher.compute(*wide)[:, searched:]
    pixels = fixed.astype(np.float32) / 16
    # What lies left of the right image's border was matched with padding.
    columns = np.arange(left.shape[1], dtype=np.float32)
    return np.where((pixels > 0) & (columns - pixels >= 0), pixels, 0).astype(np.float32)
