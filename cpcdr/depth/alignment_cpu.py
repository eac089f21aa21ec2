"""Direct alignment's normal equations for CPU cores: one pass over the pixels per pose.

The counterpart of `cpcdr.depth.alignment.normal_equations`, which stores every intermediate.
Imported on first use: numba is slow to import.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

# Reassociation allows sums to be vectorised.
_jit = numba.njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz", "reassoc"})

_F: Any = np.float32
_ZERO, _HALF, _ONE = _F(0), _F(0.5), _F(1)
_NEAR, _FAR = _F(1e-6), _F(-1e9)


def normal_equations(
    target: Tensor,
    sources: Tensor,
    disparity: Tensor,
    jacobian: Tensor,
    shifts: Tensor,
    poses: Tensor,
    intrinsics: Tensor,
    variances: tuple[float, float, float],
) -> tuple[Tensor, Tensor, Tensor]:
    """The fields of `cpcdr.depth.alignment.NormalEquations`, of float32 tensors.

    Args:
        variances: of grey values, of log depth, and of Cauchy's function in units of both
            together. The others are as in the tensor version.
    """
    inputs = (target, sources, disparity, jacobian, shifts, poses, intrinsics)
    arrays = [t.contiguous().numpy() for t in inputs]
    limits = np.array(variances, _F)
    frames, batch = poses.shape[:2]
    hessian = np.zeros((frames, batch, 7, 7), _F)
    gradient = np.zeros((frames, batch, 7), _F)
    cost = np.empty((frames, batch), _F)

    def run(item: int) -> None:
        _item(item, limits, *arrays, hessian, gradient, cost)  # type: ignore[call-arg]

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(run, range(batch)))
    return torch.from_numpy(hessian), torch.from_numpy(gradient), torch.from_numpy(cost)


@_jit
def _item(
    item, variances, target, sources, disparity, jacobian, shifts, poses, intrinsics,
    hessian, gradient, cost,
):  # fmt: skip
    height, width = target.shape[1:]
    residuals, weights, us, vs = np.empty((4, width), _F)
    for frame in range(len(sources)):
        total, seen = 0.0, 0
        for row in range(height):
            _reproject(row, disparity[item], poses[frame, item], intrinsics[item], us, vs)
            seen += _sample(row, target[item], sources[frame, item], us, vs, residuals, weights)
            total += _weigh(row, variances, jacobian[item], shifts[frame, item], residuals, weights)
            _accumulate(
                row, jacobian[item], residuals, weights, us,
                hessian[frame, item], gradient[frame, item],
            )  # fmt: skip
        for i in range(7):
            for j in range(i):
                hessian[frame, item, j, i] = hessian[frame, item, i, j]
        cost[frame, item] = np.inf if 4 * seen < height * width else total / seen


@_jit
def _reproject(row, disparity, pose, camera, us, vs):
    """Writes where a row of pixels lies in the source; far outside it if behind the camera."""
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    y = (_F(row) - cy) / fy
    x0, x1, x3 = pose[0, 0], pose[0, 1] * y + pose[0, 2], pose[0, 3]
    y0, y1, y3 = pose[1, 0], pose[1, 1] * y + pose[1, 2], pose[1, 3]
    z0, z1, z3 = pose[2, 0], pose[2, 1] * y + pose[2, 2], pose[2, 3]
    for j in range(len(us)):
        x, d = (_F(j) - cx) / fx, disparity[row, j]
        z = z0 * x + z1 + z3 * d
        scale = _ONE / z
        u = fx * (x0 * x + x1 + x3 * d) * scale + cx
        us[j] = u if z > _NEAR else _FAR
        vs[j] = fy * (y0 * x + y1 + y3 * d) * scale + cy


@_jit
def _sample(row, target, source, us, vs, residuals, weights):
    """Writes warped source minus target, and weight 1 inside the source, else 0; counts those."""
    height, width = source.shape
    right, bottom = _F(width - 1), _F(height - 1)
    seen = 0
    for j in range(width):
        u, v = us[j], vs[j]
        residuals[j] = weights[j] = _ZERO
        if not (-_HALF <= u <= right + _HALF and -_HALF <= v <= bottom + _HALF):
            continue
        u, v = min(max(u, _ZERO), right), min(max(v, _ZERO), bottom)
        left, top = min(int(u), width - 2), min(int(v), height - 2)
        a, b = u - _F(left), v - _F(top)
        upper = (_ONE - a) * source[top, left] + a * source[top, left + 1]
        lower = (_ONE - a) * source[top + 1, left] + a * source[top + 1, left + 1]
        residuals[j] = (_ONE - b) * upper + b * lower - target[row, j]
        weights[j] = _ONE
        seen += 1
    return seen


@_jit
def _weigh(row, variances, jacobian, shift, residuals, weights):
    """Divides weights by variance and Cauchy's function; returns the sum of the row's costs."""
    cost = 0.0
    for start in range(0, len(residuals), 64):  # a product of more factors might overflow
        product = 1.0
        for j in range(start, min(start + 64, len(residuals))):
            with_depth = (
                shift[0] * jacobian[3, row, j]
                + shift[1] * jacobian[4, row, j]
                + shift[2] * jacobian[5, row, j]
            )
            variance = variances[0] + variances[1] * with_depth * with_depth
            excess = _ONE + residuals[j] * residuals[j] / (variances[2] * variance)
            weights[j] /= variance * excess
            product *= excess
        cost += np.log(product)
    return cost


@_jit
def _accumulate(row, jacobian, residuals, weights, weighted, hessian, gradient):
    """Adds a row of [7, H, W] to the lower triangle of the Hessian and to the gradient."""
    width = len(residuals)
    for i in range(7):
        slope_i = jacobian[i, row]
        total = _ZERO
        for k in range(width):
            weighted[k] = weights[k] * slope_i[k]
            total += weighted[k] * residuals[k]
        gradient[i] += total
        for j in range(i + 1):
            slope_j = jacobian[j, row]
            total = _ZERO
            for k in range(width):
                total += weighted[k] * slope_j[k]
            hessian[i, j] += total
