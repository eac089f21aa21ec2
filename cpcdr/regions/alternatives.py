"""Baseline segmentations to compare coherent depth regions with."""

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
    """About ``count`` superpixels without grouping: ids [H, W]."""
    return superpixels(image, count)


def felzenszwalb(image: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Felzenszwalb and Huttenlocher 2004 (scikit-image), with the scale that yields ``count``."""
    from skimage.segmentation import felzenszwalb as segment

    min_size = max(2, image.shape[0] * image.shape[1] // (40 * count))
    return _with_count(
        lambda scale: segment(image, scale=scale, sigma=0.8, min_size=min_size), (0.1, 1e5), count
    )


def depth_components(disparity: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Connected components of similar disparity, with the threshold that yields ``count``.

    Components below a fortieth of the mean size join the nearest larger one.
    """
    min_size = max(2, disparity.size // (40 * count))
    return _with_count(lambda step: _components(disparity, step, min_size), (1e-5, 1.0), count)


def _with_count(
    segment: Callable[[float], NDArray[np.integer]], bounds: tuple[float, float], count: int
) -> NDArray[np.int64]:
    """The segmentation with a number of segments nearest to ``count``, by bisection."""
    low, high = np.log(bounds[0]), np.log(bounds[1])
    best, distance = np.zeros((1, 1), np.int64), np.inf
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        ids = segment(float(np.exp(middle)))
        segments = int(ids.max()) + 1
        if abs(segments - count) < distance:
            best, distance = ids.astype(np.int64), abs(segments - count)
        low, high = (middle, high) if segments > count else (low, middle)
    return best


def _components(disparity: NDArray[np.floating], step: float, min_size: int) -> NDArray[np.int64]:
    d = np.log(np.maximum(disparity.astype(np.float64), 1e-4))
    indices = np.arange(d.size).reshape(d.shape)
    pairs = []
    for a, b, x, y in (
        (d[:, :-1], d[:, 1:], indices[:, :-1], indices[:, 1:]),
        (d[:-1], d[1:], indices[:-1], indices[1:]),
    ):
        close = np.abs(a - b) < step
        pairs.append((x[close], y[close]))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(d.size, d.size))
    ids = connected_components(graph, directed=False)[1].reshape(d.shape)
    large = np.bincount(ids.ravel()) >= min_size
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
