"""Ray intersections with single parts, in the unit solid's coordinates: pure scalar functions."""

import math
from typing import NamedTuple

from cpcdr.frames.synthetic.ground import FAR
from cpcdr.frames.synthetic.noise import kernel, noise3
from cpcdr.frames.synthetic.primitives import BOX, CYLINDER, ELLIPSOID, FENCE, LEAVES, SPOKES


class Solid(NamedTuple):
    """One part as scalars for ray intersection: array slices are slow in inner loops.

    ``a, b, c`` are the part's shape; ``wide, tall, deep`` its half sizes in metres.
    """

    kind: int
    material: int
    seed: int
    a: float
    b: float
    c: float
    wide: float
    tall: float
    deep: float


@kernel
def solid_of(prims, p):
    """The `Solid` of part p."""
    codes, shape, half = prims.codes, prims.shape, prims.half
    return Solid(
        codes[p, 0], codes[p, 1], codes[p, 3],
        shape[p, 0], shape[p, 1], shape[p, 2],
        half[p, 0], half[p, 1], half[p, 2],
    )  # fmt: skip


@kernel
def slab(o, d):
    """Interval in which a ray is between -1 and 1 on one axis: (enter, leave)."""
    if abs(d) < 1.0e-12:
        return (-FAR, FAR) if abs(o) <= 1.0 else (FAR, -FAR)
    a, b = (-1.0 - o) / d, (1.0 - o) / d
    return min(a, b), max(a, b)


@kernel
def hit_cube(ox, oy, oz, dx, dy, dz):
    """Ray against the unit cube."""
    a, b = slab(ox, dx)
    c, d = slab(oz, dz)
    enter, leave = max(a, c), min(b, d)
    if enter > leave:
        return FAR
    c, d = slab(oy, dy)
    enter, leave = max(enter, c), min(leave, d)
    return enter if 0.0 < enter <= leave else FAR


@kernel
def hit_tapered(ox, oy, oz, dx, dy, dz, sides, front, back):
    """Ray against the unit cube whose top (y = -1) is shrunk by fractions of its half sizes."""
    enter, leave = -FAR, FAR
    for plane in range(6):
        if plane < 2:
            sign = 1.0 - 2.0 * plane
            normal = (sign, -0.5 * sides, 0.0)
            shrink = sides
        elif plane < 4:
            sign = 5.0 - 2.0 * plane
            normal = (0.0, sign, 0.0)
            shrink = 0.0
        else:
            sign = 9.0 - 2.0 * plane
            shrink = front if plane == 4 else back
            normal = (0.0, -0.5 * shrink, sign)
        distance = normal[0] * ox + normal[1] * oy + normal[2] * oz - (1.0 - 0.5 * shrink)
        speed = normal[0] * dx + normal[1] * dy + normal[2] * dz
        if abs(speed) < 1.0e-12:
            if distance > 0.0:
                return FAR
            continue
        t = -distance / speed
        if speed < 0.0:
            enter = max(enter, t)
        else:
            leave = min(leave, t)
        if enter > leave:
            return FAR
    return enter if enter > 0.0 else FAR


@kernel
def roots(a, b, c):
    """Both solutions of a t² + 2 b t + c = 0, (FAR, -FAR) without any."""
    discriminant = b * b - a * c
    if discriminant < 0.0 or a < 1.0e-18:
        return FAR, -FAR
    root = math.sqrt(discriminant)
    return (-b - root) / a, (-b + root) / a


@kernel
def hit_cylinder(ox, oy, oz, dx, dy, dz):
    """Ray against the unit cylinder about y, caps included."""
    enter, leave = roots(dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz - 1.0)
    if enter > leave:
        return FAR
    if abs(dy) > 1.0e-12:
        first, second = (-1.0 - oy) / dy, (1.0 - oy) / dy
        enter = max(enter, min(first, second))
        leave = min(leave, max(first, second))
    elif abs(oy) > 1.0:
        return FAR
    return enter if 0.0 < enter <= leave else FAR


@kernel
def panel_covers(x, y, solid, footprint):
    """Whether a panel is solid at unit coordinates: outlines of signs, gaps of fences."""
    if abs(x) > 1.0 or abs(y) > 1.0:
        return False
    mask, material = int(solid.a), solid.material
    if material == SPOKES:
        radius = x * x + y * y
        turn = math.atan2(y, x) * 4.0 + solid.b
        spoke = abs(turn / math.pi - math.floor(turn / math.pi + 0.5)) < 0.14
        return radius <= 1.0 and (radius > 0.66 or spoke or radius < 0.05)
    if material == FENCE:
        period, fill = solid.b, solid.c
        if footprint > 0.4 * period:
            return True
        u, v = x * solid.wide, (1.0 - y) * solid.tall
        if abs(y) > 0.9 or abs(u - 2.5 * math.floor(u / 2.5 + 0.5)) < 0.06:
            return True
        along = u / period - math.floor(u / period)
        up = v / period - math.floor(v / period)
        if mask == 0:
            return along < fill or abs(abs(y) - 0.6) < 0.07
        if mask == 1:
            return up < fill
        cross = (u + v) / period - math.floor((u + v) / period)
        back = (u - v) / period - math.floor((u - v) / period)
        return cross < 0.5 * fill or back < 0.5 * fill
    if mask == 1:
        return x * x + y * y <= 1.0
    if mask == 2:
        return abs(x) <= 0.5 * (1.0 + y)
    if mask == 3:
        return abs(x) + abs(y) <= 1.3
    return True


@kernel
def hit_leaves(ox, oy, oz, dx, dy, dz, solid, steps):
    """March through a ragged volume: foliage is where the depth inside exceeds a noise."""
    hedge = solid.a > 0.5
    if hedge:
        begin = hit_cube(ox, oy, oz, dx, dy, dz)
        length = 2.0 * min(solid.wide, solid.deep) / solid.tall
        end = begin + length / max(1e-9, math.sqrt(dx * dx + dy * dy + dz * dz))
    else:
        begin, end = roots(
            dx * dx + dy * dy + dz * dz,
            ox * dx + oy * dy + oz * dz,
            ox * ox + oy * oy + oz * oz - 1.0,
        )
    if begin >= end or end < 0.0 or begin >= FAR:
        return FAR
    begin = max(begin, 0.0)
    scale = 1.0 / solid.b
    shift = 3.7 * (solid.seed & 63)
    for step in range(steps):
        t = begin + (end - begin) * (step + 0.3) / steps
        x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
        if hedge:
            inside = min(1.0 - abs(x), 1.0 - abs(z), 1.0 + y) * 2.5
        else:
            inside = 1.0 - math.sqrt(x * x + y * y + z * z)
        if inside <= 0.0:
            continue
        x, y, z = x * solid.wide * scale + shift, y * solid.tall * scale, z * solid.deep * scale
        # The fine octave is evaluated only where it matters.
        rag = 0.62 * 0.65 * noise3(x, y, z)
        if inside <= rag:
            continue
        if inside > rag + 0.62 * 0.35 * noise3(2.7 * x, 2.7 * y, 2.7 * z):
            return t
    return FAR


@kernel
def hit(solid, ox, oy, oz, dx, dy, dz, sample):
    """First t > 0 at which a ray in unit coordinates meets a part, FAR if never.

    ``sample`` is a sample's size in metres per metre of depth, 0 for rays to the sun.
    """
    kind = solid.kind
    if kind == BOX:
        if solid.a + solid.b + solid.c == 0.0:
            return hit_cube(ox, oy, oz, dx, dy, dz)
        return hit_tapered(ox, oy, oz, dx, dy, dz, solid.a, solid.b, solid.c)
    if kind == CYLINDER:
        return hit_cylinder(ox, oy, oz, dx, dy, dz)
    if kind == ELLIPSOID:
        t, _ = roots(
            dx * dx + dy * dy + dz * dz,
            ox * dx + oy * dy + oz * dz,
            ox * ox + oy * oy + oz * oz - 1.0,
        )
        return t if t > 0.0 else FAR
    if kind == LEAVES:
        return hit_leaves(ox, oy, oz, dx, dy, dz, solid, 7 if sample > 0.0 else 4)
    if abs(dz) < 1.0e-12:
        return FAR
    t = -oz / dz
    if t <= 0.0:
        return FAR
    x, y = ox + t * dx, oy + t * dy
    return t if panel_covers(x, y, solid, sample * t) else FAR
