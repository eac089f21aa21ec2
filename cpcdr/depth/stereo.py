"""Disparity of stereo pairs by OpenCV's semi-global matching (Hirschmüller, TPAMI 2008)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.depth.source import DepthError, Disparity, check_disparity
from cpcdr.frames.decode import read_image
from cpcdr.frames.frame import Frame
from cpcdr.frames.resize import cover_and_crop
from cpcdr.runtime.errors import FrameError

_SEARCH_RANGE = 0.125  # of the width: the largest disparity that can be matched
_MIN_MATCHED = 0.2  # of the pixels: below it the images are not a rectified pair
_BLOCK = 5


class Stereo:
    """Matches a frame with the right image of its rectified pair.

    Disparity is in units of the search range: 1 / z up to an unknown constant factor. Pixels that
    are occluded in the right image or match poorly are 0; grouping fills them from their nearest
    valid neighbour.
    """

    name = "stereo:"

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        """One map per frame, 0 = invalid."""
        return [self._disparity(frame) for frame in frames]

    def _disparity(self, frame: Frame) -> Disparity:
        path = frame.ref.right_path
        if not path:
            raise DepthError(
                f"{frame.ref.frame_id}: {frame.source} has no right image for it: unpack the right "
                "images (Cityscapes rightImg8bit, KITTI image_03 or image_3) beside the left ones, "
                "or give another --depth."
            )
        try:
            right = read_image(path)[1]
        except FrameError as error:
            raise DepthError(str(error)) from error
        shrinks = right.shape[0] > frame.image.shape[0]
        right = cover_and_crop(
            right, frame.image.shape, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        pixels = match(frame.image, right)
        if (pixels > 0).mean() < _MIN_MATCHED:
            raise DepthError(
                f"{path}: only {100 * (pixels > 0).mean():.0f} % of the pixels match the left "
                "image: give rectified pairs and do not swap left and right."
            )
        reach = search_range(frame.image.shape[1])
        return check_disparity(np.minimum(pixels / np.float32(reach), 1), path)


def search_range(width: int) -> int:
    """Disparity search range for images of this width, a multiple of 16."""
    return max(16, 16 * round(_SEARCH_RANGE * width / 16))


def match(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Disparity in pixels, float32 [H, W], 0 where nothing matches; images uint8 [H, W, 3]."""
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (left, right)]
    reach = search_range(left.shape[1])
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=reach,
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
    # Columns within the search range of the left border would never match: replicate the border.
    wide = [cv2.copyMakeBorder(g, 0, 0, reach, 0, cv2.BORDER_REPLICATE) for g in greys]
    fixed = matcher.compute(*wide)[:, reach:]
    pixels = fixed.astype(np.float32) / 16
    # Matches left of the right image's border are matches with padding.
    columns = np.arange(left.shape[1], dtype=np.float32)
    return np.where((pixels > 0) & (columns - pixels >= 0), pixels, 0).astype(np.float32)
