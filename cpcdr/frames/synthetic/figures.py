"""Cars, pedestrians and cyclists made of parts; each function generates a random one."""

import math
from dataclasses import replace

import numpy as np

from cpcdr.frames.synthetic.objects import paint
from cpcdr.frames.synthetic.primitives import (
    BODY,
    BOX,
    CABIN,
    CLOTH,
    CYLINDER,
    ELLIPSOID,
    FACE,
    PANEL,
    PLAIN,
    SPOKES,
    TYRE,
    Part,
    Parts,
    Vector,
    limb,
    yaw_rotation,
)

RUBBER = (0.015, 0.015, 0.015)
AXLE = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""Rotation that lays a cylinder across a car."""


def skin_paint(rng: np.random.Generator) -> Vector:
    """Skin, from dark to pale."""
    tone = rng.uniform(0.08, 0.6)
    return (tone, 0.68 * tone, 0.52 * tone)


def car(rng: np.random.Generator) -> Parts:
    """A saloon, estate, small car or van, driving to +z: body, cabin, windows, four wheels."""
    colour, trim = paint(rng, 0.02, 0.8, 0.9), paint(rng, 0.01, 0.2, 0.2)
    kind = rng.integers(0, 4)
    length = float((4.5, 4.6, 3.7, 5.1)[kind] * rng.uniform(0.95, 1.05))
    width, high = (1.0, 0.98, 0.93, 1.08)[kind] * 0.9, (0.95, 0.97, 1.0, 1.35)[kind]
    clear = 0.22
    body = (width, (high - clear) / 2, length / 2)
    cabin_high = float((0.46, 0.52, 0.5, 0.62)[kind])
    front, back = (0.42, 0.36, 0.4, 0.3)[kind], (0.3, 0.1, 0.14, 0.02)[kind]
    cabin_half = float((0.27, 0.33, 0.34, 0.4)[kind]) * length
    shift = float((-0.04, -0.12, -0.09, -0.08)[kind]) * length
    middle = -(clear + body[1])
    parts = [
        Part(BOX, BODY, (0, middle, 0), body, colour, trim, shape=(0.06, 0.09, 0.05)),
        Part(
            BOX,
            CABIN,
            (0.0, -high - cabin_high / 2, shift),
            (0.94 * width, cabin_high / 2, cabin_half),
            colour,
            shape=(0.2, 1.6 * front, 1.6 * back),
        ),
        Part(BOX, PLAIN, (0, -0.2, 0), (0.8 * width, 0.16, 0.46 * length), (0.01, 0.01, 0.01)),
    ]
    rim = paint(rng, 0.2, 0.6, 0.1)
    for x in (-1.0, 1.0):
        for z in (-1.0, 1.0):
            centre = (x * (width - 0.1), -0.33, z * 0.62 * length / 2)
            half = (0.33, 0.12, 0.33)
            parts.append(Part(CYLINDER, TYRE, centre, half, RUBBER, rim, rotation=AXLE))
    return parts


def lorry(rng: np.random.Generator) -> Parts:
    """A lorry or a coach, driving to +z: a box on wheels, some with a lower cab before it."""
    colour, trim = paint(rng, 0.05, 0.9, 0.8), paint(rng, 0.02, 0.6, 0.6)
    half = (1.22, float(rng.uniform(1.0, 1.6)), float(rng.uniform(2.5, 6.0)))
    bottom = float(rng.uniform(0.5, 1.1))
    cab = (1.15, 1.1, 0.9)
    parts = [
        Part(BOX, PLAIN, (0.0, -bottom - half[1], 0.0), half, colour, trim),
        Part(BOX, PLAIN, (0.0, -0.6, 0.0), (1.0, 0.25, half[2]), (0.01, 0.01, 0.01)),
    ]
    if rng.random() < 0.7:
        parts.append(Part(BOX, CABIN, (0.0, -1.6, half[2] + 1.1), cab, trim))
    for z in (-0.8 * half[2], -0.5 * half[2], 0.8 * half[2]):
        for x in (-1.05, 1.05):
            centre, wheel = (x, -0.5, float(z)), (0.5, 0.15, 0.5)
            parts.append(Part(CYLINDER, TYRE, centre, wheel, RUBBER, trim, rotation=AXLE))
    return parts


def _torso(rng: np.random.Generator, height: float, lean: float) -> Parts:
    """Upper body, head and hair of a person whose hips are at the origin; lean in radians."""
    shirt, hair = paint(rng, 0.02, 0.75, 0.9), paint(rng, 0.01, 0.35, 0.6)
    tall, wide = 0.36 * height, 0.145 * height
    c, s = math.cos(lean), math.sin(lean)
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])
    chest = (0.0, -c * tall / 2, s * tall / 2)
    head = (0.0, -c * tall - 0.085 * height, s * tall + 0.02)
    half = (wide, tall / 2 + 0.03, 0.09 * height)
    size = (0.058 * height, 0.078 * height, 0.066 * height)
    return [
        Part(CYLINDER, CLOTH, chest, half, shirt, paint(rng), rotation=tilt),
        Part(ELLIPSOID, FACE, head, size, skin_paint(rng), hair),
    ]


def _raised(parts: Parts, height: float, z: float = 0.0) -> Parts:
    """The same parts moved up and forwards."""
    return [
        replace(part, centre=(part.centre[0], part.centre[1] - height, part.centre[2] + z))
        for part in parts
    ]


def person(rng: np.random.Generator, phase: float) -> Parts:
    """A pedestrian walking to +z; ``phase`` in radians of the stride, 0 stands still."""
    height = float(rng.uniform(1.5, 1.92))
    legs, sleeve = paint(rng, 0.02, 0.5, 0.7), paint(rng, 0.02, 0.7, 0.9)
    hip, swing = 0.48 * height, 0.42 * math.sin(phase)
    thick = 0.05 * height
    parts = _raised(_torso(rng, height, 0.05), hip)
    for side in (-1.0, 1.0):
        x, step = side * 0.055 * height, side * swing
        knee = (x, -0.26 * height, step * 0.22 * height + 0.04)
        foot = (x, -0.03, step * 0.5 * height)
        parts.append(limb(CLOTH, (x, -hip - 0.03, 0.0), knee, thick, legs, legs))
        parts.append(limb(CLOTH, knee, foot, 0.8 * thick, legs, legs))
        shoulder = (side * 0.16 * height, -0.8 * height, 0.02)
        hand = (side * 0.19 * height, -0.46 * height, -step * 0.3 * height + 0.06)
        parts.append(limb(CLOTH, shoulder, hand, 0.036 * height, sleeve, sleeve))
    if rng.random() < 0.35:
        half = (0.14, 0.2, 0.09)
        pack = (0.0, -0.7 * height, -0.17)
        parts.append(Part(BOX, PLAIN, pack, half, paint(rng, 0.02, 0.6, 0.9)))
    return parts


def cyclist(rng: np.random.Generator, phase: float) -> Parts:
    """A person on a bicycle riding to +z; ``phase`` in radians rotates wheels and pedals."""
    height = float(rng.uniform(1.55, 1.9))
    frame, legs = paint(rng, 0.02, 0.8, 0.95), paint(rng, 0.02, 0.5, 0.7)
    sleeve = paint(rng, 0.02, 0.7, 0.9)
    saddle, bars, pedals = (0.0, -0.98, -0.22), (0.0, -1.06, 0.42), (0.0, -0.3, 0.0)
    parts = _raised(_torso(rng, height, 0.42), 0.98, -0.22)
    for z in (-0.54, 0.54):
        wheel = (0.0, -0.35, z)
        shape = (0.0, phase, 0.0)
        half = (0.35, 0.35, 0.02)
        upright = yaw_rotation(math.pi / 2)
        parts.append(Part(PANEL, SPOKES, wheel, half, RUBBER, RUBBER, shape, rotation=upright))
    frame_ends: list[tuple[Vector, Vector]] = [
        ((0.0, -0.35, -0.54), saddle),
        ((0.0, -0.35, 0.54), bars),
        (pedals, bars),
        (pedals, saddle),
    ]
    parts += [limb(PLAIN, a, b, 0.035, frame) for a, b in frame_ends]
    for side in (-1.0, 1.0):
        turn = phase + (math.pi if side > 0 else 0.0)
        foot = (side * 0.1, -0.3 - 0.17 * math.cos(turn), 0.17 * math.sin(turn))
        knee = (side * 0.11, -0.72 - 0.08 * math.cos(turn), 0.2 + 0.06 * math.sin(turn))
        parts.append(limb(CLOTH, (side * 0.09, -0.95, -0.2), knee, 0.085, legs, legs))
        parts.append(limb(CLOTH, knee, foot, 0.065, legs, legs))
        shoulder = (side * 0.2, -0.98 - 0.3 * height, 0.06)
        parts.append(limb(CLOTH, shoulder, (side * 0.22, -1.08, 0.4), 0.055, sleeve, sleeve))
    parts.append(limb(PLAIN, (-0.24, -1.08, 0.42), (0.24, -1.08, 0.42), 0.025, frame))
    return parts
