"""SLIC superpixels with the boundary recall of scikit-image's.

Achanta et al. 2012, "SLIC superpixels compared to state-of-the-art superpixel methods", IEEE TPAMI
34(11). k-means over colour and position, initialised on a grid. A pixel is compared with the nine
centres whose grid cells surround its own, as Ren and Reid 2011 (gSLIC) do on GPUs, so that each
iteration is one pass over the image.
"""

from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

_ITERATIONS = 5  # more do not change boundary recall and leakage


def superpixels(
    image: NDArray[np.uint8], count: int, compactness: float = 10.0, sigma: float = 1.0
) -> NDArray[np.uint16]:
    """Segment an image into about ``count`` compact superpixels of similar colour.

    Args:
        image: uint8 [H, W, 3] RGB.
        count: target number, at least 1; texture can change it by 20 %.
        compactness: CIELAB difference (L in 0..100) that counts as much as one grid step.
        sigma: standard deviation of the Gaussian blur beforehand, in pixels; 0 for none.

    Returns:
        uint16 [H, W] ids 0..P-1 in scan order, each 4-connected.
    """
    smooth: NDArray[Any] = image.astype(np.float32) / 255.0
    if sigma > 0:
        smooth = cv2.GaussianBlur(smooth, (0, 0), sigma)
    lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB)
    height, width = image.shape[:2]
    rows = int(np.clip(round(np.sqrt(count * height / width)), 1, height))
    columns = int(np.clip(round(count / rows), 1, width))
    step = np.sqrt(height * width / (rows * columns))
    nearest = _nearest_centres(lab, rows, columns, np.float32((compactness / step) ** 2))
    least_size = step**2 / 4
    components = _connected_components(lab, nearest, least_size)
    while components.max() > 0xFFFF:  # only for a fine grid over pure noise
        least_size *= 2
        components = _connected_components(lab, nearest, least_size)
    return components.astype(np.uint16)


@njit(cache=True, nogil=True, fastmath=True)
def _nearest_centres(lab, rows, columns, spatial):
    """k-means: index of each pixel's centre, int32 [H, W]."""
    height, width = lab.shape[:2]
    nearest = np.empty((height, width), np.int32)
    for y in range(height):
        for x in range(width):
            nearest[y, x] = (y * rows // height) * columns + x * columns // width
    centres = np.zeros((rows * columns, 5), np.float32)
    _update_centres(lab, nearest, centres)
    for _ in range(_ITERATIONS):
        for row in range(rows):
            for column in range(columns):
                _assign_cell(lab, nearest, centres, row, column, rows, columns, spatial)
        _update_centres(lab, nearest, centres)
    return nearest


@njit(cache=True, nogil=True, fastmath=True)
def _assign_cell(lab, nearest, centres, row, column, rows, columns, spatial):
    """Nearest of the surrounding centres for the pixels of one grid cell."""
    height, width = nearest.shape
    # pixels with (y * rows // height) == row
    top, bottom = -(-row * height // rows), -(-(row + 1) * height // rows)
    left, right = -(-column * width // columns), -(-(column + 1) * width // columns)
    least = np.empty(right - left, np.float32)
    for y in range(top, bottom):
        least[:] = np.inf
        for r in range(max(row - 1, 0), min(row + 2, rows)):
            for c in range(max(column - 1, 0), min(column + 2, columns)):
                index = r * columns + c
                l0, a0, b0, y0, x0 = centres[index]
                along = spatial * (y - y0) ** 2
                for x in range(left, right):
                    distance = (
                        (lab[y, x, 0] - l0) ** 2
                        + (lab[y, x, 1] - a0) ** 2
                        + (lab[y, x, 2] - b0) ** 2
                        + along
                        + spatial * (np.float32(x) - x0) ** 2
                    )
                    if distance < least[x - left]:
                        least[x - left] = distance
                        nearest[y, x] = index


@njit(cache=True, nogil=True)
def _update_centres(lab, nearest, centres):
    """Mean colour and position (L, a, b, y, x) of each centre's pixels; empty ones keep theirs."""
    total = np.zeros((len(centres), 5))
    size = np.zeros(len(centres))
    for y in range(nearest.shape[0]):
        for x in range(nearest.shape[1]):
            i = nearest[y, x]
            size[i] += 1
            total[i, 0] += lab[y, x, 0]
            total[i, 1] += lab[y, x, 1]
            total[i, 2] += lab[y, x, 2]
            total[i, 3] += y
            total[i, 4] += x
    for i in range(len(centres)):
        if size[i] > 0:
            for k in range(5):
                centres[i, k] = total[i, k] / size[i]


@njit(cache=True, nogil=True)
def _connected_components(lab, nearest, least_size):
    """4-connected components numbered in scan order.

    A component below ``least_size`` joins the earlier neighbour with the smallest colour difference
    along their border; joining any neighbour, as is usual, doubles the leakage between objects.
    """
    height, width = nearest.shape
    components = np.full((height, width), -1, np.int32)
    stack = np.empty((height * width, 2), np.int32)
    count = 0
    for top in range(height):
        for left in range(width):
            if components[top, left] >= 0:
                continue
            components[top, left] = count
            stack[0, 0], stack[0, 1] = top, left
            size, seen = 1, 0
            closest, difference = -1, np.inf
            while seen < size:
                y, x = stack[seen]
                seen += 1
                for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
                    v, u = y + dy, x + dx
                    if v < 0 or v >= height or u < 0 or u >= width:
                        continue
                    if components[v, u] < 0 and nearest[v, u] == nearest[top, left]:
                        components[v, u] = count
                        stack[size, 0], stack[size, 1] = v, u
                        size += 1
                    elif 0 <= components[v, u] < count:
                        step = 0.0
                        for c in range(3):
                            step += (lab[v, u, c] - lab[y, x, c]) ** 2
                        if step < difference:
                            closest, difference = components[v, u], step
            if size < least_size and closest >= 0:
                for k in range(size):
                    components[stack[k, 0], stack[k, 1]] = closest
            else:
                count += 1
    return components
