"""The texture of each material: a factor on a part's colour, or a replacement.

Colours vary freely between objects of a class; structure does not. Each pattern has real-world
scale and takes u, v in metres on the surface (v upwards from the foot of the part), the sample's
footprint in metres and the part's seed.
"""

import math

from cpcdr.frames.synthetic.noise import band, cell, grain, kernel, lines, noise2, noise3, visible
from cpcdr.frames.synthetic.primitives import BARK, FACE, METAL, ROOF, TYRE


@kernel
def blend(r, g, b, colour, amount):
    """Mix towards ``colour`` by ``amount`` in [0, 1]."""
    keep = 1.0 - amount
    return (
        keep * r + amount * colour[0],
        keep * g + amount * colour[1],
        keep * b + amount * colour[2],
    )


@kernel
def bricks(u, v, length, course, footprint, joint):
    """Staggered courses: (brightness factor of the brick, coverage by mortar)."""
    row = math.floor(v / course)
    shifted = u + 0.5 * length * (int(row) & 1)
    tone = visible(length, footprint) * (cell(math.floor(shifted / length), int(row)) - 0.5)
    mortar = lines(v, course, joint, footprint)
    upright = lines(shifted, length, joint, footprint)
    return 1.0 + 0.45 * tone, max(mortar, upright)


@kernel
def facade(u, v, top, colour, accent, bays, seed, footprint):
    """Floors of windows with frames and sills; a ground floor with doors or shop fronts.

    bays: bay width (m), floor height (m), window width and height as fractions of them.
    """
    r, g, b = colour[0], colour[1], colour[2]
    style = seed & 3
    if style == 0:
        tone, mortar = bricks(u, v, 0.36, 0.13, footprint, 0.012)
        tone *= 1.0 - 0.25 * mortar
    elif style == 1:
        panel = max(lines(u, bays[0], 0.025, footprint), lines(v, bays[1], 0.025, footprint))
        tone = 1.0 - 0.45 * panel + 0.10 * grain(u, v, 0.9, footprint)
    else:
        tone = 1.0 + 0.16 * grain(u, v, 1.7, footprint) + 0.12 * grain(u, 0.3 * v, 0.25, footprint)
    tone *= 1.0 - 0.25 * math.exp(-1.5 * v) + 0.1 * grain(u, v, 5.0, footprint)
    r, g, b = r * tone, g * tone, b * tone
    if v > top - 0.35 * bays[1]:
        cornice = band(v - top + 0.25, 0.22, footprint)
        return blend(r, g, b, accent, 0.8 * cornice)
    return windows(u, v, r, g, b, accent, bays, seed, footprint)


@kernel
def windows(u, v, r, g, b, accent, bays, seed, footprint):
    """Draw the grid of windows, doors and shop fronts on a front of colour r, g, b."""
    bay, floor = bays[0], bays[1]
    column, storey = math.floor(u / bay), math.floor(v / floor)
    x = u - (column + 0.5) * bay
    y = v - (storey + 0.5) * floor
    half_u, half_v = 0.5 * bays[2] * bay, 0.5 * bays[3] * floor
    pick = cell(column + 7 * (seed & 31), storey + (seed >> 5 & 31))
    shops = seed & 4
    door = storey == 0 and pick > 0.7 and not shops
    if storey == 0 and shops:
        half_u, half_v, y = 0.42 * bay, 0.36 * floor, v - 0.42 * floor
    elif door:
        half_u, half_v, y = min(0.55, 0.4 * bay), 1.05, v - 1.05
    outer = band(x, half_u + 0.09, footprint) * band(y, half_v + 0.09, footprint)
    sill = band(x, half_u + 0.16, footprint) * band(y + half_v + 0.12, 0.06, footprint)
    r, g, b = blend(r, g, b, accent, max(outer, sill))
    inner = band(x, half_u, footprint) * band(y, half_v, footprint)
    if inner == 0.0:
        return r, g, b
    if door:
        leaf = 0.5 + 0.3 * lines(x, 0.5, 0.03, footprint)
        return blend(r, g, b, (0.5 * accent[0], leaf * accent[1], 0.4 * accent[2]), inner)
    sheen = 0.06 + 0.16 * pick * pick + 0.14 * (y + half_v) / (2.0 * half_v)
    if pick > 0.8:
        sheen += 0.25 * band(y - half_v, half_v * pick, footprint)
    r, g, b = blend(r, g, b, (0.8 * sheen, 0.95 * sheen, 1.1 * sheen), inner)
    bars = max(band(x, 0.035, footprint), band(y - 0.25 * half_v, 0.03, footprint))
    return blend(r, g, b, accent, inner * bars)


@kernel
def masonry(u, v, colour, accent, seed, footprint):
    """Garden and retaining walls: big blocks or rubble, no windows, with stains and a coping."""
    if seed & 1:
        tone, mortar = bricks(u, v, 0.62, 0.27, footprint, 0.02)
    else:
        wobble = 0.12 * noise2(2.1 * u, 2.1 * v)
        tone, mortar = bricks(u + wobble, v + wobble, 0.42, 0.2, footprint, 0.025)
    tone *= 1.0 + 0.3 * grain(u, v, 0.11, footprint) + 0.35 * grain(0.4 * u, v, 0.9, footprint)
    tone *= 1.0 - 0.3 * math.exp(-4.0 * v)
    return blend(colour[0] * tone, colour[1] * tone, colour[2] * tone, accent, 0.7 * mortar)


@kernel
def foliage(x, y, z, colour, seed, footprint):
    """Leaves: strong noise of leaf and clump size, in the volume, darker inside."""
    shift = 3.7 * (seed & 63)
    clump = noise3(x / 0.55 + shift, y / 0.55, z / 0.55) - 0.5
    tone = 1.0 + 0.8 * clump * visible(0.55, footprint)
    shown = visible(0.17, footprint)
    if shown > 0.0:
        leaf = noise3(x / 0.17 + shift, y / 0.17, z / 0.17) + 0.5 * cell(
            math.floor(x / 0.11) + 5 * math.floor(z / 0.11), math.floor(y / 0.11)
        )
        tone += 1.5 * shown * (leaf - 0.75)
    tone = max(0.12, tone)
    warm = 1.0 + 0.35 * clump
    return colour[0] * tone * warm, colour[1] * tone, colour[2] * tone * (2.0 - warm)


@kernel
def grass(x, z, colour, accent, footprint):
    """Turf: blades and tufts, with worn patches of the accent colour."""
    tone = 1.0 + 1.1 * grain(x, z, 0.1, footprint) + 0.9 * grain(x, z, 0.36, footprint)
    tone += 0.3 * grain(x, z, 1.3, footprint)
    worn = min(1.0, max(0.0, 3.0 * (noise2(x / 3.1, z / 3.1) - 0.62)))
    r, g, b = blend(colour[0], colour[1], colour[2], accent, worn)
    return r * tone, g * tone, b * tone


@kernel
def asphalt(u, s, colour, footprint):
    """Carriageway: fine grain, long wheel tracks, patches of repair and cracks.

    u across and s along the road, in metres.
    """
    tone = 1.0 + 0.5 * grain(u, s, 0.06, footprint) + 0.3 * grain(u, s, 0.15, footprint)
    tone += 0.2 * grain(u, 0.06 * s, 0.8, footprint) + 0.14 * grain(u, s, 2.7, footprint)
    patch = cell(math.floor(u / 1.9), math.floor(s / 4.3) + 11)
    if patch > 0.86:
        tone *= 0.82
    elif patch < 0.05:
        tone *= 1.15
    crack = noise2(1.3 * u + 0.9 * noise2(1.7 * u, 1.7 * s), 0.2 * s) - 0.5
    tone *= 1.0 - 0.3 * band(crack, 0.008, 0.01 + 0.5 * footprint)
    return colour[0] * tone, colour[1] * tone, colour[2] * tone


@kernel
def paving(u, s, colour, size, footprint):
    """Slabs with dark joints, each slab of its own tone. ``size``: slab length in metres."""
    tone, joint = bricks(u, s, size, size if size > 0.45 else 0.5 * size, footprint, 0.018)
    tone *= 1.0 - 0.55 * joint
    tone += 0.12 * grain(u, s, 0.07, footprint) + 0.16 * grain(u, s, 1.9, footprint)
    return colour[0] * tone, colour[1] * tone, colour[2] * tone


@kernel
def car_body(x, y, z, half, colour, accent, face, footprint):
    """Paintwork with wheel arches, door seams, lamps, number plates and bumpers."""
    r, g, b = colour[0], colour[1], colour[2]
    up = half[1] - y
    if face == 0:
        axle = min(abs(z - 0.62 * half[2]), abs(z + 0.62 * half[2]))
        arch = math.sqrt(axle * axle + (up + 0.02) * (up + 0.02))
        seam = min(abs(z), abs(z + 0.42 * half[2]), abs(z - 0.36 * half[2]))
        r, g, b = blend(r, g, b, (0.02, 0.02, 0.02), 0.7 * band(seam, 0.012, footprint))
        handle = band(up - 1.55 * half[1], 0.03, footprint) * band(
            z + 0.3 * half[2], 0.1, footprint
        )
        r, g, b = blend(r, g, b, (0.03, 0.03, 0.03), handle)
        r, g, b = blend(r, g, b, (0.02, 0.02, 0.02), 0.85 * band(up, 0.12, footprint))
        return blend(r, g, b, (0.015, 0.015, 0.015), band(arch, 0.39, footprint))
    if face == 2:
        lamp = band(abs(x) - 0.76 * half[0], 0.2 * half[0], footprint)
        lamp *= band(up - 1.25 * half[1], 0.1, footprint)
        light = (0.85, 0.85, 0.8) if z > 0.0 else (0.5, 0.02, 0.02)
        r, g, b = blend(r, g, b, accent, 0.8 * band(up, 0.16, footprint))
        grille = band(x, 0.5 * half[0], footprint) * band(up - 1.2 * half[1], 0.07, footprint)
        if z > 0.0:
            r, g, b = blend(r, g, b, (0.03, 0.03, 0.03), grille)
        r, g, b = blend(r, g, b, light, lamp)
        plate = band(x, 0.26, footprint) * band(up - 0.24, 0.06, footprint)
        return blend(r, g, b, (0.75, 0.75, 0.7), plate)
    return r, g, b


@kernel
def car_cabin(x, y, z, half, colour, face, footprint):
    """Windows between pillars under a painted roof."""
    if face == 1:
        return colour[0], colour[1], colour[2]
    up = (half[1] - y) / (2.0 * half[1])
    sheen = 0.03 + 0.16 * up * up
    r, g, b = 0.85 * sheen, sheen, 1.15 * sheen
    if face == 0:
        pillar = max(
            band(z - 0.05, 0.045, footprint), band(abs(z) - 0.72 * half[2], 0.05, footprint)
        )
    else:
        pillar = band(abs(x) - 0.88 * half[0], 0.07, footprint)
    rim = max(band(up - 1.0, 0.1, footprint), pillar)
    return blend(r, g, b, (0.8 * colour[0], 0.8 * colour[1], 0.8 * colour[2]), rim)


@kernel
def sign_face(x, y, half, colour, accent, mask, seed, footprint):
    """A flat sign: border in the accent colour, and a symbol or lines of text."""
    a, b = x / half[0], y / half[1]
    if mask == 1:
        edge = 1.0 - math.sqrt(a * a + b * b)
    elif mask == 2:
        edge = min(0.7 * (1.0 - b), 0.45 * (0.5 * (1.0 + b) - abs(a)) * 2.0)
    else:
        edge = min(1.0 - abs(a), (1.0 - abs(b)) * half[1] / half[0])
        if mask == 3:
            edge = min(edge, 1.3 - abs(a) - abs(b))
    soft = footprint / half[0]
    border = 1.0 - min(1.0, max(0.0, (edge - 0.2) / soft + 0.5))
    ink = (0.04, 0.04, 0.05) if colour[0] + colour[1] + colour[2] > 1.0 else (0.9, 0.9, 0.9)
    style = seed % 3
    if mask == 0 and half[0] > 0.5:
        text = lines(y + 0.07, 0.3, 0.05, footprint) * (cell(int(x * 9.0 + 40.0), seed & 63) > 0.3)
    elif style == 0:
        text = band(a, 0.5, soft) * band(b, 0.16, soft)
    elif style == 1:
        text = band(a, 0.14, soft) * band(b, 0.5, soft)
    else:
        text = band(abs(a - b), 0.2, soft) * band(a, 0.45, soft)
    r, g, b = blend(colour[0], colour[1], colour[2], ink, text)
    return blend(r, g, b, accent, border)


@kernel
def lamp_face(x, y, half, colour, seed, face, facing, footprint):
    """A traffic light: a dark box with three round lamps, one of them on."""
    r, g, b = colour[0], colour[1], colour[2]
    if face != 2 or not facing:
        return r, g, b
    third = 2.0 * half[1] / 3.0
    index = min(2, max(0, int((y + half[1]) / third)))
    offset = y + half[1] - (index + 0.5) * third
    radius = math.sqrt(x * x + offset * offset)
    disc = band(radius, 0.4 * third, footprint)
    glow = 2.2 if index == seed % 3 else 0.14
    if index == 0:
        lamp = (0.8 * glow, 0.06 * glow, 0.03 * glow)
    elif index == 1:
        lamp = (0.8 * glow, 0.45 * glow, 0.03 * glow)
    else:
        lamp = (0.05 * glow, 0.75 * glow, 0.35 * glow)
    return blend(r, g, b, lamp, disc)


@kernel
def cloth(x, y, z, colour, accent, seed, footprint):
    """Clothing: folds, sometimes stripes or a bag's strap."""
    tone = 1.0 + 0.5 * grain(x + z, y, 0.12, footprint) + 0.25 * grain(x, 3.0 * y, 0.3, footprint)
    r, g, b = colour[0] * tone, colour[1] * tone, colour[2] * tone
    if seed % 3 == 0:
        return blend(r, g, b, accent, lines(y, 0.16, 0.035, footprint))
    if seed % 3 == 1:
        return blend(r, g, b, accent, band(x + 0.5 * y, 0.035, footprint))
    return r, g, b


@kernel
def plain(material, x, y, z, u, v, half, face, footprint):
    """The simple materials: (brightness factor, fraction of the accent colour)."""
    if material == ROOF:
        tiles = 1.0 - 0.45 * lines(v, 0.33, 0.05, footprint)
        return tiles + 0.3 * grain(u, v, 0.4, footprint), 0.0
    if material == BARK:
        return 1.0 + 1.1 * grain(0.8 * math.atan2(z, x), 0.25 * y, 0.09, footprint), 0.0
    if material == METAL:
        rings = max(band(v - 0.5, 0.5, footprint), lines(v, 2.2, 0.06, footprint))
        return 1.0 + 0.12 * grain(0.1 * u, v, 0.3, footprint), rings
    if material == TYRE:
        hub = math.sqrt(y * y + z * z) < 0.62 * half[1] and face == 1
        return 1.0, (0.6 + 0.4 * math.cos(5.0 * math.atan2(z, x)) if hub else 0.0)
    if material == FACE:
        return 1.0, (1.0 if y < -0.15 * half[1] or z < -0.35 * half[2] else 0.0)
    return 1.0, 0.0
