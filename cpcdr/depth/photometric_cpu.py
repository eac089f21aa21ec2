"""The photometric loss for CPU cores: value and gradient in one pass over each view.

The counterpart of the tensor code in ``photometric.py``, which stores every intermediate and reads
it again for the gradient. Here a view is sampled, compared and differentiated while it is in the
cache. The loss is a plain sum, so gradients are computed with the value, and only those of
disparity, pose and intrinsics are kept. Imported on first use: numba is slow to import.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

_jit = numba.njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz"})

_F: Any = np.float32
_ZERO, _HALF, _ONE, _TWO = _F(0), _F(0.5), _F(1), _F(2)
_C1, _C2 = _F(0.01**2), _F(0.03**2)
_NINTH, _CHANNEL = _F(1 / 9), _F(1 / 3)
_SSIM, _L1 = _F(0.85), _F(0.15)
_NEAR = _F(1e-6)


def photometric_loss(
    target: Tensor, sources: Tensor, disparities: Tensor, poses: Tensor, intrinsics: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The fields of `cpcdr.depth.photometric.Photometric`, of float32 tensors."""
    return _Photometric.apply(target, sources, disparities, poses, intrinsics)


class _Photometric(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        arrays = [t.detach().contiguous().numpy() for t in tensors]
        batch, scales, height, width = tensors[2].shape
        frames = len(tensors[1])
        to_disparity = np.zeros((batch, scales, height, width), _F)
        to_pose = np.zeros((frames, batch, 4, 4), _F)
        to_camera = np.zeros((batch, 4), _F)
        error, identity = np.empty((2, batch, height, width), _F)
        mask = np.empty((batch, height, width), np.bool_)
        views = np.empty((batch, 3, height, width), _F)
        outputs = (to_disparity, to_pose, to_camera, error, identity, mask, views)

        def run(item: int) -> float:
            return _item(item, *arrays, *outputs)  # type: ignore[call-arg]

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            total = sum(pool.map(run, range(batch)))
        weight = 1.0 / to_disparity.size
        ctx.save_for_backward(
            *(torch.from_numpy(a).mul_(weight) for a in (to_disparity, to_pose, to_camera))
        )
        loss = tensors[0].new_tensor(total * weight)
        results = tuple(torch.from_numpy(a) for a in (error, identity, mask, views))
        ctx.mark_non_differentiable(*results)
        return loss, *results

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        disparity, pose, camera = (g * gradient for g in ctx.saved_tensors)
        return None, None, disparity, pose, camera


def _item(
    item, target, sources, disparities, poses, intrinsics,
    to_disparity, to_pose, to_camera, error, identity, mask, synthesised,
):  # fmt: skip
    """The sum of one item's per-pixel losses over its scales; writes the item's outputs.

    Not compiled: numba would inline and recompile each loop below.
    """
    frames, scales = len(sources), disparities.shape[1]
    height, width = disparities.shape[2:]
    y = np.empty((3, height + 2, width + 2), _F)
    y_mean, y_variance = np.empty((2, 3, height, width), _F)
    for channel in range(3):
        _pad(target[item, channel], y[channel])
        _moments(y[channel], y_mean[channel], y_variance[channel])
    x = np.empty((frames, 3, height + 2, width + 2), _F)
    along = np.empty((frames, 2, 3, height, width), _F)  # derivative of the view by u and by v
    fields = np.empty((frames, 3, 4, height, width), _F)
    errors = np.empty((frames, height, width), _F)
    valid = np.empty((frames, height, width), np.bool_)
    weight = np.empty((frames, height, width), _F)
    for frame in range(frames):
        for channel in range(3):
            _pad(sources[frame, item, channel], x[frame, channel])
        _compare(x[frame], y, y_mean, y_variance, errors[frame], fields[frame])
    errors.min(axis=0, out=identity[item])
    total = 0.0
    for scale in range(scales):
        disparity = disparities[item, scale]
        for frame in range(frames):
            _synthesise(
                sources[frame, item], disparity, poses[frame, item], intrinsics[item],
                x[frame], along[frame], valid[frame],
            )  # fmt: skip
            _compare(x[frame], y, y_mean, y_variance, errors[frame], fields[frame])
        first = scale == 0
        total += _minimum(errors, valid, identity[item], weight, first, error[item], mask[item])
        if first:
            synthesised[item] = x[frames - 1, :, 1:-1, 1:-1]
        for frame in range(frames):
            views = _view_gradient(x[frame], y, fields[frame], weight[frame])
            _backpropagate(
                views, along[frame], disparity, poses[frame, item], intrinsics[item],
                to_disparity[item, scale], to_pose[frame, item], to_camera[item],
            )  # fmt: skip
    return total


@_jit
def _pad(image, out):
    """Reflect borders without repeating the edge: [H, W] -> [H + 2, W + 2]."""
    out[1:-1, 1:-1] = image
    _reflect(out)


@_jit
def _reflect(padded):
    padded[1:-1, 0] = padded[1:-1, 2]
    padded[1:-1, -1] = padded[1:-1, -3]
    padded[0] = padded[2]
    padded[-1] = padded[-3]


@_jit
def _moments(padded, mean, variance):
    height, width = mean.shape
    rows = np.empty((2, width + 2), _F)
    for row in range(height):
        for j in range(width + 2):
            a, b, c = padded[row, j], padded[row + 1, j], padded[row + 2, j]
            rows[0, j] = a + b + c
            rows[1, j] = a * a + b * b + c * c
        for j in range(width):
            m = (rows[0, j] + rows[0, j + 1] + rows[0, j + 2]) * _NINTH
            mean[row, j] = m
            variance[row, j] = (rows[1, j] + rows[1, j + 1] + rows[1, j + 2]) * _NINTH - m * m


@_jit
def _compare(x, y, y_mean, y_variance, error, fields):
    """Per-pixel error of a view, and its derivatives.

    ``fields`` [3, 4, H, W]: derivative of a pixel's error by its window's mean, mean square and
    mean product with the target, and by the pixel itself.
    """
    height, width = error.shape
    rows = np.empty((3, width + 2), _F)
    error[:] = _ZERO
    for channel in range(3):
        xc, yc = x[channel], y[channel]
        by_mean, by_square, by_product, by_pixel = fields[channel]
        for row in range(height):
            for j in range(width + 2):
                a, b, c = xc[row, j], xc[row + 1, j], xc[row + 2, j]
                rows[0, j] = a + b + c
                rows[1, j] = a * a + b * b + c * c
                rows[2, j] = a * yc[row, j] + b * yc[row + 1, j] + c * yc[row + 2, j]
            for j in range(width):
                m = (rows[0, j] + rows[0, j + 1] + rows[0, j + 2]) * _NINTH
                square = (rows[1, j] + rows[1, j + 1] + rows[1, j + 2]) * _NINTH
                product = (rows[2, j] + rows[2, j + 1] + rows[2, j + 2]) * _NINTH
                n = y_mean[channel, row, j]
                a1 = _TWO * m * n + _C1
                a2 = _TWO * (product - m * n) + _C2
                b1 = m * m + n * n + _C1
                b2 = square - m * m + y_variance[channel, row, j] + _C2
                inverse = _ONE / (b1 * b2)
                ssim = a1 * a2 * inverse
                distance = (_ONE - ssim) * _HALF
                inside = (distance >= _ZERO) & (distance <= _ONE)
                slope = -_HALF * _SSIM * _CHANNEL if inside else _ZERO
                distance = min(max(distance, _ZERO), _ONE)
                off = xc[row + 1, j + 1] - yc[row + 1, j + 1]
                error[row, j] += _CHANNEL * (_SSIM * distance + _L1 * abs(off))
                by_mean[row, j] = slope * (
                    _TWO * n * (a2 - a1) * inverse - _TWO * m * ssim * (b2 - b1) * inverse
                )
                by_square[row, j] = -slope * ssim * b1 * inverse
                by_product[row, j] = slope * _TWO * a1 * inverse
                by_pixel[row, j] = np.sign(off) * _L1 * _CHANNEL


@_jit
def _synthesise(image, disparity, pose, camera, x, along, valid):
    """The source warped to the target (into padded x), and its derivatives by u and v."""
    height, width = disparity.shape
    right, bottom = _F(width - 1), _F(height - 1)
    fx, fy, cx, cy = camera
    tx, ty, tz = pose[0, 3], pose[1, 3], pose[2, 3]
    for row in range(height):
        ray_y = (_F(row) - cy) / fy
        for column in range(width):
            ray_x = (_F(column) - cx) / fx
            d = disparity[row, column]
            px = pose[0, 0] * ray_x + pose[0, 1] * ray_y + pose[0, 2] + tx * d
            py = pose[1, 0] * ray_x + pose[1, 1] * ray_y + pose[1, 2] + ty * d
            pz = pose[2, 0] * ray_x + pose[2, 1] * ray_y + pose[2, 2] + tz * d
            z = max(pz, _NEAR)
            u, v = fx * px / z + cx, fy * py / z + cy
            valid[row, column] = (
                (pz > _NEAR)
                & (u >= -_HALF) & (u <= right + _HALF) & (v >= -_HALF) & (v <= bottom + _HALF)
            )  # fmt: skip
            in_u = _ONE if (u > _ZERO) & (u < right) else _ZERO
            in_v = _ONE if (v > _ZERO) & (v < bottom) else _ZERO
            u, v = min(max(u, _ZERO), right), min(max(v, _ZERO), bottom)
            left, top = int(u), int(v)
            after, below = min(left + 1, width - 1), min(top + 1, height - 1)
            a, b = u - _F(left), v - _F(top)
            for channel in range(3):
                i00, i01 = image[channel, top, left], image[channel, top, after]
                i10, i11 = image[channel, below, left], image[channel, below, after]
                upper, lower = i00 + a * (i01 - i00), i10 + a * (i11 - i10)
                x[channel, row + 1, column + 1] = upper + b * (lower - upper)
                along[0, channel, row, column] = in_u * ((_ONE - b) * (i01 - i00) + b * (i11 - i10))
                along[1, channel, row, column] = in_v * (lower - upper)
    for channel in range(3):
        _reflect(x[channel])


@_jit
def _minimum(errors, valid, identity, weight, first, error, mask):
    """Sum of the per-pixel minimum errors; ``weight`` is 1 for the view that attains it."""
    frames, height, width = errors.shape
    total = 0.0
    weight[:] = _ZERO
    for row in range(height):
        for column in range(width):
            best, least = -1, _ZERO
            for frame in range(frames):
                if valid[frame, row, column] and (best < 0 or errors[frame, row, column] < least):
                    best, least = frame, errors[frame, row, column]
            moved = best >= 0 and least < identity[row, column]
            if moved:
                weight[best, row, column] = _ONE
            total += least if moved else identity[row, column]
            if first:
                mask[row, column] = moved
                error[row, column] = least if best >= 0 else identity[row, column]
    return total


@_jit
def _view_gradient(x, y, fields, weight):
    """Gradient [3, H, W] of the weighted errors with respect to a view's pixels."""
    height, width = weight.shape
    result = np.empty((3, height, width), _F)
    sums = np.zeros((3, height + 4, width + 2), _F)  # over three neighbours in a row, zero borders
    padded = np.empty((height + 2, width + 2), _F)
    line = np.zeros((3, width + 4), _F)
    for channel in range(3):
        for row in range(height):
            for j in range(width):
                w = weight[row, j] * _NINTH
                line[0, j + 2] = w * fields[channel, 0, row, j]
                line[1, j + 2] = w * fields[channel, 1, row, j]
                line[2, j + 2] = w * fields[channel, 2, row, j]
            for k in range(3):
                for j in range(width + 2):
                    sums[k, row + 2, j] = line[k, j] + line[k, j + 1] + line[k, j + 2]
        for i in range(height + 2):
            for j in range(width + 2):
                m = sums[0, i, j] + sums[0, i + 1, j] + sums[0, i + 2, j]
                s = sums[1, i, j] + sums[1, i + 1, j] + sums[1, i + 2, j]
                p = sums[2, i, j] + sums[2, i + 1, j] + sums[2, i + 2, j]
                padded[i, j] = m + _TWO * x[channel, i, j] * s + y[channel, i, j] * p
        padded[2] += padded[0]  # gradients of the reflected borders
        padded[-3] += padded[-1]
        padded[1:-1, 2] += padded[1:-1, 0]
        padded[1:-1, -3] += padded[1:-1, -1]
        for row in range(height):
            for j in range(width):
                pixel = weight[row, j] * fields[channel, 3, row, j]
                result[channel, row, j] = padded[row + 1, j + 1] + pixel
    return result


@_jit
def _backpropagate(views, along, disparity, pose, camera, to_disparity, to_pose, to_camera):
    """Adds a view's gradient to those of disparity, pose and intrinsics."""
    height, width = disparity.shape
    fx, fy, cx, cy = camera
    tx, ty, tz = pose[0, 3], pose[1, 3], pose[2, 3]
    sums = np.zeros((3, 4))
    focal = np.zeros(4)
    for row in range(height):
        ray_y = (_F(row) - cy) / fy
        part = np.zeros((3, 4), _F)
        gfx, gfy, gcx, gcy = _ZERO, _ZERO, _ZERO, _ZERO
        for column in range(width):
            gu, gv = _ZERO, _ZERO
            for channel in range(3):
                gu += views[channel, row, column] * along[0, channel, row, column]
                gv += views[channel, row, column] * along[1, channel, row, column]
            if (gu == _ZERO) & (gv == _ZERO):
                continue
            ray_x = (_F(column) - cx) / fx
            d = disparity[row, column]
            px = pose[0, 0] * ray_x + pose[0, 1] * ray_y + pose[0, 2] + tx * d
            py = pose[1, 0] * ray_x + pose[1, 1] * ray_y + pose[1, 2] + ty * d
            pz = pose[2, 0] * ray_x + pose[2, 1] * ray_y + pose[2, 2] + tz * d
            z = max(pz, _NEAR)
            x, y = px / z, py / z
            gx, gy = gu * fx / z, gv * fy / z
            gz = -(gx * x + gy * y) if pz > _NEAR else _ZERO
            to_disparity[row, column] += gx * tx + gy * ty + gz * tz
            for axis, g in enumerate((gx, gy, gz)):
                part[axis, 0] += g * ray_x
                part[axis, 1] += g * ray_y
                part[axis, 2] += g
                part[axis, 3] += g * d
            ray_gx = pose[0, 0] * gx + pose[1, 0] * gy + pose[2, 0] * gz
            ray_gy = pose[0, 1] * gx + pose[1, 1] * gy + pose[2, 1] * gz
            gfx += gu * x - ray_gx * ray_x / fx
            gfy += gv * y - ray_gy * ray_y / fy
            gcx += gu - ray_gx / fx
            gcy += gv - ray_gy / fy
        sums += part
        focal += np.array([gfx, gfy, gcx, gcy], np.float64)
    to_pose[:3] += sums.astype(_F)
    to_camera += focal.astype(_F)
