"""Street objects made of parts; each function generates a random one.

Sizes are realistic, in metres. Colours come from the same wide range for every class (`paint`), so
colour hardly predicts the class.
"""

import colorsys

import numpy as np

from cpcdr.frames.synthetic.primitives import (
    BARK,
    BOX,
    CYLINDER,
    ELLIPSOID,
    FACADE,
    FENCE,
    LAMP,
    LEAF,
    LEAVES,
    MASONRY,
    METAL,
    PANEL,
    PLAIN,
    ROOF,
    SIGN,
    TURF,
    Part,
    Parts,
    Vector,
    limb,
)


def paint(
    rng: np.random.Generator, dark: float = 0.05, bright: float = 0.6, vivid: float = 0.6
) -> Vector:
    """A linear RGB albedo of any hue: greys are as common as strong colours."""
    saturation = vivid * rng.random()
    value = dark + (bright - dark) * rng.random()
    r, g, b = colorsys.hsv_to_rgb(rng.random(), saturation, value)
    return (r, g, b)


def leaf_paint(rng: np.random.Generator) -> Vector:
    """Foliage and turf: green as a rule, but also dry, autumnal, bluish or dark."""
    hue = rng.normal(0.27, 0.035) if rng.random() < 0.6 else rng.uniform(0.03, 0.42)
    value, saturation = rng.uniform(0.1, 0.42), rng.uniform(0.2, 0.75)
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return (r, g, b)


def dry_paint(rng: np.random.Generator) -> Vector:
    """Dry grass and bare earth: straw to brown, often brighter than the road."""
    r, g, b = colorsys.hsv_to_rgb(rng.uniform(0.06, 0.15), *rng.uniform((0.2, 0.2), (0.65, 0.75)))
    return (r, g, b)


def building(rng: np.random.Generator, width: float, depth: float, height: float) -> Parts:
    """A house front along x at z = -depth/2 .. depth/2, with floors, windows and a roof."""
    colour, accent = paint(rng, 0.08, 0.7, 0.75), paint(rng, 0.05, 0.9, 0.5)
    floor = float(rng.uniform(2.7, 3.7))
    bays = max(1, round(width / float(rng.uniform(1.7, 3.6))))
    wide = float(rng.uniform(0.36, 0.8))
    pattern = (width / bays, floor, wide, float(rng.uniform(0.42, 0.66)))
    half = (width / 2, height / 2, depth / 2)
    parts = [Part(BOX, FACADE, (0.0, -height / 2, 0.0), half, colour, accent, pattern=pattern)]
    if height < 11.0 and rng.random() < 0.75:
        rise = float(rng.uniform(1.2, 2.6))
        slopes = (0.0, 0.96, 0.96) if rng.random() < 0.6 else (0.96, 0.0, 0.0)
        eaves = (width / 2 + 0.3, rise, depth / 2 + 0.3)
        centre = (0.0, -height - rise, 0.0)
        parts.append(Part(BOX, ROOF, centre, eaves, paint(rng, 0.04, 0.45), shape=slopes))
    for _ in range(rng.integers(0, 3)):  # balconies and oriels add depth
        level = floor * rng.integers(1, max(2, int(height / floor)))
        spot = (float(rng.uniform(-0.4, 0.4) * width), -float(level) - 0.6, -depth / 2)
        if level + 1.2 < height:
            parts.append(Part(BOX, PLAIN, spot, (1.1, 0.55, 0.7), paint(rng)))
    return parts


def wall(rng: np.random.Generator, length: float) -> Parts:
    """A free-standing masonry wall along x with a coping and piers."""
    height = float(rng.uniform(1.1, 2.7))
    colour, accent = paint(rng, 0.08, 0.6, 0.7), paint(rng, 0.05, 0.6, 0.3)
    parts = [
        Part(BOX, MASONRY, (0, -height / 2, 0), (length / 2, height / 2, 0.15), colour, accent),
        Part(BOX, PLAIN, (0, -height, 0), (length / 2, 0.06, 0.21), accent),
    ]
    for x in np.arange(-length / 2, length / 2 + 0.1, 4.0):
        pier = (0.22, height / 2 + 0.08, 0.22)
        parts.append(Part(BOX, MASONRY, (float(x), -pier[1], 0.0), pier, colour, accent))
    return parts


def fence(rng: np.random.Generator, length: float) -> Parts:
    """A fence along x: see-through pickets, rails or lattice between posts."""
    height = float(rng.uniform(1.0, 2.2))
    colour = paint(rng, 0.04, 0.75, 0.6)
    kind = int(rng.integers(0, 3))
    period = float((rng.uniform(0.14, 0.3), rng.uniform(0.22, 0.42), rng.uniform(0.3, 0.5))[kind])
    fill = float((rng.uniform(0.4, 0.65), rng.uniform(0.35, 0.6), rng.uniform(0.25, 0.4))[kind])
    half = (length / 2, height / 2, 0.03)
    shape = (float(kind), period, fill)
    panel = Part(PANEL, FENCE, (0.0, -height / 2, 0.0), half, colour, shape=shape)
    posts = [
        Part(BOX, PLAIN, (float(x), -height / 2, 0.0), (0.06, height / 2 + 0.05, 0.06), colour)
        for x in np.arange(-length / 2, length / 2 + 0.1, 2.5)
    ]
    return [panel, *posts]


def guard_rail(rng: np.random.Generator, length: float) -> Parts:
    """A metal rail on posts along x, or a low concrete wall."""
    colour = paint(rng, 0.2, 0.6, 0.1)
    if rng.random() < 0.15:
        return [Part(BOX, PLAIN, (0.0, -0.4, 0.0), (length / 2, 0.4, 0.15), colour)]
    rail = Part(BOX, METAL, (0.0, -0.6, 0.0), (length / 2, 0.15, 0.04), colour)
    posts = [
        Part(BOX, PLAIN, (float(x), -0.35, 0.05), (0.05, 0.35, 0.05), colour)
        for x in np.arange(-length / 2 + 1.0, length / 2, 2.0)
    ]
    return [rail, *posts]


def overpass(rng: np.random.Generator, length: float) -> Parts:
    """A bridge of ``length`` along x on a wall or pillars at each end."""
    colour, clear = paint(rng, 0.2, 0.6, 0.15), float(rng.uniform(4.8, 7.0))
    wide, thick = float(rng.uniform(2.0, 7.0)), float(rng.uniform(0.4, 1.0))
    deck = Part(BOX, PLAIN, (0.0, -clear - thick, 0.0), (length / 2 + 8.0, thick, wide), colour)
    pier = (float(rng.uniform(0.4, 4.0)), clear / 2, 0.9 * wide)
    ends = (-length / 2, length / 2)
    return [deck, *(Part(BOX, MASONRY, (x, -clear / 2, 0.0), pier, colour) for x in ends)]


def hedge(rng: np.random.Generator, length: float) -> Parts:
    """A clipped hedge along x."""
    half = (length / 2, float(rng.uniform(0.45, 1.1)), float(rng.uniform(0.35, 0.6)))
    return [Part(LEAVES, LEAF, (0.0, -half[1], 0.0), half, leaf_paint(rng), shape=(1.0, 0.5, 0.0))]


def bush(rng: np.random.Generator) -> Parts:
    """A round bush."""
    radius = float(rng.uniform(0.5, 1.4))
    half = (radius * float(rng.uniform(0.8, 1.5)), radius, radius)
    centre = (0.0, -0.75 * radius, 0.0)
    return [Part(LEAVES, LEAF, centre, half, leaf_paint(rng), shape=(0.0, 0.5, 0.0))]


def tree(rng: np.random.Generator) -> Parts:
    """A trunk, a few branches and a ragged crown of one or more clumps."""
    height, radius = float(rng.uniform(4.5, 10.0)), float(rng.uniform(1.2, 2.8))
    trunk = float(rng.uniform(0.1, 0.26))
    bark, leaf = paint(rng, 0.04, 0.3, 0.5), leaf_paint(rng)
    clump = float(rng.uniform(0.6, 0.95))
    slender = float(rng.uniform(0.8, 1.7))
    base = max(2.0, height - 2.0 * radius * slender)
    top = (float(rng.uniform(-0.3, 0.3)), -base - 0.8 * radius, 0.0)
    parts = [limb(BARK, (0.0, 0.0, 0.0), top, trunk, bark)]
    for _ in range(rng.integers(1, 4)):
        x, z = rng.uniform(-0.45, 0.45, 2) * radius
        size = radius * float(rng.uniform(0.7, 1.0))
        y = -base - size * slender * float(rng.uniform(0.7, 1.0))
        half = (size, size * slender, size)
        centre = (float(x), y, float(z))
        parts.append(Part(LEAVES, LEAF, centre, half, leaf, shape=(0.0, clump, 0.0)))
    return parts


def pole(rng: np.random.Generator) -> Parts:
    """A lamp post over the road (to -x), a telegraph pole or a flag pole."""
    height, radius = float(rng.uniform(4.5, 9.0)), float(rng.uniform(0.09, 0.19))
    colour, accent = paint(rng, 0.05, 0.6, 0.4), paint(rng, 0.05, 0.6, 0.3)
    half = (radius, height / 2, radius)
    parts = [Part(CYLINDER, METAL, (0.0, -height / 2, 0.0), half, colour, accent)]
    style = rng.integers(0, 3)
    if style == 0:
        reach = float(rng.uniform(0.8, 2.2))
        parts.append(limb(METAL, (0, -height + 0.1, 0), (-reach, -height - 0.3, 0), 0.06, colour))
        head = (-reach - 0.2, -height - 0.28, 0.0)
        parts.append(Part(BOX, PLAIN, head, (0.4, 0.09, 0.16), accent))
    elif style == 1:
        for level in (0.4, 1.1):
            arm = (0.0, -height + level, 0.0)
            parts.append(Part(BOX, PLAIN, arm, (1.0, 0.07, 0.07), colour))
    else:
        globe = (0.0, -height - 0.2, 0.0)
        parts.append(Part(ELLIPSOID, PLAIN, globe, (0.26, 0.3, 0.26), (0.7, 0.7, 0.66)))
    return parts


def bollard(rng: np.random.Generator) -> Parts:
    """A short post at the kerb."""
    height = float(rng.uniform(0.8, 1.2))
    half = (float(rng.uniform(0.08, 0.14)), height / 2, 0.1)
    return [Part(CYLINDER, METAL, (0.0, -height / 2, 0.0), half, paint(rng), paint(rng, 0.3, 0.8))]


def post(rng: np.random.Generator, height: float) -> Parts:
    """The bare post that carries a sign or a traffic light."""
    radius = float(rng.uniform(0.05, 0.09))
    colour, accent = paint(rng, 0.1, 0.6, 0.3), paint(rng, 0.1, 0.6, 0.3)
    half = (radius, height / 2, radius)
    return [Part(CYLINDER, METAL, (0.0, -height / 2, 0.0), half, colour, accent)]


def sign(rng: np.random.Generator) -> tuple[Parts, float]:
    """A traffic sign facing -z, and the height of its post."""
    mask = int(rng.integers(0, 4))
    face = paint(rng, 0.5, 0.9, 0.25) if rng.random() < 0.5 else paint(rng, 0.1, 0.7, 0.95)
    border = paint(rng, 0.15, 0.8, 0.95)
    size = float(rng.uniform(0.38, 0.58))
    half = (size, size, 0.01)
    if mask == 0 and rng.random() < 0.6:
        half = (float(rng.uniform(0.7, 1.3)), float(rng.uniform(0.4, 0.8)), 0.01)
    low = float(rng.uniform(1.7, 2.5))
    centre = (0.0, -low - half[1], -0.12)
    front = Part(PANEL, SIGN, centre, half, face, border, shape=(float(mask), 0.0, 0.0))
    return [front], low + 2.0 * half[1] + 0.1


def traffic_light(rng: np.random.Generator, reach: float) -> tuple[Parts, Parts]:
    """Lights facing -z and their carrier; ``reach`` > 0 adds one over the road at -x."""
    shell = paint(rng, 0.01, 0.3, 0.4)
    half = (float(rng.uniform(0.26, 0.36)), float(rng.uniform(0.62, 0.85)), 0.16)
    low = float(rng.uniform(2.2, 2.6))
    heads = [Part(BOX, LAMP, (0.0, -low - half[1], -0.1), half, shell)]
    height = low + 2.0 * half[1]
    carrier: Parts = []
    if reach > 0.0:
        height = 6.2
        centre = (-reach, -5.1 - half[1], -0.1)
        heads.append(Part(BOX, LAMP, centre, half, shell))
        carrier.append(
            limb(METAL, (0, -6.1, 0.1), (-reach - 0.4, -6.2, 0.1), 0.08, (0.3, 0.3, 0.3))
        )
    return heads, [*post(rng, height), *carrier]


def hill(rng: np.random.Generator) -> Parts:
    """A distant grassy hill."""
    half = (float(rng.uniform(40, 90)), float(rng.uniform(5, 14)), float(rng.uniform(30, 60)))
    return [Part(ELLIPSOID, TURF, (0.0, 0.0, 0.0), half, leaf_paint(rng), paint(rng, 0.1, 0.4))]
