"""Direct alignment's normal equations for CPU cores: one pass over the pixels for each pose.

The twin of `cpcdr.depth.alignment.normal_equations`, which makes every intermediate in memory.
Imported on first use, since numba is slow to import.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from cpcdr.depth.alignment import HUBER

# Sums may be taken in any order, so that they are taken many at a time.
_jit = numba.njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz", "reassoc"})

_F: Any = np.float32
_ZERO, _HALF, _ONE = _F(0), _F(0.5), _F(1)
_NEAR = _F(1e-6)
_HUBER = _F(HUBER)


def normal_equations(
    target: Tensor,
    sources: Tensor,
    disparity: Tensor,
    jacobian: Tensor,
    poses: Tensor,
    intrinsics: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The fields of `cpcdr.depth.alignment.NormalEquations`, of float32 tensors."""
    inputs = (target, sources, disparity, jacobian, poses, intrinsics)
    arrays = [t.contiguous().numpy() for t in inputs]
    frames, batch = poses.shape[:2]
    hessian = np.zeros((frames, batch, 7, 7), _F)
    gradient = np.zeros((frames, batch, 7), _F)
    cost = np.empty((frames, batch), _F)

    def one(item: int) -> None:
        _item(item, *arrays, hessian, gradient, cost)  # type: ignore[call-arg]

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(one, range(batch)))
    return torch.from_numpy(hessian), torch.from_numpy(gradient), torch.from_numpy(cost)


@_jit
def _item(  # type: ignore[no-untyped-def]
    item, target, sources, disparity, jacobian, poses, intrinsics, hessian, gradient, cost
):
    height, width = target.shape[1:]
    residuals, weights, weighted = np.empty((3, width), _F)
    for frame in range(len(sources)):
        total, seen = 0.0, 0
        for row in range(height):
            row_cost, row_seen = _residuals(
                row, target[item, row], sources[frame, item], disparity[item, row],
                poses[frame, item], intrinsics[item], residuals, weights,
            )  # fmt: skip
            total += row_cost
            seen += row_seen
            _accumulate(
                row, jacobian[item], residuals, weights, weighted,
                hessian[frame, item], gradient[frame, item],
            )  # fmt: skip
        for i in range(7):
            for j in range(i):
                hessian[frame, item, j, i] = hessian[frame, item, i, j]
        cost[frame, item] = np.inf if 4 * seen < height * width else total / seen


@_jit
def _residuals(  # type: ignore[no-untyped-def]
    row, target, source, disparity, pose, camera, residuals, weights
):
    """Fills a row of the view minus the target, and of Huber's weights, 0 where nothing is seen.

    Returns:
        The sum of Huber's costs and the number of pixels that are seen.
    """
    height, width = source.shape
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    y = (_F(row) - cy) / fy
    right, bottom = _F(width - 1), _F(height - 1)
    cost, seen = _ZERO, 0
    for j in range(width):
        x, d = (_F(j) - cx) / fx, disparity[j]
        z = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] + pose[2, 3] * d
        weights[j] = residuals[j] = _ZERO
        if z <= _NEAR:
            continue
        u = fx * (pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] + pose[0, 3] * d) / z + cx
        v = fy * (pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] + pose[1, 3] * d) / z + cy
        if not (-_HALF <= u <= right + _HALF and -_HALF <= v <= bottom + _HALF):
            continue
        u, v = min(max(u, _ZERO), right), min(max(v, _ZERO), bottom)
        left, top = min(int(u), width - 2), min(int(v), height - 2)
        a, b = u - _F(left), v - _F(top)
        upper = (_ONE - a) * source[top, left] + a * source[top, left + 1]
        lower = (_ONE - a) * source[top + 1, left] + a * source[top + 1, left + 1]
        residual = (_ONE - b) * upper + b * lower - target[j]
        size = abs(residual)
        residuals[j] = residual
        if size < _HUBER:
            weights[j] = _ONE
            cost += size * size / (_HUBER + _HUBER)
        else:
            weights[j] = _HUBER / size
            cost += size - _HALF * _HUBER
        seen += 1
    return cost, seen


@_jit
def _accumulate(  # type: ignore[no-untyped-def]
    row, jacobian, residuals, weights, weighted, hessian, gradient
):
    """Adds a row of [7, H, W] to the lower triangle of the Hessian and to the gradient."""
    width = len(residuals)
    for i in range(7):
        of_i = jacobian[i, row]
        total = _ZERO
        for k in range(width):
            weighted[k] = weights[k] * of_i[k]
            total += weighted[k] * residuals[k]
        gradient[i] += total
        for j in range(i + 1):
            of_j = jacobian[j, row]
            total = _ZERO
            for k in range(width):
                total += weighted[k] * of_j[k]
            hessian[i, j] += total
