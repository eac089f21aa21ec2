"""Measures of disparity and its image that need no true depth: pure functions.

A camera that looks ahead from a car sees a road that is a plane, a sky that is farther than the
road, and objects whose outlines are edges of the image too. Collapsed depth fails some of these,
and typically follows the brightness of the image. No measure alone proves that depth is right.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.depth.ransac import TOLERANCE, fit_most, fits
from cpcdr.depth.source import Disparity

Grey = NDArray[np.float32]
"""[H, W] in [0, 1]."""
Mask = NDArray[np.bool_]

_GROUND_ROWS, _GROUND_COLUMNS = (0.6, 0.95), (0.25, 0.75)
"""The part of the image where road is expected, as fractions of its height and width."""
_STRONG = 0.05
"""Fraction of pixels with the strongest edges."""
_BINS = 32
MEANINGS = {
    "ground_inliers": "fraction of the road ahead on one plane; near 1 is good",
    "ground_rises": "fraction of frames whose plane comes nearer towards the bottom; 1 is good",
    "sky": "disparity of the top relative to the bottom; near 0 under an open sky",
    "edges": "disparity edges on image edges, relative to chance; well above 1 is good",
    "brightness": "correlation with brightness; near 1, brightness is read as depth",
    "two_values": "fraction of pixels at two values; near 1, the map has collapsed",
    "temporal_error": "disagreement of consecutive frames, |log ratio|; near 0 is good",
}
"""Measures without truth, and how to read them."""
LEAST = 50
"""Fewest valid pixels to measure."""


class Ground(NamedTuple):
    """The plane of the road.

    Attributes:
        plane: float64 [3] = a, b, c with disparity = a · u + b · v + c, u and v from 0 to 1.
        inliers: fraction of the valid pixels in the lower middle of the image that lie on it.
        rises: the plane comes nearer towards the bottom, by more than the tolerance.
    """

    plane: NDArray[np.float64]
    inliers: float
    rises: bool

    def mask(self, disparity: Disparity) -> Mask:
        """The pixels of a whole map [H, W] that lie on the plane."""
        return fits(_coordinates(disparity.shape) @ self.plane, disparity)


def plausibility(image: NDArray[np.uint8], disparity: Disparity) -> dict[str, float]:
    """Measures of one frame; NaN where it has too few valid pixels for one.

    Args:
        image: uint8 [H, W, 3] RGB.
        disparity: [H, W], 0 = invalid.

    Returns:
        ``ground_inliers``, ``ground_rises``, ``sky``, ``edges``, ``brightness``, ``two_values``:
        see the functions below.
    """
    grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) / np.float32(255)).astype(np.float32)
    road = ground(disparity)
    return {
        "ground_inliers": road.inliers if road else np.nan,
        "ground_rises": float(road.rises) if road else np.nan,
        "sky": sky_ratio(disparity),
        "edges": edge_alignment(grey, disparity),
        "brightness": brightness_correlation(grey, disparity),
        "two_values": two_values(disparity),
    }


def ground(disparity: Disparity, seed: int = 0) -> Ground | None:
    """The plane that fits most pixels of the lower middle of a map [H, W].

    The disparity of a plane in the world is affine in pixel coordinates. None for fewer than 50
    valid pixels.
    """
    ends = zip(disparity.shape, (_GROUND_ROWS, _GROUND_COLUMNS), strict=True)
    part = tuple(slice(int(low * side), int(high * side)) for side, (low, high) in ends)
    seen = disparity[part]
    valid = seen > 0
    if valid.sum() < LEAST:
        return None
    design = _coordinates(disparity.shape)[part][valid]
    plane = fit_most(design, seen[valid].astype(np.float64), seed)
    inliers = float(fits(design @ plane, seen[valid]).mean())
    far, near = (float(np.array([0.5, v, 1]) @ plane) for v in _GROUND_ROWS)
    return Ground(plane, inliers, near > max(0.0, (1 + 2 * TOLERANCE) * far))


def sky_ratio(disparity: Disparity) -> float:
    """Median disparity of the upper tenth of a map over that of the lower tenth, at most 1.

    Near 0 where a far sky is above a near road; 1 where the top is no farther than the bottom.
    """
    tenth = max(1, len(disparity) // 10)
    upper, lower = disparity[:tenth], disparity[-tenth:]
    if not (upper > 0).any() or not (lower > 0).any():
        return np.nan
    return min(1.0, float(np.median(upper[upper > 0]) / np.median(lower[lower > 0])))


def edge_alignment(grey: Grey, disparity: Disparity) -> float:
    """How many times more often than by chance disparity edges lie within 2 pixels of image edges.

    Chance is the map mirrored left to right, which has the same edges at the same heights. Depth
    with the outlines of the image's objects is well above 1.
    """
    edges = _depth_edges(disparity)
    near = cv2.dilate(_image_edges(grey).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    by_chance = float(near[edges[:, ::-1]].mean()) if edges.any() else 0.0
    return float(near[edges].mean()) / by_chance if by_chance else np.nan


def brightness_correlation(grey: Grey, disparity: Disparity) -> float:
    """Absolute correlation of log disparity with grey in the lower half, row medians subtracted.

    Row medians carry the road's fall-off, and the upper half a bright sky: both correlate with
    brightness in correct depth too. A network that reads brightness as distance is near 1.
    """
    lower = disparity[len(disparity) // 2 :]
    rows = (lower > 0).any(axis=1)
    lower, shades = lower[rows], grey[len(grey) // 2 :][rows]
    valid = lower > 0
    if valid.sum() < LEAST:
        return np.nan
    depths, greys = (
        (part - np.nanmedian(np.where(valid, part, np.nan), axis=1, keepdims=True))[valid]
        for part in (np.log(np.maximum(lower, 1e-6)), shades)
    )
    if not depths.std() or not greys.std():
        return 0.0
    return float(abs(np.corrcoef(depths, greys)[0, 1]))


def two_values(disparity: Disparity) -> float:
    """Fraction of valid pixels in the two fullest of 32 bins of log disparity.

    1 where the map has two values; the bins span the map's range, and at least a factor of e.
    """
    logs = np.log(disparity[disparity > 0])
    if not logs.size:
        return np.nan
    low, high = np.percentile(logs, [1, 99])
    counts = np.histogram(np.clip(logs, low, high), _BINS, (low, max(high, low + 1)))[0]
    return float(np.sort(counts)[-2:].sum() / logs.size)


def _coordinates(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Float64 [H, W, 3] = (u, v, 1), from 0 to 1 over the image."""
    rows, columns = np.indices(shape)
    return np.stack([columns / shape[1], rows / shape[0], np.ones(shape)], axis=-1)


def _depth_edges(disparity: Disparity) -> Mask:
    """Where disparity bends most, relative to its value.

    Second derivatives vanish on planes, such as the road, whose gradient can be large.
    """
    whole = cv2.erode((disparity > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    bends = np.abs(cv2.Laplacian(cv2.GaussianBlur(disparity, (0, 0), 1), cv2.CV_32F))
    return _strongest(np.where(whole, bends / np.maximum(disparity, 1e-6), 0))


def _image_edges(grey: Grey) -> Mask:
    smooth = cv2.GaussianBlur(grey, (0, 0), 1)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    return _strongest(np.hypot(across, down))


def _strongest(values: NDArray[np.floating]) -> Mask:
    """The 5 % of pixels with the largest positive values."""
    return (values > 0) & (values >= np.quantile(values, 1 - _STRONG))
