"""The compositor's inner loops for one CPU core: faster than the tensor code, with equal results.

Each function is the counterpart of one of the same name in ``sprites.py`` and ``shading.py``
(`render` of `visible_sprites` and `shade` together, image by image, which keeps everything in the
cache). They release the GIL. Imported on first use: numba is slow to import.
"""

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpcdr.copy_paste.appearance import blur_images as blur_images
from cpcdr.copy_paste.shading import LEVELS, OWN_WEIGHT, Pyramid, level_sizes
from cpcdr.copy_paste.zbuffer import Sprites

_jit = numba.njit(cache=True, nogil=True)


def bounding_boxes(ids: Tensor, count: int) -> Tensor:
    """See `cpcdr.copy_paste.sprites.bounding_boxes`."""
    return torch.from_numpy(_bounding_boxes(ids.numpy(), count))


def build_pyramid(images: Tensor, ids: Tensor) -> Pyramid:
    """See `cpcdr.copy_paste.shading.build_pyramid`."""
    frames, _, height, width = images.shape
    sizes = level_sizes((height, width))
    starts = np.cumsum([0] + [frames * h * w for h, w in sizes])
    texels = np.empty((starts[-1], 3), np.uint8)
    labels = np.empty(starts[-1], np.int32)
    texels[: starts[1]] = images.permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    labels[: starts[1]] = ids.reshape(-1).numpy()
    for level in range(1, LEVELS):
        (h, w), (new_h, new_w) = sizes[level - 1], sizes[level]
        fine, coarse = slice(*starts[level - 1 : level + 1]), slice(*starts[level : level + 2])
        _halve(
            texels[fine].reshape(frames, h, w, 3),
            labels[fine].reshape(frames, h, w),
            texels[coarse].reshape(frames, new_h, new_w, 3),
            labels[coarse].reshape(frames, new_h, new_w),
        )
    return Pyramid(torch.from_numpy(texels), torch.from_numpy(labels))


def render(sprites: Sprites, pyramid: Pyramid, disparity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Visibility and colour of every mixed image; returns what `shade` does.

    Args:
        pyramid: texels of the source frames.
        disparity: float32 [BM, H, W], at least 0.
    """
    count, (height, width) = len(sprites.first) - 1, disparity.shape[1:]
    images = np.empty((count, 3, height, width), np.float32)
    regions = np.empty((count, height, width), np.int64)
    appearances = np.empty((count, height, width), np.uint8)
    table = {k: v.numpy() for k, v in vars(sprites).items() if isinstance(v, Tensor)}
    ids, texels = pyramid.ids.numpy(), pyramid.texels.numpy()
    first = table["first"]
    depth = disparity.reshape(-1).numpy()
    for n in range(count):
        own = {k: v[first[n] : first[n + 1]] for k, v in table.items() if k != "first"}
        visible = _visible(
            own["frame"],
            own["region"],
            own["box"],
            own["to_source"],
            own["depth_scale"],
            ids,
            depth,
            height,
            width,
        )
        _shade(
            visible,
            own["frame"],
            own["region"],
            own["appearance"],
            own["to_source"],
            own["to_texel"],
            own["texture"],
            own["colour"],
            ids,
            texels,
            images[n],
            regions[n],
            appearances[n],
        )
        _soften(images[n], visible)
    return torch.from_numpy(images), torch.from_numpy(regions), torch.from_numpy(appearances)


@_jit
def _bounding_boxes(ids: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    frames, height, width = ids.shape
    boxes = np.empty((count, 4), np.int32)
    boxes[:, :2] = max(height, width)
    boxes[:, 2:] = -max(height, width)
    for f in range(frames):
        for y in range(height):
            x = 0
            while x < width:  # one run of equal ids at a time
                region, start = ids[f, y, x], x
                while x < width and ids[f, y, x] == region:
                    x += 1
                box = boxes[region]
                box[0] = min(box[0], start)
                box[1] = min(box[1], y)
                box[2] = max(box[2], x - 1)
                box[3] = max(box[3], y)
    return boxes


@_jit
def _halve(
    fine: NDArray[np.uint8],
    fine_ids: NDArray[np.int32],
    coarse: NDArray[np.uint8],
    coarse_ids: NDArray[np.int32],
) -> None:
    frames, height, width = fine_ids.shape
    for f in range(frames):
        for y in range(coarse_ids.shape[1]):
            top, bottom = 2 * y, min(2 * y + 1, height - 1)
            for x in range(coarse_ids.shape[2]):
                left, right = 2 * x, min(2 * x + 1, width - 1)
                a, b = fine_ids[f, top, left], fine_ids[f, top, right]
                c, d = fine_ids[f, bottom, left], fine_ids[f, bottom, right]
                region = a  # the most frequent id of the children, the first on a tie
                if a not in (b, c, d):
                    region = b if b in (c, d) else c if c == d else a
                own = (int(a == region), int(b == region), int(c == region), int(d == region))
                n = own[0] + own[1] + own[2] + own[3]
                coarse_ids[f, y, x] = region
                for channel in range(3):
                    total = own[0] * fine[f, top, left, channel]
                    total += own[1] * fine[f, top, right, channel]
                    total += own[2] * fine[f, bottom, left, channel]
                    total += own[3] * fine[f, bottom, right, channel]
                    coarse[f, y, x, channel] = (total + n // 2) // n


@_jit
def _source(scale: np.float32, shift: np.float32, pixel: int, last: int) -> int:
    return min(max(int(np.floor(scale * np.float32(pixel) + shift)), 0), last)


@_jit
def _visible(
    frame: NDArray[np.int32],
    region: NDArray[np.int32],
    box: NDArray[np.int32],
    to_source: NDArray[np.float32],
    depth_scale: NDArray[np.float32],
    ids: NDArray[np.int32],
    disparity: NDArray[np.float32],
    height: int,
    width: int,
) -> NDArray[np.int32]:
    nearest = np.full((height, width), np.float32(-1.0))
    visible = np.zeros((height, width), np.int32)
    columns = np.empty(width, np.int32)
    for s in range(len(frame)):
        scale, own_id = depth_scale[s], region[s]
        left, right = box[s, 0], box[s, 2]
        for x in range(left, right):
            columns[x] = _source(to_source[s, 0], to_source[s, 1], x, width - 1)
        for y in range(box[s, 1], box[s, 3]):
            v = _source(to_source[s, 2], to_source[s, 3], y, height - 1)
            row = (frame[s] * height + v) * width
            for x in range(left, right):
                source = row + columns[x]
                if own_id < 0 or ids[source] == own_id:
                    depth = disparity[source] * scale
                    if depth > nearest[y, x]:  # on a tie the earlier sprite wins
                        nearest[y, x] = depth
                        visible[y, x] = s
    return visible


@_jit
def _shade(
    visible: NDArray[np.int32],
    frame: NDArray[np.int32],
    region: NDArray[np.int32],
    appearance: NDArray[np.uint8],
    to_source: NDArray[np.float32],
    to_texel: NDArray[np.float32],
    texture: NDArray[np.int32],
    colour: NDArray[np.float32],
    ids: NDArray[np.int32],
    texels: NDArray[np.uint8],
    image: NDArray[np.float32],
    regions: NDArray[np.int64],
    appearances: NDArray[np.uint8],
) -> None:
    height, width = visible.shape
    one, zero, own = np.float32(1.0), np.float32(0.0), np.float32(OWN_WEIGHT)
    for y in range(height):
        s = -1
        for x in range(width):
            if visible[y, x] != s:
                s = visible[y, x]
                own_id, appearance_id = region[s], appearance[s]
                a, b = to_source[s, 0], to_source[s, 1]
                row = _source(to_source[s, 2], to_source[s, 3], y, height - 1)
                row = (frame[s] * height + row) * width
                scale, shift = to_texel[s, 0], to_texel[s, 1]
                v = to_texel[s, 2] * np.float32(y) + to_texel[s, 3]
                top = np.floor(v)
                fv = v - top
                last = texture[s, 1] - 1
                upper = min(max(int(top), 0), texture[s, 2] - 1)
                lower = min(max(int(top) + 1, 0), texture[s, 2] - 1)
                upper = texture[s, 0] + upper * texture[s, 1]
                lower = texture[s, 0] + lower * texture[s, 1]
                matrix = colour[s]
            source = row + _source(a, b, x, width - 1)
            regions[y, x] = ids[source]
            appearances[y, x] = appearance_id
            u = scale * np.float32(x) + shift
            left = np.floor(u)
            fu = u - left
            t0 = min(max(int(left), 0), last)
            t1 = min(max(int(left) + 1, 0), last)
            i00, i01, i10, i11 = upper + t0, upper + t1, lower + t0, lower + t1
            w00, w01 = (one - fv) * (one - fu), (one - fv) * fu
            w10, w11 = fv * (one - fu), fv * fu
            if own_id >= 0:
                w00 = w00 if ids[i00] == own_id else zero
                w01 = w01 if ids[i01] == own_id else zero
                w10 = w10 if ids[i10] == own_id else zero
                w11 = w11 if ids[i11] == own_id else zero
            rest = one / (w00 + w01 + w10 + w11 + own)
            red = _blend(texels, 0, source, i00, i01, i10, i11, own, w00, w01, w10, w11) * rest
            green = _blend(texels, 1, source, i00, i01, i10, i11, own, w00, w01, w10, w11) * rest
            blue = _blend(texels, 2, source, i00, i01, i10, i11, own, w00, w01, w10, w11) * rest
            for c in range(3):
                value = matrix[c, 0] * red + matrix[c, 1] * green + matrix[c, 2] * blue
                image[c, y, x] = min(max(value + matrix[c, 3], zero), one)


@_jit
def _blend(
    texels: NDArray[np.uint8],
    channel: int,
    source: int,
    i00: int,
    i01: int,
    i10: int,
    i11: int,
    own: np.float32,
    w00: np.float32,
    w01: np.float32,
    w10: np.float32,
    w11: np.float32,
) -> np.float32:
    value = own * texels[source, channel]
    value += w00 * texels[i00, channel] + w01 * texels[i01, channel]
    return value + (w10 * texels[i10, channel] + w11 * texels[i11, channel])


@_jit
def _soften(image: NDArray[np.float32], visible: NDArray[np.int32]) -> None:
    height, width = visible.shape
    sharp = image.copy()
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            s = visible[y, x]
            differs = (visible[up, left] != s) | (visible[up, x] != s) | (visible[up, right] != s)
            differs |= (visible[y, left] != s) | (visible[y, right] != s)
            differs |= (visible[down, left] != s) | (visible[down, x] != s)
            if differs | (visible[down, right] != s):
                for c in range(3):
                    value = sharp[c, up, left] + 2 * sharp[c, up, x] + sharp[c, up, right]
                    value += 2 * (sharp[c, y, left] + 2 * sharp[c, y, x] + sharp[c, y, right])
                    value += sharp[c, down, left] + 2 * sharp[c, down, x] + sharp[c, down, right]
                    image[c, y, x] = value / np.float32(16.0)
