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

ITERATIONS = 5  # more do not change boundary recall and leakage
_FAR = np.float32(1e30)  # squared distance of a centre that is not there


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
    spatial = np.float32((compactness / step) ** 2)
    nearest = _nearest_centres(np.ascontiguousarray(lab.swapaxes(1, 2)), rows, columns, spatial)
    least_size = step**2 / 4
    components = _connected_components(lab, nearest, least_size)
    while components.max() > 0xFFFF:  # only for a fine grid over pure noise
        least_size *= 2
        components = _connected_components(lab, nearest, least_size)
    return components.astype(np.uint16)


@njit(cache=True, nogil=True, fastmath=True)
def _nearest_centres(pixels, rows, columns, spatial):
    """k-means of pixels [H, 3, W]: index of each pixel's centre, int32 [H, W]."""
    height, _, width = pixels.shape
    nearest = np.empty((height, width), np.int32)
    for y in range(height):
        for x in range(width):
            nearest[y, x] = (y * rows // height) * columns + x * columns // width
    centres = np.zeros((rows * columns, 5), np.float32)
    _update_centres(pixels, nearest, centres)
    for _ in range(ITERATIONS):
        _assign(pixels, nearest, centres, rows, columns, spatial)
        _update_centres(pixels, nearest, centres)
    return nearest


@njit(cache=True, nogil=True, fastmath=True)
def _assign(pixels, nearest, centres, rows, columns, spatial):
    """Nearest of the nine surrounding centres for every pixel.

    What the pixels of a row are compared with is laid out as rows, so that the comparison runs over
    a whole row at once. Three rows of cells are in use at a time, each at three offsets.
    """
    height, _, width = pixels.shape
    beside = np.empty((9, 5, width), np.float32)
    index = np.empty((9, width), np.int32)
    least = np.empty(width, np.float32)
    _lay_out(beside, index, centres, 0, columns, spatial)
    for row in range(rows):
        if row + 1 < rows:
            _lay_out(beside, index, centres, row + 1, columns, spatial)
        # pixels with (y * rows // height) == row
        for y in range(-(-row * height // rows), -(-(row + 1) * height // rows)):
            least[:] = np.inf
            for r in range(max(row - 1, 0), min(row + 2, rows)):
                for k in range(3 * (r % 3), 3 * (r % 3) + 3):
                    _compare(pixels[y], beside[k], index[k], spatial, y, least, nearest[y])


@njit(cache=True, nogil=True, fastmath=True)
def _lay_out(beside, index, centres, row, columns, spatial):
    """The centres of a row of cells, shifted by -1, 0 and 1 cells, for every column of pixels.

    ``beside`` gets L, a, b, y and the squared distance along x of each.
    """
    width = index.shape[1]
    for shift in range(3):
        k = 3 * (row % 3) + shift
        for column in range(columns):
            c = column + shift - 1
            i = row * columns + min(max(c, 0), columns - 1)
            lightness, a, b, y0, x0 = centres[i]
            for x in range(-(-column * width // columns), -(-(column + 1) * width // columns)):
                along = spatial * (np.float32(x) - x0) ** 2
                beside[k, 0, x], beside[k, 1, x], beside[k, 2, x] = lightness, a, b
                beside[k, 3, x] = y0
                beside[k, 4, x] = along if 0 <= c < columns else _FAR
                index[k, x] = i


@njit(cache=True, nogil=True, fastmath=True)
def _compare(pixels, beside, index, spatial, y, least, nearest):
    """One candidate for each pixel of a row: what is nearer replaces ``least`` and ``nearest``."""
    height = np.float32(y)
    for x in range(len(least)):
        # All values are read first, and both results always written: LLVM makes vectors of this.
        before, candidate, known = least[x], index[x], nearest[x]
        lightness, a = pixels[0, x] - beside[0, x], pixels[1, x] - beside[1, x]
        b, rise = pixels[2, x] - beside[2, x], height - beside[3, x]
        colour = lightness * lightness + a * a + b * b
        distance = colour + spatial * (rise * rise) + beside[4, x]
        least[x] = min(distance, before)
        nearest[x] = candidate if distance < before else known


@njit(cache=True, nogil=True)
def _update_centres(pixels, nearest, centres):
    """Mean colour and position (L, a, b, y, x) of each centre's pixels; empty ones keep theirs."""
    total = np.zeros((len(centres), 6))
    height, width = nearest.shape
    for y in range(height):
        x = 0
        while x < width:  # a run of pixels of one centre
            first, i = x, nearest[y, x]
            lightness = a = b = 0.0
            while x < width and nearest[y, x] == i:
                lightness += pixels[y, 0, x]
                a += pixels[y, 1, x]
                b += pixels[y, 2, x]
                x += 1
            length, own = x - first, total[i]
            own[0] += lightness
            own[1] += a
            own[2] += b
            own[3] += length * y
            own[4] += length * (first + x - 1) / 2
            own[5] += length
    for i in range(len(centres)):
        if total[i, 5] > 0:
            for k in range(5):
                centres[i, k] = total[i, k] / total[i, 5]


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
