"""The superpixel adjacency graph of a frame, with edge dissimilarities from depth."""

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cpcdr.regions.config import RegionConfig
from cpcdr.regions.superpixels import superpixels
from cpcdr.runtime.errors import FrameError

_FARTHEST_DISPARITY = 0.005  # z = 1 / max(disparity, this): the limit of depth
_LEAST_RANGE = 1e-4  # of disparity: below it a map is flat; 16-bit PNG has steps of 1.5e-5


@dataclass(frozen=True, eq=False)
class SuperpixelGraph:
    """What grouping needs of a frame; stored with it, so that regrouping needs no pixels.

    Attributes:
        superpixels: uint16 [H, W] ids 0..P-1, all in use.
        edges: int32 [E, 2] pairs i < j that share a border (4-neighbourhood), sorted.
        distance: float32 [E] dissimilarity d >= 0 before the sigmoid, colour and plane terms
            included where their weights are not 0.
    """

    superpixels: NDArray[np.uint16]
    edges: NDArray[np.int32]
    distance: NDArray[np.float32]


def superpixel_graph(
    image: NDArray[np.uint8],
    disparity: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    config: RegionConfig,
) -> SuperpixelGraph:
    """Superpixels of the image and how far apart neighbours lie in 3D.

    Pixels are back-projected (x right, y up, z forward) and each axis is divided by its standard
    deviation over the image; then d = |c1 - c2| / (z1 + z2) between superpixel centres c. Distance
    relative to depth grows neither with the unknown scale of depth nor with range.

    Args:
        image: uint8 [H, W, 3] RGB.
        disparity: float32 [H, W], z = 1 / max(disparity, 0.005); pixels that are 0, negative or not
            finite take the value of the nearest valid pixel.
        intrinsics: [4] fx, fy, cx, cy in pixels.

    Raises:
        FrameError: shapes that disagree, unusable intrinsics, or disparity without valid pixels or
            range.
    """
    _check(image, disparity, intrinsics)
    disparity = _fill_holes(disparity.astype(np.float32))
    depth = 1.0 / np.maximum(disparity, _FARTHEST_DISPARITY)
    count = config.superpixel_count(*disparity.shape)
    ids = superpixels(image, count, config.compactness, config.sigma)
    edges = border_pairs(ids)
    centre, spread = _centres(ids, depth, intrinsics.astype(np.float64))
    first, second = edges.T
    step = centre[second] - centre[first]
    range_ = centre[first, 2] + centre[second, 2]
    distance = np.linalg.norm(step, axis=1) / range_
    if config.plane_weight:
        normal = np.linalg.eigh(spread)[1][:, :, 0]  # of the least-squares plane through its pixels
        off = np.abs((normal[first] * step).sum(1)) + np.abs((normal[second] * step).sum(1))
        distance += config.plane_weight * off / range_
    if config.colour_weight:
        colour = _mean_colours(image, ids)
        off = np.linalg.norm(colour[second] - colour[first], axis=1)
        distance += config.colour_weight * off / 100.0
    return SuperpixelGraph(ids, edges, distance.astype(np.float32))


def _check(
    image: NDArray[np.uint8], disparity: NDArray[np.float32], intrinsics: NDArray[np.float32]
) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise FrameError(
            f"The image is {image.dtype} {list(image.shape)}: give uint8 [H, W, 3] RGB.", "regions"
        )
    if disparity.shape != image.shape[:2]:
        raise FrameError(
            f"Disparity {list(disparity.shape)} does not fit the image {list(image.shape[:2])}: "
            "resize it to the image.",
            "regions",
        )
    if not np.isfinite(intrinsics).all() or min(intrinsics[:2]) <= 0:
        raise FrameError(
            f"Intrinsics {np.asarray(intrinsics).tolist()} need positive focal lengths: give "
            "fx,fy,cx,cy in pixels.",
            "regions",
        )


def _fill_holes(disparity: NDArray[np.float32]) -> NDArray[np.float32]:
    valid = np.isfinite(disparity) & (disparity > 0)
    if not valid.any():
        raise FrameError(
            "The disparity map has no valid pixel: check this frame's depth source.", "regions"
        )
    if not valid.all():
        rows, columns = distance_transform_edt(~valid, return_distances=False, return_indices=True)
        disparity = disparity[rows, columns]
    if np.ptp(np.maximum(disparity, _FARTHEST_DISPARITY)) < _LEAST_RANGE:
        raise FrameError(
            f"The disparity map is flat ({float(disparity.flat[0]):.4g} everywhere), so no regions "
            "can be separated: train the depth network longer or check the depth source.",
            "regions",
        )
    return disparity


def border_pairs(ids: NDArray[np.uint16]) -> NDArray[np.int32]:
    """Pairs i < j of ids that share a pixel side, int32 [E, 2], sorted, each once."""
    keys = [_ordered_keys(ids[:, :-1], ids[:, 1:]), _ordered_keys(ids[:-1], ids[1:])]
    unique = np.unique(np.concatenate(keys))
    return np.stack([unique >> 16, unique & 0xFFFF], axis=1).astype(np.int32)


def _ordered_keys(a: NDArray[np.uint16], b: NDArray[np.uint16]) -> NDArray[np.uint32]:
    differ = a != b
    low, high = np.minimum(a, b)[differ], np.maximum(a, b)[differ]
    return np.left_shift(low, 16, dtype=np.uint32) | high


@njit(cache=True, nogil=True)
def _centres(ids, depth, intrinsics):
    """Mean position [P, 3] and covariance [P, 3, 3] of each superpixel, axes in units of the
    image's standard deviation."""
    count = int(ids.max()) + 1
    size = np.zeros(count)
    total = np.zeros((count, 3))
    product = np.zeros((count, 3, 3))
    fx, fy, cx, cy = intrinsics
    point = np.empty(3)
    for row in range(ids.shape[0]):
        for column in range(ids.shape[1]):
            z = depth[row, column]
            point[0], point[1], point[2] = (column - cx) / fx * z, (cy - row) / fy * z, z
            i = ids[row, column]
            size[i] += 1
            for a in range(3):
                total[i, a] += point[a]
                for b in range(a, 3):
                    product[i, a, b] += point[a] * point[b]
    deviation = np.empty(3)
    for a in range(3):
        variance = product[:, a, a].sum() / ids.size - (total[:, a].sum() / ids.size) ** 2
        deviation[a] = np.sqrt(variance) if variance > 1e-12 else 1.0
    centre = np.empty((count, 3))
    for i in range(count):
        for a in range(3):
            centre[i, a] = total[i, a] / size[i]
        for a in range(3):
            for b in range(a, 3):
                spread = product[i, a, b] / size[i] - centre[i, a] * centre[i, b]
                spread /= deviation[a] * deviation[b]
                product[i, a, b] = product[i, b, a] = spread
        for a in range(3):
            centre[i, a] /= deviation[a]
    return centre, product


def _mean_colours(image: NDArray[np.uint8], ids: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Mean CIELAB colour [P, 3], L in 0..100."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    flat = ids.ravel()
    size = np.bincount(flat)
    return np.stack([np.bincount(flat, lab[..., c].ravel()) / size for c in range(3)], axis=1)
