"""Visibility: the part that each image sample sees, its depth, and whether the sun reaches it.

Each part is ray-cast only inside the rectangle that it covers on screen, into a z-buffer; shadows
likewise, inside the rectangle of the part's shadow volume. Ray directions have unit depth in the
camera, so a ray parameter t is the sample's z in metres.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.synthetic.ground import FAR, cast_ground
from cpcdr.frames.synthetic.noise import kernel
from cpcdr.frames.synthetic.solids import hit, solid_of

SKY, ZONE_BASE = -2, -10
"""Part numbers where no part is seen: the sky, and ground of a zone as ``ZONE_BASE - zone``."""
NEAR = 0.05
HORIZON = 2000.0


class Camera(NamedTuple):
    """A pin-hole camera over samples: pose [4, 4] camera-to-world, focal length and centre in
    samples (integer coordinates are sample centres)."""

    pose: NDArray[np.float64]
    fx: float
    fy: float
    cx: float
    cy: float


@kernel
def screen_bounds(points, count, camera, height, width):
    """Sample rectangle (u0, u1, v0, v1; ends excluded) and nearest z of a hull of world points."""
    pose = camera.pose
    local = np.empty((count, 3))
    nearest, farthest = FAR, -FAR
    for i in range(count):
        x, y = points[i, 0] - pose[0, 3], points[i, 1] - pose[1, 3]
        z = points[i, 2] - pose[2, 3]
        for k in range(3):
            local[i, k] = pose[0, k] * x + pose[1, k] * y + pose[2, k] * z
        nearest = min(nearest, local[i, 2])
        farthest = max(farthest, local[i, 2])
    if farthest < NEAR:
        return 0, 0, 0, 0, FAR
    u0, u1, v0, v1 = FAR, -FAR, FAR, -FAR
    for i in range(count):
        for j in range(count if nearest < NEAR else 1):
            a, b = local[i, 2], local[j, 2]
            mix = 0.0
            if a < NEAR:
                if b <= NEAR:
                    continue
                mix = (NEAR - a) / (b - a)
            z = a + mix * (b - a)
            x = local[i, 0] + mix * (local[j, 0] - local[i, 0])
            y = local[i, 1] + mix * (local[j, 1] - local[i, 1])
            u0, u1 = min(u0, camera.fx * x / z), max(u1, camera.fx * x / z)
            v0, v1 = min(v0, camera.fy * y / z), max(v1, camera.fy * y / z)
    left = int(max(0.0, min(float(width), math.floor(u0 + camera.cx))))
    right = int(max(0.0, min(float(width), math.ceil(u1 + camera.cx) + 1.0)))
    top = int(max(0.0, min(float(height), math.floor(v0 + camera.cy))))
    bottom = int(max(0.0, min(float(height), math.ceil(v1 + camera.cy) + 1.0)))
    return left, right, top, bottom, max(nearest, 0.0)


@kernel
def corners(to_world, points):
    """World positions of a part's 8 corners, written to the first rows of ``points``."""
    for i in range(8):
        signs = (2.0 * (i & 1) - 1.0, 1.0 * (i & 2) - 1.0, 0.5 * (i & 4) - 1.0)
        for k in range(3):
            points[i, k] = to_world[k, 3]
            for axis in range(3):
                points[i, k] += signs[axis] * to_world[k, axis]


@kernel
def to_unit_point(matrix, x, y, z):
    """A world point in a part's unit coordinates."""
    return (
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + matrix[0, 3],
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + matrix[1, 3],
        matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + matrix[2, 3],
    )


@kernel
def to_unit_vector(matrix, x, y, z):
    """A world direction in a part's unit coordinates."""
    return (
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z,
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z,
        matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z,
    )


@kernel
def ray(camera, u, v):
    """World direction through a sample, of depth 1."""
    x, y = (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy
    pose = camera.pose
    return (
        pose[0, 0] * x + pose[0, 1] * y + pose[0, 2],
        pose[1, 0] * x + pose[1, 1] * y + pose[1, 2],
        pose[2, 0] * x + pose[2, 1] * y + pose[2, 2],
    )


@kernel
def cast(prims, ground, camera, depth, part):
    """Fill depth float32 [h, w] (z in metres, FAR = sky) and part int32 [h, w] of all samples.

    Parts come nearest first, so most hidden parts are never intersected.
    """
    height, width = depth.shape
    ox, oy, oz = camera.pose[0, 3], camera.pose[1, 3], camera.pose[2, 3]
    depth[:] = FAR
    part[:] = SKY
    points = np.empty((8, 3))
    sample = 1.0 / camera.fx
    for p in range(len(prims.codes)):
        corners(prims.to_world[p], points)
        left, right, top, bottom, nearest = screen_bounds(points, 8, camera, height, width)
        matrix, solid = prims.to_unit[p], solid_of(prims, p)
        ux, uy, uz = to_unit_point(matrix, ox, oy, oz)
        for v in range(top, bottom):
            for u in range(left, right):
                if depth[v, u] <= nearest:
                    continue
                dx, dy, dz = ray(camera, u, v)
                dx, dy, dz = to_unit_vector(matrix, dx, dy, dz)
                t = hit(solid, ux, uy, uz, dx, dy, dz, sample)
                if t < depth[v, u]:
                    depth[v, u] = t
                    part[v, u] = p
    for v in range(height):
        for u in range(width):
            dx, dy, dz = ray(camera, u, v)
            if dy <= 0.0 or (-ground.kerb - oy) / dy > min(HORIZON, depth[v, u]):
                continue
            t, kind = cast_ground(ground, ox, oy, oz, dx, dy, dz)
            if t < depth[v, u]:
                depth[v, u] = t
                part[v, u] = ZONE_BASE - kind


@kernel
def find_edges(part, mixed):
    """Set ``mixed`` (bool [h / 2, w / 2]) where the 2 × 2 samples of a pixel see several parts.

    Only there all samples are lit and shaded: elsewhere textures are smooth at pixel scale.
    """
    for v in range(mixed.shape[0]):
        for u in range(mixed.shape[1]):
            p = part[2 * v, 2 * u]
            same = p == part[2 * v, 2 * u + 1] and p == part[2 * v + 1, 2 * u]
            mixed[v, u] = not (same and p == part[2 * v + 1, 2 * u + 1])


@kernel
def world_point(camera, u, v, t):
    """The world point that a sample sees at depth t."""
    dx, dy, dz = ray(camera, u, v)
    pose = camera.pose
    return pose[0, 3] + t * dx, pose[1, 3] + t * dy, pose[2, 3] + t * dz


@kernel
def cast_shadows(prims, camera, sun, depth, part, mixed, reach, lit):
    """Clear ``lit`` (bool [h, w]) wherever a part within ``reach`` metres hides the sun.

    ``sun`` points to the sun. A part's shadow volume is the hull of the part and of its projection
    along the sun onto the road's plane.
    """
    height, width = depth.shape
    points = np.empty((16, 3))
    for p in range(len(prims.codes)):
        solid = solid_of(prims, p)
        corners(prims.to_world[p], points)
        for i in range(8):
            drop = points[i, 1] / sun[1]
            for k in range(3):
                points[8 + i, k] = points[i, k] - drop * sun[k]
        left, right, top, bottom, nearest = screen_bounds(points, 16, camera, height, width)
        # Shadows of slender parts are visible only nearby.
        size = solid.wide + solid.tall + solid.deep - max(solid.wide, solid.tall, solid.deep)
        if nearest > min(reach, 60.0 * size):
            continue
        matrix = prims.to_unit[p]
        dx, dy, dz = to_unit_vector(matrix, sun[0], sun[1], sun[2])
        for v in range(top, bottom):
            for u in range(left, right):
                t = depth[v, u]
                if not lit[v, u] or t < nearest or t > reach or part[v, u] == p:
                    continue
                if (u & 1 or v & 1) and not mixed[v >> 1, u >> 1]:
                    continue
                x, y, z = world_point(camera, u, v, t)
                x, y, z = to_unit_point(matrix, x, y, z)
                if 0.03 < hit(solid, x, y, z, dx, dy, dz, 0.0) < FAR:
                    lit[v, u] = False


@kernel
def contact_shade(prims, camera, depth, part, shade):
    """Darken ``shade`` (float32 [h, w]) on the ground around and under objects."""
    height, width = depth.shape
    points = np.empty((8, 3))
    for p in range(len(prims.codes)):
        world = prims.to_world[p]
        corners(world, points)
        foot = -FAR
        for i in range(8):
            foot = max(foot, points[i, 1])
        if foot < -0.6:
            continue
        for i in range(8):
            for k in (0, 2):
                points[i, k] += 0.7 * (points[i, k] - world[k, 3])
            points[i, 1] = 0.0 if i & 1 else -0.2
        left, right, top, bottom, nearest = screen_bounds(points, 8, camera, height, width)
        if nearest > 60.0:
            continue
        matrix = prims.to_unit[p]
        for v in range(top, bottom):
            for u in range(left, right):
                if part[v, u] > ZONE_BASE:
                    continue
                x, y, z = world_point(camera, u, v, depth[v, u])
                x, _, z = to_unit_point(matrix, x, y, z)
                away = max(abs(x), abs(z), 0.75 * math.sqrt(x * x + z * z))
                shade[v, u] = min(shade[v, u], 0.45 + 0.55 * min(1.0, max(0.0, away - 0.6)))
