"""Colour of every sample: material, sun and sky light, haze, and the camera's response."""

import math
from typing import NamedTuple

import numpy as np

from cpcdr.frames.synthetic import primitives as kinds
from cpcdr.frames.synthetic import textures
from cpcdr.frames.synthetic.casting import SKY, ZONE_BASE, ray, to_unit_point
from cpcdr.frames.synthetic.ground import (
    KERB,
    PAVEMENT,
    ROAD,
    Ground,
    crossing_distance,
    lateral,
    zone,
)
from cpcdr.frames.synthetic.noise import band, grain, kernel, lines, noise2
from cpcdr.frames.synthetic.primitives import Vector
from cpcdr.frames.synthetic.textures import blend


class Light(NamedTuple):
    """Light of a street; colours are linear RGB.

    ``sun`` is the unit vector to the sun (world axes, y down), ``haze`` the distance in metres at
    which 63 % of an object's light is lost, ``clouds`` their cover in [0, 1], ``gain`` the camera's
    white balance and exposure.
    """

    sun: Vector
    sun_colour: Vector
    sky_colour: Vector
    zenith: Vector
    horizon: Vector
    haze: float
    clouds: float
    cloud_scale: float
    gain: Vector


class Surface(NamedTuple):
    """Appearance of the ground: linear colours, slab size, dash period and length in metres (0: no
    centre line), and 1.0 for edge lines."""

    asphalt: Vector
    paving: Vector
    turf: Vector
    soil: Vector
    paint: Vector
    slab: float
    dash_period: float
    dash_length: float
    edge_lines: float


@kernel
def markings(ground: Ground, surface: Surface, u, s, crossing, footprint):
    """Coverage by road paint: centre line, edge lines, zebra crossings before junctions."""
    if crossing < 0.6:
        return 0.0
    if crossing < 3.6:
        return 0.9 * (lines(u, 1.0, 0.25, footprint) if abs(u) < ground.half_width - 0.3 else 0.0)
    paint = 0.0
    if crossing < 5.2:
        paint = band(crossing - 4.7, 0.2, footprint)
    elif surface.dash_period > 0.0:
        phase = s - surface.dash_period * math.floor(s / surface.dash_period)
        dash = band(phase - 0.5 * surface.dash_length, 0.5 * surface.dash_length, footprint)
        paint = band(u, 0.07, footprint) * dash
    if surface.edge_lines > 0.0:
        paint = max(paint, band(abs(u) - ground.half_width + 0.35, 0.06, footprint))
    return 0.85 * paint


@kernel
def ground_colour(ground: Ground, surface: Surface, kind, x, z, footprint):
    """Albedo of the ground at a point of a zone."""
    across = lateral(ground, x, z)
    on_main = abs(across) < ground.half_width
    crossing = abs(crossing_distance(ground, z)) - ground.crossing_half
    if kind == ROAD:
        u, s = (across, z) if on_main else (crossing_distance(ground, z), x)
        r, g, b = textures.asphalt(u, s, surface.asphalt, footprint)
        paint = markings(ground, surface, across, z, crossing, footprint) if on_main else 0.0
        worn = 1.0 + 1.2 * grain(u, s, 0.3, footprint) - 0.25
        return blend(r, g, b, surface.paint, min(1.0, max(0.0, paint * worn)))
    if kind in (PAVEMENT, KERB):
        _, distance = zone(ground, x, z)
        r, g, b = textures.paving(across, z, surface.paving, surface.slab, footprint)
        edge = max(band(distance, 0.16, footprint), 1.0 if kind == KERB else 0.0)
        tone = 1.25 * (1.0 - 0.4 * lines(z + across, 0.9, 0.02, footprint))
        slab = surface.paving
        stone = (slab[0] * tone, slab[1] * tone, slab[2] * tone)
        return blend(r, g, b, stone, edge)
    return textures.grass(x, z, surface.turf, surface.soil, footprint)


@kernel
def part_normal(prims, p, x, y, z):
    """Axis of the face (0 x, 1 y, 2 z) and the unit normal in the part's unit coordinates."""
    kind = prims.codes[p, 0]
    if kind == kinds.ELLIPSOID or (kind == kinds.LEAVES and prims.shape[p, 0] < 0.5):
        return 0, x, y, z
    if kind == kinds.CYLINDER:
        if abs(y) > 0.999:
            return 1, 0.0, y, 0.0
        return 0, x, 0.0, z
    if kind == kinds.PANEL:
        return 2, 0.0, 0.0, 1.0
    shape = (prims.shape[p, 0], prims.shape[p, 1], prims.shape[p, 2])
    rise = 0.5 * (1.0 - y)
    shrunk = kind == kinds.BOX
    sides = 1.0 - shape[0] * rise if shrunk else 1.0
    ends = 1.0 - (shape[1] if z > 0.0 else shape[2]) * rise if shrunk else 1.0
    gap_x, gap_y, gap_z = abs(abs(x) - sides), 1.0 - abs(y), abs(abs(z) - ends)
    if gap_y <= gap_x and gap_y <= gap_z:
        return 1, 0.0, y, 0.0
    if gap_x <= gap_z:
        return 0, math.copysign(1.0, x), -0.5 * shape[0] if shrunk else 0.0, 0.0
    slope = (shape[1] if z > 0.0 else shape[2]) if shrunk else 0.0
    return 2, 0.0, -0.5 * slope, math.copysign(1.0, z)


@kernel
def part_colour(prims, p, x, y, z, face, footprint):
    """Albedo of a part at unit coordinates x, y, z."""
    # Tuples: array slices are slow in inner loops.
    half = (prims.half[p, 0], prims.half[p, 1], prims.half[p, 2])
    colours, pattern = prims.colours, prims.pattern
    colour = (colours[p, 0, 0], colours[p, 0, 1], colours[p, 0, 2])
    accent = (colours[p, 1, 0], colours[p, 1, 1], colours[p, 1, 2])
    material, seed = prims.codes[p, 1], prims.codes[p, 3]
    x, y, z = x * half[0], y * half[1], z * half[2]
    u = z if face == 0 else x
    v = half[1] - y
    if material == kinds.FACADE:
        if face == 1:
            tone = 0.8 + 0.3 * grain(x, z, 0.5, footprint)
            return tone * accent[0], tone * accent[1], tone * accent[2]
        bays = (pattern[p, 0], pattern[p, 1], pattern[p, 2], pattern[p, 3])
        return textures.facade(u + 50.0, v, 2.0 * half[1], colour, accent, bays, seed, footprint)
    if material == kinds.MASONRY:
        return textures.masonry(u, v, colour, accent, seed, footprint)
    if material == kinds.LEAF:
        return textures.foliage(x, y, z, colour, seed, footprint)
    if material == kinds.BODY:
        return textures.car_body(x, y, z, half, colour, accent, face, footprint)
    if material == kinds.CABIN:
        return textures.car_cabin(x, y, z, half, colour, face, footprint)
    if material == kinds.SIGN:
        return textures.sign_face(
            x, y, half, colour, accent, int(prims.shape[p, 0]), seed, footprint
        )
    if material == kinds.LAMP:
        return textures.lamp_face(x, y, half, colour, seed, face, z < 0.0, footprint)
    if material == kinds.CLOTH:
        return textures.cloth(x, y, z, colour, accent, seed, footprint)
    if material == kinds.TURF:
        return textures.grass(x, z, colour, accent, footprint)
    tone, mix = textures.plain(material, x, y, z, u, v, half, face, footprint)
    r, g, b = tone * colour[0], tone * colour[1], tone * colour[2]
    return blend(r, g, b, accent, mix)


@kernel
def sky_colour(light: Light, dx, dy, dz):
    """Gradient from horizon to zenith with clouds on a plane far above."""
    norm = math.sqrt(dx * dx + dy * dy + dz * dz)
    up = max(0.0, -dy / norm)
    lift = math.sqrt(up)
    r = light.horizon[0] + (light.zenith[0] - light.horizon[0]) * lift
    g = light.horizon[1] + (light.zenith[1] - light.horizon[1]) * lift
    b = light.horizon[2] + (light.zenith[2] - light.horizon[2]) * lift
    if light.clouds <= 0.0 or up <= 0.01:
        return r, g, b
    scale = light.cloud_scale / (up + 0.12) / norm
    x, z = dx * scale, dz * scale
    puff = (
        0.6 * noise2(x, z) + 0.27 * noise2(2.3 * x + 9.0, 2.3 * z) + 0.13 * noise2(5.1 * x, 5.1 * z)
    )
    cover = min(1.0, max(0.0, 3.5 * (puff - 1.0 + light.clouds))) * min(1.0, 8.0 * up)
    white = light.horizon[0] * 0.5 + 0.55 * (1.0 - 0.35 * puff)
    return blend(r, g, b, (white, white, white), 0.85 * cover)


@kernel
def radiance(prims, ground, surface, light, camera, u, v, t, p, lit, contact):
    """Linear RGB that reaches the camera at sample u, v from part p at depth t."""
    dx, dy, dz = ray(camera, u, v)
    if p == SKY:
        return sky_colour(light, dx, dy, dz)
    pose = camera.pose
    x, y, z = pose[0, 3] + t * dx, pose[1, 3] + t * dy, pose[2, 3] + t * dz
    norm = math.sqrt(dx * dx + dy * dy + dz * dz)
    pixel = 2.0 * t / camera.fx
    if p < 0:
        nx, ny, nz = 0.0, -1.0, 0.0
        footprint = pixel / math.sqrt(max(0.06, dy / norm))
        r, g, b = ground_colour(ground, surface, ZONE_BASE - p, x, z, footprint)
    else:
        matrix = prims.to_unit[p]
        ux, uy, uz = to_unit_point(matrix, x, y, z)
        face, ax, ay, az = part_normal(prims, p, ux, uy, uz)
        nx = matrix[0, 0] * ax + matrix[1, 0] * ay + matrix[2, 0] * az
        ny = matrix[0, 1] * ax + matrix[1, 1] * ay + matrix[2, 1] * az
        nz = matrix[0, 2] * ax + matrix[1, 2] * ay + matrix[2, 2] * az
        scale = 1.0 / max(1e-12, math.sqrt(nx * nx + ny * ny + nz * nz))
        facing = (nx * dx + ny * dy + nz * dz) * scale / norm
        if facing > 0.0:
            scale = -scale
        nx, ny, nz = nx * scale, ny * scale, nz * scale
        footprint = pixel / math.sqrt(max(0.1, abs(facing)))
        r, g, b = part_colour(prims, p, ux, uy, uz, face, footprint)
    sun = max(0.0, nx * light.sun[0] + ny * light.sun[1] + nz * light.sun[2]) if lit else 0.0
    ambient = (0.68 - 0.32 * ny) * contact
    fade = math.exp(-t * norm / light.haze)
    glow = 1.0 - fade
    sun_colour, sky, horizon = light.sun_colour, light.sky_colour, light.horizon
    return (
        fade * r * (sun * sun_colour[0] + ambient * sky[0]) + glow * horizon[0],
        fade * g * (sun * sun_colour[1] + ambient * sky[1]) + glow * horizon[1],
        fade * b * (sun * sun_colour[2] + ambient * sky[2]) + glow * horizon[2],
    )


@kernel
def shade(prims, ground, surface, light, camera, depth, part, mixed, lit, contact, out):
    """Write linear RGB float32 [H, W, 3]: one sample per pixel, four where parts meet."""
    for v in range(mixed.shape[0]):
        for u in range(mixed.shape[1]):
            a, b = 2 * v, 2 * u
            if not mixed[v, u]:
                inverse = 1.0 / depth[a, b] + 1.0 / depth[a, b + 1]
                inverse += 1.0 / depth[a + 1, b] + 1.0 / depth[a + 1, b + 1]
                out[v, u, 0], out[v, u, 1], out[v, u, 2] = radiance(
                    prims, ground, surface, light, camera, b + 0.5, a + 0.5, 4.0 / inverse,
                    part[a, b], lit[a, b], contact[a, b],
                )  # fmt: skip
                continue
            red, green, blue = 0.0, 0.0, 0.0
            for s in range(4):
                j, i = a + (s >> 1), b + (s & 1)
                r, g, bl = radiance(  # floats as above: one compilation serves both calls
                    prims, ground, surface, light, camera, float(i), float(j),
                    float(depth[j, i]), part[j, i], lit[j, i], contact[j, i],
                )  # fmt: skip
                red, green, blue = red + 0.25 * r, green + 0.25 * g, blue + 0.25 * bl
            out[v, u, 0], out[v, u, 1], out[v, u, 2] = red, green, blue


@kernel
def develop(colours, light, noise, image):
    """The camera's response: float32 linear [H, W, 3] to uint8 sRGB, with sensor noise."""
    height, width = image.shape[:2]
    for v in range(height):
        for u in range(width):
            for k in range(3):
                value = max(0.0, colours[v, u, k] * light.gain[k])
                # Film's soft shoulder, then a display's curve (gamma 2).
                value = 255.0 * math.sqrt(1.0 - math.exp(-1.45 * value))
                value += noise[v, u, k] + 0.5
                image[v, u, k] = min(255.0, max(0.0, value))


@kernel
def measure(depth, part, part_labels, zone_labels, labels, disparity):
    """Majority label of each pixel's 2 × 2 samples, ties to the nearest, and its mean disparity.

    Args:
        depth, part: float32 and int32 [2H, 2W] from `casting.cast`.
        part_labels: int32 [P] label of each part; zone_labels: int32 [5] of sky, then ground zones.
        labels, disparity: outputs uint8 [H, W] and float32 [H, W].
    """
    height, width = labels.shape
    votes = np.empty(4, np.int64)
    depths = np.empty(4)
    for v in range(height):
        for u in range(width):
            for s in range(4):
                j, i = 2 * v + (s >> 1), 2 * u + (s & 1)
                p = part[j, i]
                votes[s] = (
                    part_labels[p] if p >= 0 else zone_labels[0 if p == SKY else ZONE_BASE + 1 - p]
                )
                depths[s] = depth[j, i]
            best, most, nearest = 0, -1, 1.0e30
            for s in range(4):
                count = 0
                for other in range(4):
                    count += votes[s] == votes[other]
                if count > most or (count == most and depths[s] < nearest):
                    best, most, nearest = votes[s], count, depths[s]
            total = 0.0
            for s in range(4):
                if votes[s] == best:
                    total += 1.0 / depths[s]
            labels[v, u] = best
            disparity[v, u] = min(1.0, max(0.005, total / most))
