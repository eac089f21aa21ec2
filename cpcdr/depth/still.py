"""Parts of the picture that stand still while the camera drives: its own bonnet, overlays, dirt."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FEWEST = 12
"""Frames from which anything can be told."""
_KEPT = 0.85
"""Fraction of an edge's strength that the mean picture keeps where the picture stands still."""
_VISIBLE = 0.01
"""Least mean gradient of grey values in [0, 1]: a smooth surface tells nothing."""
_MOST = 0.5
"""Largest fraction that can be still: above it the camera did not move."""


def still_pixels(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.bool_]:
    """Pixels whose edges survive in the mean of frames spread over a sequence: bool [H, W].

    The mean of frames from different places blurs everything but what is fixed to the camera.

    Args:
        images: uint8 [H, W, 3] RGB each; with fewer than 12 nothing is still.
    """
    shape = images[0].shape[:2]
    if len(images) < FEWEST:
        return np.zeros(shape, np.bool_)
    greys = [cv2.cvtColor(i, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 for i in images]
    strength = _smooth(np.mean([_gradient(grey) for grey in greys], axis=0))
    kept = _smooth(_gradient(np.mean(greys, axis=0)))
    still = (strength > _VISIBLE) & (kept > _KEPT * strength)
    closed = cv2.morphologyEx(still.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    return closed > 0 if closed.mean() < _MOST else np.zeros(shape, np.bool_)


def _gradient(grey: NDArray[Any]) -> NDArray[Any]:
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.hypot(across, down) / 8


def _smooth(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(cv2.blur(values, (7, 7)))
