"""SLIC's k-means in its plain form, pixel by pixel: the reference of the fast one."""

import numpy as np
from numba import njit

ITERATIONS = 5


@njit
def nearest_centres(lab, rows, columns, spatial):
    """k-means of lab [H, W, 3]: index of each pixel's centre, int32 [H, W]."""
    height, width = lab.shape[:2]
    nearest = np.empty((height, width), np.int32)
    for y in range(height):
        for x in range(width):
            nearest[y, x] = (y * rows // height) * columns + x * columns // width
    centres = np.zeros((rows * columns, 5), np.float32)
    update_centres(lab, nearest, centres)
    for _ in range(ITERATIONS):
        for row in range(rows):
            for column in range(columns):
                assign_cell(lab, nearest, centres, row, column, rows, columns, spatial)
        update_centres(lab, nearest, centres)
    return nearest


@njit
def assign_cell(lab, nearest, centres, row, column, rows, columns, spatial):
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


@njit
def update_centres(lab, nearest, centres):
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
