"""The solids that make up objects, and the arrays that the ray caster reads.

A part is a unit solid (all coordinates in [-1, 1]) scaled by half sizes, rotated and moved. Rays
are cast in the unit solid's own coordinates, where each kind is a few lines.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BOX, ELLIPSOID, CYLINDER, PANEL, LEAVES = range(5)
"""Kinds, and the meaning of ``shape``: BOX tapers upwards by fractions (sides, front, back);
PANEL is a plane z = 0 with a mask (which, period, fill); LEAVES is a volume with a ragged surface
(1 for a clipped hedge or 0 for a crown, clump size in metres). The others have none."""

(PLAIN, FACADE, ROOF, MASONRY, FENCE, METAL, BARK, LEAF, SIGN, LAMP, BODY, CABIN, TYRE, CLOTH, FACE,
 SPOKES, TURF) = range(17)  # fmt: skip
"""Materials: each has its own texture at its own real-world scale."""

Vector = tuple[float, float, float]
IDENTITY = np.eye(3)


@dataclass(frozen=True)
class Part:
    """One solid in its object's frame: x right, y down, z forward, metres, y = 0 at the foot."""

    kind: int
    material: int
    centre: Vector
    half: Vector
    colour: Vector
    accent: Vector = (0.0, 0.0, 0.0)
    shape: Vector = (0.0, 0.0, 0.0)
    pattern: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    rotation: NDArray[np.float64] | None = None


Parts = list[Part]


class Placed(NamedTuple):
    """An object in the world: its parts, label, foot point and heading (0 along z, radians)."""

    parts: Sequence[Part]
    label: int
    x: float
    z: float
    heading: float
    height: float = 0.0


class Primitives(NamedTuple):
    """P parts as arrays: transforms [P, 3, 4], half [P, 3] in metres, colours [P, 2, 3] linear
    albedo, shape [P, 3], pattern [P, 4] of the texture, codes int32 [P, 4] = kind, material, label,
    seed."""

    to_unit: NDArray[np.float64]
    to_world: NDArray[np.float64]
    half: NDArray[np.float64]
    colours: NDArray[np.float64]
    shape: NDArray[np.float64]
    pattern: NDArray[np.float64]
    codes: NDArray[np.int32]


def yaw_rotation(yaw: float) -> NDArray[np.float64]:
    """Rotation about the vertical axis that takes z to the heading ``yaw`` (right positive)."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def limb(
    material: int,
    start: Vector,
    end: Vector,
    radius: float,
    colour: Vector,
    accent: Vector = (0.0, 0.0, 0.0),
) -> Part:
    """A cylinder between two points."""
    axis = [b - a for a, b in zip(start, end, strict=True)]
    length = max(math.hypot(*axis), 1e-9)
    ax, ay, az = (value / length for value in axis)
    # Any perpendicular direction: axis × z, or axis × x where the axis is along z.
    across = (ay, -ax, 0.0) if abs(az) < 0.9 else (0.0, az, -ay)
    norm = math.hypot(*across)
    sx, sy, sz = (value / norm for value in across)
    third = (sy * az - sz * ay, sz * ax - sx * az, sx * ay - sy * ax)
    rotation = np.array([(sx, ax, third[0]), (sy, ay, third[1]), (sz, az, third[2])])
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, (start[2] + end[2]) / 2)
    half = (radius, length / 2, radius)
    return Part(CYLINDER, material, middle, half, colour, accent, rotation=rotation)


def pack(objects: Sequence[Placed], seeds: Sequence[int]) -> Primitives:
    """Objects as arrays; ``seeds`` holds one integer per object for its textures."""
    flat = [part for placed in objects for part in placed.parts]
    count = len(flat)
    owner = np.repeat(np.arange(len(objects)), [len(placed.parts) for placed in objects])
    headings = np.array([yaw_rotation(placed.heading) for placed in objects]).reshape(-1, 3, 3)[
        owner
    ]
    feet = np.array([(o.x, -o.height, o.z) for o in objects], dtype=float).reshape(-1, 3)[owner]
    local = [IDENTITY if part.rotation is None else part.rotation for part in flat]
    rotation = headings @ np.array(local).reshape(count, 3, 3)
    centre = np.array([part.centre for part in flat], dtype=float).reshape(count, 3)
    position = np.einsum("pij,pj->pi", headings, centre) + feet
    half = np.array([part.half for part in flat], dtype=float).reshape(count, 3)
    linear = rotation.transpose(0, 2, 1) / half[:, :, None]
    shift = -np.einsum("pij,pj->pi", linear, position)
    codes = np.empty((count, 4), np.int32)
    codes[:, 0] = [part.kind for part in flat]
    codes[:, 1] = [part.material for part in flat]
    codes[:, 2] = np.array([placed.label for placed in objects])[owner]
    codes[:, 3] = np.array(seeds)[owner]
    return Primitives(
        to_unit=np.concatenate([linear, shift[:, :, None]], axis=2),
        to_world=np.concatenate([rotation * half[:, None, :], position[:, :, None]], axis=2),
        half=half,
        colours=np.array([part.colour + part.accent for part in flat]).reshape(count, 2, 3),
        shape=np.array([part.shape for part in flat], dtype=float).reshape(count, 3),
        pattern=np.array([part.pattern for part in flat], dtype=float).reshape(count, 4),
        codes=codes,
    )


def joined(first: Primitives, second: Primitives) -> Primitives:
    """Both sets of parts concatenated."""
    pairs = zip(first, second, strict=True)
    return Primitives._make(np.concatenate([a, b]) for a, b in pairs)
