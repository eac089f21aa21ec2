"""Triton kernels of `cpcdr.loss.fused_points`: names are those there, matrices lie row by row."""

# Parameters of kernels are pointers, numbers and compile-time constants: Triton's own types.
# mypy: disable-error-code="no-untyped-def, no-any-return, untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def _rounded(value):
    """To the nearest integer, halves to the even one."""
    up = tl.floor(value + 0.5)
    half = (up - value == 0.5) & (up.to(tl.int32) % 2 != 0)
    return tl.where(half, up - 1.0, up).to(tl.int32)


@triton.jit
def candidates_kernel(
    image,
    xy,
    regions,
    appearances,
    transforms,
    image_of,
    visible,
    images,
    there,
    count,
    known,
    height,
    width,
    POINTS: tl.constexpr,
    APPEARANCES: tl.constexpr,
):
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    is_point = point < count
    x = tl.load(xy + 2 * point, mask=is_point, other=0)
    y = tl.load(xy + 2 * point + 1, mask=is_point, other=0)
    at = (tl.load(image + point, mask=is_point, other=0) * height + y) * width + x
    region = tl.load(regions + at, mask=is_point, other=0)
    own = tl.load(appearances + at, mask=is_point, other=0)
    # The affine map of the appearance under the pixel, inverted: place in the region.
    own_map = transforms + 6 * (region * known + own)
    a = tl.load(own_map, mask=is_point, other=1.0)
    b = tl.load(own_map + 1, mask=is_point, other=0.0)
    c = tl.load(own_map + 3, mask=is_point, other=0.0)
    d = tl.load(own_map + 4, mask=is_point, other=1.0)
    px = x.to(tl.float32) - tl.load(own_map + 2, mask=is_point, other=0.0)
    py = y.to(tl.float32) - tl.load(own_map + 5, mask=is_point, other=0.0)
    determinant = a * d - b * c
    u = tl.div_rn(d * px - b * py, determinant)[:, None]
    v = tl.div_rn(a * py - c * px, determinant)[:, None]

    which = tl.arange(0, APPEARANCES)[None, :]
    inside = is_point[:, None] & (which < known)
    entry = region[:, None] * known + which
    shown = tl.load(image_of + entry, mask=inside, other=-1)
    to = transforms + 6 * entry
    tx = tl.load(to, mask=inside, other=0.0) * u + tl.load(to + 1, mask=inside, other=0.0) * v
    ty = tl.load(to + 3, mask=inside, other=0.0) * u + tl.load(to + 4, mask=inside, other=0.0) * v
    tx += tl.load(to + 2, mask=inside, other=0.0)
    ty += tl.load(to + 5, mask=inside, other=0.0)
    is_own = which == own[:, None]
    tx = tl.where(is_own, x.to(tl.float32)[:, None], tx)
    ty = tl.where(is_own, y.to(tl.float32)[:, None], ty)
    near = (tx > -1.0) & (tx < width) & (ty > -1.0) & (ty < height) & (shown >= 0)
    left = _rounded(tl.where(near, tx, 0.0))
    top = _rounded(tl.where(near, ty, 0.0))
    found = inside & near & (left >= 0) & (left < width) & (top >= 0) & (top < height)
    place = (tl.maximum(shown, 0) * height + top) * width + left
    found = found & (tl.load(regions + place, mask=found, other=-1) == region[:, None])
    found = found & (tl.load(appearances + place, mask=found, other=-1) == which)
    found = found & (tl.sum(found.to(tl.int32), axis=1) >= 2)[:, None]
    out = point[:, None] * known + which
    tl.store(visible + out, found, mask=inside)
    tl.store(images + out, tl.maximum(shown, 0), mask=inside)
    tl.store(there + 2 * out, tx, mask=inside)
    tl.store(there + 2 * out + 1, ty, mask=inside)


@triton.jit
def taps_kernel(image, xy, rows, weight, count, h, w, scale_y, scale_x, POINTS: tl.constexpr):
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    is_point = point < count
    x = (tl.load(xy + 2 * point, mask=is_point, other=0.0) + 0.5) * scale_x - 0.5
    y = (tl.load(xy + 2 * point + 1, mask=is_point, other=0.0) + 0.5) * scale_y - 0.5
    x = tl.minimum(tl.maximum(x, 0.0), w - 1.0)
    y = tl.minimum(tl.maximum(y, 0.0), h - 1.0)
    x0 = tl.maximum(tl.minimum(tl.floor(x).to(tl.int32), w - 2), 0)
    y0 = tl.maximum(tl.minimum(tl.floor(y).to(tl.int32), h - 2), 0)
    right, below = tl.minimum(x0 + 1, w - 1), tl.minimum(y0 + 1, h - 1)
    fx, fy = x - x0.to(tl.float32), y - y0.to(tl.float32)
    first = tl.load(image + point, mask=is_point, other=0) * (h * w)
    top, bottom = first + y0 * w, first + below * w
    tl.store(rows + 4 * point, top + x0, mask=is_point)
    tl.store(rows + 4 * point + 1, top + right, mask=is_point)
    tl.store(rows + 4 * point + 2, bottom + x0, mask=is_point)
    tl.store(rows + 4 * point + 3, bottom + right, mask=is_point)
    tl.store(weight + 4 * point, (1 - fx) * (1 - fy), mask=is_point)
    tl.store(weight + 4 * point + 1, fx * (1 - fy), mask=is_point)
    tl.store(weight + 4 * point + 2, (1 - fx) * fy, mask=is_point)
    tl.store(weight + 4 * point + 3, fx * fy, mask=is_point)


@triton.jit
def scatter_kernel(
    values,
    rows,
    weight,
    table,
    count,
    channels,
    TAPS: tl.constexpr,
    SAMPLES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    sample = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    channel = tl.arange(0, CHANNELS)
    is_sample = sample < count
    inside = is_sample[:, None] & (channel < channels)[None, :]
    own = sample.to(tl.int64)[:, None] * channels + channel[None, :]
    value = tl.load(values + own, mask=inside, other=0.0)
    for tap in tl.static_range(TAPS):
        row = tl.load(rows + sample * TAPS + tap, mask=is_sample, other=0)
        share = tl.load(weight + sample * TAPS + tap, mask=is_sample, other=0.0)
        to = row[:, None] * channels + channel[None, :]
        counts = inside & (share != 0.0)[:, None]
        tl.atomic_add(table + to, share[:, None] * value, mask=counts, sem="relaxed")


@triton.jit
def unit_rows_kernel(
    table,
    rows,
    weight,
    unit,
    norm,
    count,
    channels,
    TAPS: tl.constexpr,
    SAMPLES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    sample = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    channel = tl.arange(0, CHANNELS)
    is_sample = sample < count
    inside = is_sample[:, None] & (channel < channels)[None, :]
    total = tl.zeros([SAMPLES, CHANNELS], tl.float32)
    for tap in tl.static_range(TAPS):
        row = tl.load(rows + sample * TAPS + tap, mask=is_sample, other=0)
        share = tl.load(weight + sample * TAPS + tap, mask=is_sample, other=0.0)
        at = table + row[:, None] * channels + channel[None, :]
        total += share[:, None] * tl.load(at, mask=inside, other=0.0).to(tl.float32)
    length = tl.maximum(tl.sqrt(tl.sum(total * total, axis=1)), 1e-12)
    own = sample.to(tl.int64)[:, None] * channels + channel[None, :]
    tl.store(unit + own, total / length[:, None], mask=inside)
    tl.store(norm + sample, length, mask=is_sample)


@triton.jit
def unit_rows_gradient_kernel(
    gradient,
    unit,
    norm,
    rows,
    weight,
    table,
    count,
    channels,
    TAPS: tl.constexpr,
    SAMPLES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    sample = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    channel = tl.arange(0, CHANNELS)
    is_sample = sample < count
    inside = is_sample[:, None] & (channel < channels)[None, :]
    own = sample.to(tl.int64)[:, None] * channels + channel[None, :]
    given = tl.load(gradient + own, mask=inside, other=0.0)
    inside = inside & (tl.sum(tl.abs(given), axis=1) != 0.0)[:, None]  # what fills up has none
    along = tl.load(unit + own, mask=inside, other=0.0)
    length = tl.load(norm + sample, mask=is_sample, other=1.0)[:, None]
    across = (given - along * tl.sum(given * along, axis=1)[:, None]) / length
    for tap in tl.static_range(TAPS):
        row = tl.load(rows + sample * TAPS + tap, mask=is_sample, other=0)
        share = tl.load(weight + sample * TAPS + tap, mask=is_sample, other=0.0)[:, None]
        to = row[:, None] * channels + channel[None, :]
        tl.atomic_add(table + to, share * across, mask=inside & (share != 0.0), sem="relaxed")


@triton.jit
def difference_kernel(
    values,
    means,
    of,
    scale,
    result,
    count,
    channels,
    SAMPLES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    sample = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    channel = tl.arange(0, CHANNELS)
    is_sample = sample < count
    share = tl.load(scale + sample, mask=is_sample, other=0.0)[:, None]
    inside = is_sample[:, None] & (channel < channels)[None, :]
    counts = inside & (share != 0.0)
    own = sample.to(tl.int64)[:, None] * channels + channel[None, :]
    group = tl.load(of + sample, mask=is_sample, other=0)[:, None]
    value = tl.load(values + own, mask=counts, other=0.0)
    mean = tl.load(means + group * channels + channel[None, :], mask=counts, other=0.0)
    tl.store(result + own, (value - mean) * share, mask=inside)
