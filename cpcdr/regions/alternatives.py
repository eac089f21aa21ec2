"""What else cuts an image into pieces: the honest alternatives to coherent depth regions."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cpcdr.regions.superpixels import superpixels

METHODS = ("slic", "felzenszwalb", "depth-components")
_ROUNDS = 12


def slic(image: NDArray[np.uint8], count: int) -> NDArray[np.uint16]:
    """Superpixels alone, about ``count`` of them: ids [H, W]."""
    return superpixels(image, count)


def felzenszwalb(image: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Felzenszwalb and Huttenlocher 2004 (scikit-image), its scale chosen to give ``count``."""
    from skimage.segmentation import felzenszwalb as segment

    least = max(2, image.shape[0] * image.shape[1] // (40 * count))
    return _with_count(
        lambda scale: segment(image, scale=scale, sigma=0.8, min_size=least), (0.1, 1e5), count
    )


def depth_components(disparity: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Neighbouring pixels joined where disparity changes little, the threshold giving ``count``.

    Pieces of fewer pixels than a fortieth of the mean size join their nearest larger one.
    """
    least = max(2, disparity.size // (40 * count))
    return _with_count(lambda step: _joined(disparity, step, least), (1e-5, 1.0), count)


def _with_count(
    segment: Callable[[float], NDArray[np.integer]], bounds: tuple[float, float], count: int
) -> NDArray[np.int64]:
    """The segmentation whose number of pieces is nearest to ``count``, by bisection."""
    low, high = np.log(bounds[0]), np.log(bounds[1])
    best, distance = np.zeros((1, 1), np.int64), np.inf
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        ids = segment(float(np.exp(middle)))
        found = int(ids.max()) + 1
        if abs(found - count) < distance:
            best, distance = ids.astype(np.int64), abs(found - count)
        low, high = (middle, high) if found > count else (low, middle)
    return best


def _joined(disparity: NDArray[np.floating], step: float, least: int) -> NDArray[np.int64]:
    d = np.log(np.maximum(disparity.astype(np.float64), 1e-4))
    numbers = np.arange(d.size).reshape(d.shape)
    pairs = []
    for a, b, x, y in (
        (d[:, :-1], d[:, 1:], numbers[:, :-1], numbers[:, 1:]),
        (d[:-1], d[1:], numbers[:-1], numbers[1:]),
    ):
        close = np.abs(a - b) < step
        pairs.append((x[close], y[close]))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(d.size, d.size))
    ids = connected_components(graph, directed=False)[1].reshape(d.shape)
    large = np.bincount(ids.ravel()) >= least
    if large.all() or not large.any():
        return ids.astype(np.int64)
    kept = large[ids]
    source = (~kept).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(
        source, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = np.zeros(int(nearest.max()) + 1, np.int64)
    owner[nearest[kept]] = ids[kept]
    return np.unique(owner[nearest], return_inverse=True)[1].reshape(d.shape)
