"""The superpixel adjacency graph of a frame, with edge dissimilarities from depth and colour."""

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cpcdr.regions.config import RegionConfig
from cpcdr.regions.superpixels import superpixels
from cpcdr.runtime.errors import FrameError

_FARTHEST_DISPARITY = 0.005  # of the paper's term: z = 1 / max(disparity, this)
_LEAST_RANGE = 1e-3  # of disparity, relative to the largest: below it a map is flat
# Standard deviation of disparity: a part of its value, and a part of the frame's near disparity,
# which is the error of parallax and leaves the far plane one surface.
_RELATIVE_ERROR, _PARALLAX_ERROR = 0.05, 0.02
_NEAR = 90.0  # percentile of disparity that is the frame's scale: the road before the camera
_LEAST_SPREAD = 0.3  # px²: slopes of disparity over the smallest superpixels are damped
_COLOUR = 10.0  # CIELAB difference that counts as one
_ON_ONE_SURFACE = 25.0  # percentile of the frame's neighbours whose difference is noise


@dataclass(frozen=True, eq=False)
class SuperpixelGraph:
    """What grouping needs of a frame; stored with it, so that regrouping needs no pixels.

    Attributes:
        superpixels: uint16 [H, W] ids 0..P-1, all in use.
        edges: int32 [E, 2] pairs i < j that share a border (4-neighbourhood), sorted.
        distance: float32 [E] dissimilarity d >= 0 before the sigmoid: the weighted sum of the
            terms.
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
    """Superpixels of the image and how much neighbours differ in depth and colour.

    Of each pair, d is the weighted sum of

    - *plane*: how far the disparity of each centre lies off the plane through the other
      superpixel, in units of disparity's uncertainty. A plane in space is a plane in (column, row,
      disparity), so road and walls have distance 0 at any range, and so has everything whose
      parallax is below the uncertainty. A common factor of all disparity changes nothing.
    - *colour*: the CIELAB distance of mean colours, in units of 10.

    both above the first quartile of the frame, the noise between neighbours on one surface; and

    - *centre*: the paper's |c1 - c2| / (z1 + z2) of centres in space, each axis divided by its
      standard deviation over the image.

    Args:
        image: uint8 [H, W, 3] RGB.
        disparity: float32 [H, W]; pixels that are 0, negative or not finite take the value of the
            nearest valid pixel.
        intrinsics: [4] fx, fy, cx, cy in pixels.

    Raises:
        FrameError: shapes that disagree, unusable intrinsics, or disparity without valid pixels or
            range.
    """
    _check(image, disparity, intrinsics)
    disparity = _fill_holes(disparity.astype(np.float32))
    count = config.superpixel_count(*disparity.shape)
    ids = superpixels(image, count, config.compactness, config.sigma)
    edges = border_pairs(ids)
    distance = np.zeros(len(edges))
    if config.plane_weight:
        distance += config.plane_weight * _above_noise(_plane_distance(ids, disparity, edges))
    if config.colour_weight:
        distance += config.colour_weight * _above_noise(_colour_distance(ids, image, edges))
    if config.centre_weight:
        distance += config.centre_weight * _centre_distance(ids, disparity, intrinsics, edges)
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
    if np.ptp(disparity) < _LEAST_RANGE * disparity.max():
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


def _above_noise(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """What exceeds the noise of the frame, [E]."""
    if not len(distance):
        return distance
    return np.maximum(distance - np.percentile(distance, _ON_ONE_SURFACE), 0.0)


def _plane_distance(
    ids: NDArray[np.uint16], disparity: NDArray[np.float32], edges: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Disparity off each other's plane over its uncertainty, mean of both directions, [E]."""
    u, v, d, slope_u, slope_v, residual = _planes(ids, disparity, _LEAST_SPREAD).T
    i, j = edges.T
    right, down, nearer = u[j] - u[i], v[j] - v[i], d[j] - d[i]
    off = np.abs(nearer - slope_u[i] * right - slope_v[i] * down)
    off += np.abs(nearer - slope_u[j] * right - slope_v[j] * down)
    expected = _RELATIVE_ERROR * np.maximum(d[i], d[j]) + _PARALLAX_ERROR * np.percentile(d, _NEAR)
    variance = expected**2 + (residual[i] + residual[j]) / 2
    return np.asarray(off / 2 / np.sqrt(variance))


@njit(cache=True, nogil=True)
def _planes(ids, disparity, least_spread):
    """Each superpixel's mean column, row and disparity, the slopes of the least-squares plane
    through its disparity, and the mean square distance from that plane: [P, 6]."""
    total = np.zeros((int(ids.max()) + 1, 10))
    for row in range(ids.shape[0]):
        for column in range(ids.shape[1]):
            one, u, v, d = (
                total[ids[row, column]],
                float(column),
                float(row),
                disparity[row, column],
            )
            one[0] += 1
            one[1] += u
            one[2] += v
            one[3] += d
            one[4] += u * u
            one[5] += u * v
            one[6] += v * v
            one[7] += d * u
            one[8] += d * v
            one[9] += d * d
    planes = np.empty((len(total), 6))
    for i in range(len(total)):
        mean = total[i] / total[i, 0]
        u, v, d = mean[1], mean[2], mean[3]
        uu, uv, vv = mean[4] - u * u + least_spread, mean[5] - u * v, mean[6] - v * v + least_spread
        du, dv = mean[7] - d * u, mean[8] - d * v
        slope_u = (vv * du - uv * dv) / (uu * vv - uv * uv)
        slope_v = (uu * dv - uv * du) / (uu * vv - uv * uv)
        residual = mean[9] - d * d - slope_u * du - slope_v * dv
        planes[i] = u, v, d, slope_u, slope_v, max(residual, 0.0)
    return planes


def _colour_distance(
    ids: NDArray[np.uint16], image: NDArray[np.uint8], edges: NDArray[np.int32]
) -> NDArray[np.float64]:
    """CIELAB distance of mean colours in units of 10, [E]."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    colour = _mean_colours(ids, lab)
    return np.asarray(np.linalg.norm(colour[edges[:, 1]] - colour[edges[:, 0]], axis=1) / _COLOUR)


@njit(cache=True, nogil=True)
def _mean_colours(ids, lab):
    """Mean CIELAB colour of each superpixel [P, 3], L in 0..100."""
    total, size = np.zeros((int(ids.max()) + 1, 3)), np.zeros((int(ids.max()) + 1, 1))
    for row in range(ids.shape[0]):
        for column in range(ids.shape[1]):
            i = ids[row, column]
            size[i, 0] += 1
            for c in range(3):
                total[i, c] += lab[row, column, c]
    return total / size


def _centre_distance(
    ids: NDArray[np.uint16],
    disparity: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    edges: NDArray[np.int32],
) -> NDArray[np.float64]:
    """Distance of centres in space relative to their depth, [E]: x right, y up, z forward."""
    depth = 1.0 / np.maximum(disparity, _FARTHEST_DISPARITY)
    centre = _centres(ids, depth, intrinsics.astype(np.float64))
    a, b = centre[edges[:, 0]], centre[edges[:, 1]]
    return np.asarray(np.linalg.norm(b - a, axis=1) / (a[:, 2] + b[:, 2]))


@njit(cache=True, nogil=True)
def _centres(ids, depth, intrinsics):
    """Mean position [P, 3] of each superpixel, axes in units of the image's standard deviation."""
    count = int(ids.max()) + 1
    size, centre = np.zeros((count, 1)), np.zeros((count, 3))
    total, square = np.zeros(3), np.zeros(3)
    fx, fy, cx, cy = intrinsics
    point = np.empty(3)
    for row in range(ids.shape[0]):
        for column in range(ids.shape[1]):
            z = depth[row, column]
            point[0], point[1], point[2] = (column - cx) / fx * z, (cy - row) / fy * z, z
            size[ids[row, column], 0] += 1
            centre[ids[row, column]] += point
            total += point
            square += point * point
    variance = square / ids.size - (total / ids.size) ** 2
    return centre / size / np.sqrt(np.where(variance > 1e-12, variance, 1.0))
