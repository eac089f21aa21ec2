"""Agreement of the disparity of consecutive frames, without poses or intrinsics."""

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.depth.plausibility import LEAST
from cpcdr.depth.ransac import fit_most
from cpcdr.depth.source import Disparity

_LEAST_SIDE = 16
"""Fewest rows and columns for optical flow."""


def temporal_error(
    image: NDArray[np.uint8],
    disparity: Disparity,
    next_image: NDArray[np.uint8],
    next_disparity: Disparity,
) -> float:
    """Median |log ratio| between a map and the next frame's, sampled where optical flow leads.

    The depth of a static point becomes z' = a · z + b in the next frame, for a camera that hardly
    rotates: b is its motion forward, a the ratio of the maps' unknown scales. Both are fitted to
    the pixels that agree; what is left is flicker and noise. NaN for fewer than 50 valid pixels or
    images below 16 pixels.

    Args:
        image: uint8 [H, W, 3] RGB.
        disparity: its map [H, W], 0 = invalid.
        next_image: the next frame, of the same size.
        next_disparity: its map.
    """
    if min(disparity.shape) < _LEAST_SIDE:
        return np.nan
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    greys = [cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) for i in (image, next_image)]
    field = flow.calc(*greys, None)  # type: ignore[call-overload]
    rows, columns = np.indices(disparity.shape, dtype=np.float32)
    u, v = columns + field[..., 0], rows + field[..., 1]
    there = cv2.remap(next_disparity, u, v, cv2.INTER_NEAREST, borderValue=0)
    seen = (disparity > 0) & (there > 0)
    if seen.sum() < LEAST:
        return np.nan
    before, after = disparity[seen].astype(np.float64), there[seen].astype(np.float64)
    ratio = before / after  # z' / z = a + b · before
    a, b = fit_most(np.stack([np.ones_like(before), before], axis=1), ratio)
    if a <= 0:  # a map turned inside out is not consistent
        a, b = float(np.median(ratio)), 0.0
    return float(np.median(np.abs(np.log(ratio / np.maximum(a + b * before, 1e-6)))))
