"""Triton kernels of `cpcdr.copy_paste.gpu`: a program covers a tile of a sprite, or some pixels."""

# Parameters of kernels are pointers, numbers and compile-time constants: Triton's own types.
# mypy: disable-error-code="no-untyped-def, no-any-return, untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def halve_kernel(
    texels,
    labels,
    fine,
    coarse,
    count,
    fine_height,
    fine_width,
    height,
    width,
    PIXELS: tl.constexpr,
):
    at = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = at < count
    x, y = at % width, at // width % height
    frame = fine + at // (width * height) * (fine_height * fine_width)
    right, below = tl.minimum(2 * x + 1, fine_width - 1), tl.minimum(2 * y + 1, fine_height - 1)
    a, b = frame + 2 * y * fine_width + 2 * x, frame + 2 * y * fine_width + right
    c, d = frame + below * fine_width + 2 * x, frame + below * fine_width + right
    ia = tl.load(labels + a, mask=inside, other=0)
    ib = tl.load(labels + b, mask=inside, other=0)
    ic = tl.load(labels + c, mask=inside, other=0)
    id = tl.load(labels + d, mask=inside, other=0)
    ab, ac, ad = (ia == ib).to(tl.int32), (ia == ic).to(tl.int32), (ia == id).to(tl.int32)
    bc, bd, cd = (ib == ic).to(tl.int32), (ib == id).to(tl.int32), (ic == id).to(tl.int32)
    # The first child with the most votes; the fourth never has more than all of the others.
    best, own = ab + ac + ad, ia
    own = tl.where(ab + bc + bd > best, ib, own)
    best = tl.maximum(best, ab + bc + bd)
    own = tl.where(ac + bc + cd > best, ic, own)
    tl.store(labels + coarse + at, own, mask=inside)
    ka, kb = (ia == own).to(tl.int32), (ib == own).to(tl.int32)
    kc, kd = (ic == own).to(tl.int32), (id == own).to(tl.int32)
    number = tl.maximum(ka + kb + kc + kd, 1)
    for channel in tl.static_range(3):
        total = ka * tl.load(texels + 3 * a + channel, mask=inside, other=0).to(tl.int32)
        total += kb * tl.load(texels + 3 * b + channel, mask=inside, other=0).to(tl.int32)
        total += kc * tl.load(texels + 3 * c + channel, mask=inside, other=0).to(tl.int32)
        total += kd * tl.load(texels + 3 * d + channel, mask=inside, other=0).to(tl.int32)
        mean = (total + number // 2) // number
        tl.store(texels + 3 * (coarse + at) + channel, mean.to(tl.uint8), mask=inside)


@triton.jit
def _source(to_source, sprite, frame, x, y, mask, height, width):
    """As `cpcdr.copy_paste.zbuffer.source_index`."""
    a = tl.load(to_source + 4 * sprite, mask=mask, other=0.0)
    b = tl.load(to_source + 4 * sprite + 1, mask=mask, other=0.0)
    c = tl.load(to_source + 4 * sprite + 2, mask=mask, other=0.0)
    d = tl.load(to_source + 4 * sprite + 3, mask=mask, other=0.0)
    u = tl.floor(a * x.to(tl.float32) + b).to(tl.int32)
    v = tl.floor(c * y.to(tl.float32) + d).to(tl.int32)
    u = tl.minimum(tl.maximum(u, 0), width - 1)
    v = tl.minimum(tl.maximum(v, 0), height - 1)
    return (frame * height + v) * width + u


@triton.jit
def splat_kernel(
    nearest,
    of_tile,
    ends,
    columns,
    rows,
    image,
    frame,
    region,
    box,
    to_source,
    depth_scale,
    ids,
    disparity,
    height,
    width,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    sprite = tl.load(of_tile + tl.program_id(0))
    across = tl.load(columns + sprite)
    tile = tl.program_id(0) - (tl.load(ends + sprite) - across * tl.load(rows + sprite))
    tile = tile.to(tl.int32)
    pixel = tl.arange(0, HEIGHT * WIDTH)
    x = tl.load(box + 4 * sprite) + tile % across * WIDTH + pixel % WIDTH
    y = tl.load(box + 4 * sprite + 1) + tile // across * HEIGHT + pixel // WIDTH
    inside = (x < tl.load(box + 4 * sprite + 2)) & (y < tl.load(box + 4 * sprite + 3))
    inside = inside & (x < width) & (y < height)
    own = tl.load(region + sprite)
    of_frame = tl.load(frame + sprite)
    source = _source(to_source, sprite, of_frame, x, y, sprite >= 0, height, width)
    shown = inside & ((own < 0) | (tl.load(ids + source, mask=inside, other=-2) == own))
    depth = tl.load(disparity + source, mask=shown, other=0.0) * tl.load(depth_scale + sprite)
    key = depth.to(tl.int32, bitcast=True).to(tl.int64) << 32
    key = key | (0x7FFFFFFF - sprite).to(tl.int64)
    target = (tl.load(image + sprite).to(tl.int64) * height + y) * width + x
    tl.atomic_max(nearest + target, key, mask=shown, sem="relaxed")


@triton.jit
def _texel(texels, ids, at, region, weight, total, red, green, blue, mask):
    """Adds a texel where it belongs to the region."""
    own = (tl.load(ids + at, mask=mask, other=0) == region) | (region < 0)
    weight = tl.where(own, weight, 0.0)
    red += weight * tl.load(texels + 3 * at, mask=mask, other=0).to(tl.float32)
    green += weight * tl.load(texels + 3 * at + 1, mask=mask, other=0).to(tl.float32)
    blue += weight * tl.load(texels + 3 * at + 2, mask=mask, other=0).to(tl.float32)
    return total + weight, red, green, blue


@triton.jit
def shade_kernel(
    nearest,
    frame,
    region,
    appearance,
    to_source,
    to_texel,
    texture,
    colour,
    texels,
    ids,
    images,
    regions,
    appearances,
    visible,
    count,
    height,
    width,
    OWN: tl.constexpr,
    PIXELS: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    inside = at < count
    x, y = (at % width).to(tl.int32), (at // width % height).to(tl.int32)
    key = tl.load(nearest + at, mask=inside, other=-1)
    sprite = 0x7FFFFFFF - (key & 0xFFFFFFFF).to(tl.int32)
    inside = inside & (key >= 0)
    sprite = tl.where(inside, sprite, 0)
    of_frame = tl.load(frame + sprite, mask=inside, other=0)
    source = _source(to_source, sprite, of_frame, x, y, inside, height, width)
    own = tl.load(region + sprite, mask=inside, other=0)

    a = tl.load(to_texel + 4 * sprite, mask=inside, other=0.0)
    b = tl.load(to_texel + 4 * sprite + 1, mask=inside, other=0.0)
    c = tl.load(to_texel + 4 * sprite + 2, mask=inside, other=0.0)
    d = tl.load(to_texel + 4 * sprite + 3, mask=inside, other=0.0)
    u, v = a * x.to(tl.float32) + b, c * y.to(tl.float32) + d
    left, top = tl.floor(u), tl.floor(v)
    start = tl.load(texture + 3 * sprite, mask=inside, other=0)
    last = tl.load(texture + 3 * sprite + 1, mask=inside, other=1)
    bottom = tl.load(texture + 3 * sprite + 2, mask=inside, other=1) - 1
    total = tl.full([PIXELS], OWN, tl.float32)
    red = OWN * tl.load(texels + 3 * source, mask=inside, other=0).to(tl.float32)
    green = OWN * tl.load(texels + 3 * source + 1, mask=inside, other=0).to(tl.float32)
    blue = OWN * tl.load(texels + 3 * source + 2, mask=inside, other=0).to(tl.float32)
    for down in tl.static_range(2):
        row = tl.minimum(tl.maximum(top.to(tl.int32) + down, 0), bottom)
        for across in tl.static_range(2):
            column = tl.minimum(tl.maximum(left.to(tl.int32) + across, 0), last - 1)
            weight = (1.0 - tl.abs(u - left - across)) * (1.0 - tl.abs(v - top - down))
            total, red, green, blue = _texel(
                *(texels, ids, start + row * last + column, own, weight),
                *(total, red, green, blue, inside),
            )
    red, green, blue = red / total, green / total, blue / total
    pixels = height * width
    first = at // pixels * (3 * pixels) + at % pixels
    for channel in tl.static_range(3):
        change = colour + 12 * sprite + 4 * channel
        value = tl.load(change, mask=inside, other=0.0) * red
        value += tl.load(change + 1, mask=inside, other=0.0) * green
        value += tl.load(change + 2, mask=inside, other=0.0) * blue
        value += tl.load(change + 3, mask=inside, other=0.0)
        value = tl.minimum(tl.maximum(value, 0.0), 1.0)
        tl.store(images + first + channel * pixels, value, mask=inside)
    label = tl.load(ids + source, mask=inside, other=0)
    tl.store(regions + at, label.to(tl.int64), mask=inside)
    tl.store(appearances + at, tl.load(appearance + sprite, mask=inside, other=0), mask=inside)
    tl.store(visible + at, sprite, mask=inside)


@triton.jit
def soften_kernel(images, visible, softened, count, height, width, PIXELS: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    inside = at < count
    x, y = at % width, at // width % height
    pixels = height * width
    own = tl.load(visible + at, mask=inside, other=0)
    left, right = tl.maximum(x - 1, 0) - x, tl.minimum(x + 1, width - 1) - x
    above = (tl.maximum(y - 1, 0) - y) * width
    below = (tl.minimum(y + 1, height - 1) - y) * width
    edge = own != own
    for down in tl.static_range(3):
        row = at + (above if down == 0 else below if down == 2 else 0 * above)
        for across in tl.static_range(3):
            place = row + (left if across == 0 else right if across == 2 else 0 * left)
            edge = edge | (tl.load(visible + place, mask=inside, other=0) != own)
    edge = edge & inside
    for channel in tl.static_range(3):
        first = at // pixels * (3 * pixels) + channel * pixels + at % pixels
        value = tl.load(images + first, mask=inside, other=0.0)
        smooth = tl.zeros([PIXELS], tl.float32)
        for across in tl.static_range(3):
            column = first + (left if across == 0 else right if across == 2 else 0 * left)
            high = tl.load(images + column + above, mask=edge, other=0.0)
            middle = tl.load(images + column, mask=edge, other=0.0)
            low = tl.load(images + column + below, mask=edge, other=0.0)
            share = 0.5 if across == 1 else 0.25
            smooth += share * ((0.25 * high + 0.5 * middle) + 0.25 * low)
        tl.store(softened + first, tl.where(edge, smooth, value), mask=inside)


@triton.jit
def convolve_kernel(
    source,
    target,
    which,
    weights,
    taps,
    height,
    width,
    VERTICAL: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """Vertically from images ``which`` to those in turn, horizontally back."""
    at = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = at < height * width
    x, y = at % width, at // width
    number = tl.program_id(2)
    image, plane = tl.load(which + number), (height * width).to(tl.int64)
    full = (image * tl.num_programs(1) + tl.program_id(1)) * plane
    part = (number.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * plane
    total = tl.zeros([PIXELS], tl.float32)
    for tap in range(taps):
        shift = tap - taps // 2
        weight = tl.load(weights + number * taps + tap)
        if VERTICAL:
            place = full + tl.minimum(tl.maximum(y + shift, 0), height - 1) * width + x
        else:
            place = part + y * width + tl.minimum(tl.maximum(x + shift, 0), width - 1)
        total += weight * tl.load(source + place, mask=inside, other=0.0)
    tl.store(target + (part if VERTICAL else full) + at, total, mask=inside)
