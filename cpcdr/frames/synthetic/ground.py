"""The ground: a curved road, crossing roads, kerbs, pavements and the terrain beyond.

World axes are the first camera's convention: x right, y down, z forward, metres, y = 0 on the road.
The centre line is x = amplitude · (1 − cos(wave · (z − phase))): smooth, and its lateral coordinate
has a closed form. Roads are described by a distance that is negative on the carriageway, so that
junctions are a smooth minimum of distances with rounded kerbs.
"""

import math
from typing import NamedTuple

from cpcdr.frames.synthetic.noise import kernel

ROAD, PAVEMENT, KERB, TERRAIN = 0, 1, 2, 3
FAR = 1.0e9
ROUNDING = 3.0
"""Metres over which the edges of two roads are blended at a junction."""


class Ground(NamedTuple):
    """Shape of the ground, in metres (``wave`` in 1/m).

    ``crossing_period`` 0 means no crossing roads. Pavements differ on the left and right.
    """

    amplitude: float
    wave: float
    phase: float
    half_width: float
    left_pavement: float
    right_pavement: float
    kerb: float
    crossing_period: float
    crossing_offset: float
    crossing_half: float


@kernel
def centre_line(ground, z):
    """x and slope dx/dz of the main road's centre line."""
    if ground.amplitude == 0.0:
        return 0.0, 0.0
    angle = ground.wave * (z - ground.phase)
    x = ground.amplitude * (1.0 - math.cos(angle))
    return x, ground.amplitude * ground.wave * math.sin(angle)


@kernel
def lateral(ground, x, z):
    """Signed distance to the centre line, positive to the right."""
    middle, slope = centre_line(ground, z)
    return (x - middle) / math.sqrt(1.0 + slope * slope)


@kernel
def crossing_distance(ground, z):
    """Signed distance along z to the nearest crossing road's centre line."""
    if ground.crossing_period <= 0.0:
        return FAR
    offset = (z - ground.crossing_offset) / ground.crossing_period
    return ground.crossing_period * (offset - math.floor(offset + 0.5))


@kernel
def zone(ground, x, z):
    """ROAD, PAVEMENT or TERRAIN at a point, and the distance to the carriageway in metres:
    negative on it, with rounded corners at junctions."""
    across = lateral(ground, x, z)
    main = abs(across) - ground.half_width
    crossing = abs(crossing_distance(ground, z)) - ground.crossing_half
    blend = max(0.0, ROUNDING - abs(main - crossing))
    distance = min(main, crossing) - 0.25 * blend * blend / ROUNDING
    if distance < 0.0:
        return ROAD, distance
    width = ground.left_pavement if across < 0.0 else ground.right_pavement
    return (PAVEMENT if distance < width else TERRAIN), distance


@kernel
def road_distance(ground, x, z):
    """Distance to the carriageway in metres, negative on it."""
    return zone(ground, x, z)[1]


@kernel
def cast_ground(ground, ox, oy, oz, dx, dy, dz):
    """First hit of a ray with the ground: (t, zone), t = FAR where the ray misses it."""
    if dy <= 1.0e-6:
        return FAR, TERRAIN
    upper = (-ground.kerb - oy) / dy
    lower = -oy / dy
    if upper > 0.0:
        kind, distance = zone(ground, ox + upper * dx, oz + upper * dz)
        if distance >= 0.0:
            return upper, kind
    if road_distance(ground, ox + lower * dx, oz + lower * dz) < 0.0:
        return lower, ROAD
    near, far = max(upper, 0.0), lower
    for _ in range(8):
        middle = 0.5 * (near + far)
        if road_distance(ground, ox + middle * dx, oz + middle * dz) < 0.0:
            near = middle
        else:
            far = middle
    return far, KERB
