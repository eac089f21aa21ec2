"""One street: its plan, light and camera path, and the rendering of one frame."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.synthetic import casting, labels, shading
from cpcdr.frames.synthetic.casting import Camera
from cpcdr.frames.synthetic.ground import Ground, centre_line
from cpcdr.frames.synthetic.objects import dry_paint, leaf_paint, paint
from cpcdr.frames.synthetic.primitives import Primitives, Vector, joined, pack
from cpcdr.frames.synthetic.scenery import OPEN, PARKING_WIDTH, scenery
from cpcdr.frames.synthetic.shading import Light, Surface
from cpcdr.frames.synthetic.traffic import Mover, movers, open_road_traffic

ZONE_LABELS = np.array(
    [labels.SKY, labels.ROAD, labels.SIDEWALK, labels.SIDEWALK, labels.TERRAIN], np.int32
)
"""Labels of the sky and of the ground's zones."""
SHADOW_REACH = 70.0
MOVERS_REACH = 90.0
OVERCAST = 0.3
"""Sunlight below this casts no shadows."""
SENSOR_NOISE = 1.6
"""Standard deviation of the sensor's noise in grey values of 255."""


@dataclass(frozen=True)
class Drive:
    """How the camera moves: metres per frame, lateral position and height in metres, and angles in
    radians; ``turn`` is +1 or -1 for a right or left turn at ``corner`` (metres of z), 0 for none.
    """

    start: float
    step: float
    lane: float
    height: float
    pitch: float
    yaw: float
    turn: int
    corner: float


@dataclass(frozen=True, eq=False)
class Street:
    """Everything in a street that is constant over the frames."""

    ground: Ground
    surface: Surface
    light: Light
    drive: Drive
    still: Primitives
    moving: tuple[Mover, ...]


@lru_cache(maxsize=64)
def build_open_road(seed: int, number: int, frames: int) -> Street:
    """Like `build_street`, a country road or motorway: wide, without pavements or crossings."""
    sources = np.random.SeedSequence([seed, number, 1]).spawn(5)
    rngs = [np.random.Generator(np.random.Philox(source)) for source in sources]
    ground = draw_ground(rngs[0])._replace(
        half_width=float(rngs[0].uniform(3.5, 11.5)),
        wave=2.0 * math.pi / float(rngs[0].uniform(200.0, 500.0)),
        left_pavement=0.0,
        right_pavement=0.0,
        kerb=float(rngs[0].uniform(0.01, 0.1)),
        crossing_period=0.0,
    )
    drive = draw_drive(rngs[1], ground)
    lanes = np.arange(1.8, ground.half_width - 0.9, 3.6)
    drive = replace(drive, lane=float(rngs[1].choice(lanes)), yaw=0.4 * drive.yaw)
    length = frames * drive.step
    still = scenery(rngs[2], ground, drive.start, length, turning=False, blocks=OPEN)
    moving = open_road_traffic(rngs[3], ground, drive.start, length, drive.step)
    surface = draw_surface(rngs[0])
    if rngs[0].random() < 0.4:
        surface = surface._replace(turf=dry_paint(rngs[0]), soil=dry_paint(rngs[0]))
    return Street(ground, surface, draw_light(rngs[4]), drive, pack(*still), tuple(moving))


@lru_cache(maxsize=64)
def build_street(seed: int, number: int, frames: int) -> Street:
    """The street ``number`` of a seed, long enough for a drive of ``frames`` frames."""
    sources = np.random.SeedSequence([seed, number]).spawn(5)
    rngs = [np.random.Generator(np.random.Philox(source)) for source in sources]
    ground = draw_ground(rngs[0])
    drive = draw_drive(rngs[1], ground)
    if drive.turn:
        ground = ground._replace(amplitude=0.0)
    length = frames * drive.step
    still = scenery(rngs[2], ground, drive.start, length, turning=drive.turn != 0)
    moving = movers(rngs[3], ground, drive.start, length, drive.step, drive.lane)
    return Street(
        ground, draw_surface(rngs[0]), draw_light(rngs[4]), drive, pack(*still), tuple(moving)
    )


def draw_ground(rng: np.random.Generator) -> Ground:
    """A random plan: a narrow lane or an avenue, straight or winding, with or without pavements."""
    half_width = float(rng.uniform(3.0, 7.0))
    pavements = rng.uniform(1.5, 7.0, 2) * (rng.random(2) < 0.9)
    crossing = rng.random() < 0.75
    return Ground(
        amplitude=float(rng.uniform(-11.0, 11.0)) if rng.random() < 0.7 else 0.0,
        wave=2.0 * math.pi / float(rng.uniform(110.0, 220.0)),
        phase=float(rng.uniform(0.0, 100.0)),
        half_width=half_width,
        left_pavement=float(pavements[0]),
        right_pavement=float(pavements[1]),
        kerb=float(rng.uniform(0.09, 0.17)),
        crossing_period=float(rng.uniform(55.0, 95.0)) if crossing else 0.0,
        crossing_offset=float(rng.uniform(0.0, 95.0)),
        crossing_half=float(rng.uniform(3.0, 6.0)),
    )


def draw_drive(rng: np.random.Generator, ground: Ground) -> Drive:
    """A random drive in the right or left lane, in some cases turning into a crossing road."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    room = ground.half_width - (3.6 if ground.half_width > PARKING_WIDTH else 1.2)
    lane = side * room * float(rng.uniform(0.3, 1.0))
    turn = int(rng.choice([-1, 1])) if ground.crossing_period > 0.0 and rng.random() < 0.3 else 0
    start = float(rng.uniform(0.0, 60.0))
    corner = 0.0
    if turn:
        corner = ground.crossing_offset
        start = corner - float(rng.uniform(10.0, 22.0))
    return Drive(
        start=start,
        step=float(rng.uniform(0.4, 0.6) if turn else rng.uniform(0.5, 0.9)),
        lane=lane,
        height=float(rng.uniform(1.3, 1.75)),
        pitch=float(rng.normal(0.0, 0.025)),
        yaw=float(rng.normal(0.0, 0.06)),
        turn=turn,
        corner=corner,
    )


def draw_surface(rng: np.random.Generator) -> Surface:
    """Random appearance of the ground: any part may be light or dark, warm or cold."""
    dashed = rng.random() < 0.8
    period = float(rng.uniform(4.0, 9.0)) if dashed else 0.0
    return Surface(
        asphalt=paint(rng, 0.06, 0.42, 0.45),
        paving=paint(rng, 0.06, 0.5, 0.5),
        turf=leaf_paint(rng),
        soil=paint(rng, 0.08, 0.4, 0.5),
        paint=(0.75, 0.75, 0.7) if rng.random() < 0.8 else (0.75, 0.55, 0.1),
        slab=float(rng.choice([0.3, 0.5, 0.6, 0.9])),
        dash_period=period,
        dash_length=period * float(rng.uniform(0.35, 1.0)),
        edge_lines=float(rng.random() < 0.5),
    )


def draw_light(rng: np.random.Generator) -> Light:
    """Sunny, hazy, overcast or low evening light."""
    overcast = rng.random() < 0.35
    height, bearing = float(rng.uniform(0.35, 1.1)), float(rng.uniform(0.0, 2.0 * math.pi))
    flat = math.cos(height)
    sun = np.array([flat * math.sin(bearing), -math.sin(height), flat * math.cos(bearing)])
    warm = max(0.0, 0.75 - height)
    tint = np.array([1.0, 1.0 - 0.35 * warm, 1.0 - 0.8 * warm])
    horizon = rng.uniform(0.5, 0.85) * (1.0 + rng.normal(0.0, 0.06, 3)) * (1.0 - 0.4 * (1 - tint))
    clear = rng.uniform((0.15, 0.35, 0.75), (0.45, 0.65, 1.1))
    zenith = horizon * (rng.uniform(0.65, 1.0) if overcast else clear)
    strength = 0.15 if overcast else float(rng.uniform(1.3, 2.2))
    ambient = float(rng.uniform(0.9, 1.2) if overcast else rng.uniform(0.4, 0.65))
    balance = 1.0 + rng.normal(0.0, 0.07, 3)
    return Light(
        sun=_vector(sun),
        sun_colour=_vector(strength * tint),
        sky_colour=_vector(ambient * (0.6 + 0.4 * zenith / zenith.mean())),
        zenith=_vector(zenith),
        horizon=_vector(horizon),
        haze=float(np.exp(rng.uniform(math.log(150.0), math.log(1500.0)))),
        clouds=float(rng.uniform(0.2, 0.75)) if rng.random() < 0.75 else 0.0,
        cloud_scale=float(rng.uniform(0.5, 1.6)),
        gain=_vector(balance * float(rng.uniform(0.75, 1.2))),
    )


def _vector(values: NDArray[np.float64]) -> Vector:
    return (float(values[0]), float(values[1]), float(values[2]))


def camera_pose(ground: Ground, drive: Drive, frame: int) -> NDArray[np.float64]:
    """Camera-to-world pose [4, 4] of a frame, metres."""
    travelled = drive.step * frame
    if drive.turn:
        x, z, heading = _turning(drive, travelled)
    else:
        z = drive.start + travelled
        middle, slope = centre_line(ground, z)
        heading = math.atan(slope)
        x = middle + drive.lane * math.cos(heading)
        z -= drive.lane * math.sin(heading)
    heading += drive.yaw + 0.006 * math.sin(0.7 * frame)
    pitch = drive.pitch + 0.004 * math.sin(1.3 * frame + 1.0)
    c, s = math.cos(heading), math.sin(heading)
    a, b = math.cos(pitch), math.sin(pitch)
    yaw = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, a, -b], [0.0, b, a]])
    pose = np.eye(4)
    pose[:3, :3] = yaw @ tilt
    pose[:3, 3] = (x, -drive.height, z)
    return pose


def _turning(drive: Drive, travelled: float) -> tuple[float, float, float]:
    """x, z and heading on a quarter circle into the crossing road, straight before and after."""
    radius = 9.0
    bend = drive.corner - radius - drive.start
    along = min(max(travelled - bend, 0.0), 0.5 * math.pi * radius)
    angle = along / radius
    x = radius * (1.0 - math.cos(angle)) + max(0.0, travelled - bend - 0.5 * math.pi * radius)
    z = drive.start + min(travelled, bend) + radius * math.sin(angle)
    return drive.lane + drive.turn * x, z, drive.turn * angle


@dataclass(frozen=True, eq=False)
class Rendered:
    """A rendered frame: image uint8 [H, W, 3] RGB, labels uint8 [H, W] train ids, disparity
    float32 [H, W] in 1/m, clipped to [0.005, 1], and the pose float64 [4, 4]."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    disparity: NDArray[np.float32]
    pose: NDArray[np.float64]


def render(
    street: Street, frame: int, intrinsics: NDArray[np.float32], size: tuple[int, int], seed: int
) -> Rendered:
    """Render one frame with 2 × 2 samples per pixel.

    Args:
        intrinsics: fx, fy, cx, cy in pixels, pixel centres at integers.
        size: (H, W) in pixels.
    """
    height, width = size
    pose = camera_pose(street.ground, street.drive, frame)
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    camera = Camera(pose, 2 * fx, 2 * fy, 2 * cx + 0.5, 2 * cy + 0.5)
    prims = _in_view(_with_movers(street, frame, pose), pose)
    samples = (2 * height, 2 * width)
    depth, part = np.empty(samples, np.float32), np.empty(samples, np.int32)
    lit, contact = np.ones(samples, np.bool_), np.ones(samples, np.float32)
    mixed = np.empty(size, np.bool_)
    casting.cast(prims, street.ground, camera, depth, part)
    casting.find_edges(part, mixed)
    light = street.light
    if max(light.sun_colour) > OVERCAST:
        casting.cast_shadows(prims, camera, light.sun, depth, part, mixed, SHADOW_REACH, lit)
    casting.contact_shade(prims, camera, depth, part, contact)
    colours = np.empty((height, width, 3), np.float32)
    shading.shade(
        prims, street.ground, street.surface, light, camera, depth, part, mixed, lit, contact,
        colours,
    )  # fmt: skip
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, frame])))
    noise = rng.standard_normal((height, width, 3), np.float32) * np.float32(SENSOR_NOISE)
    image = np.empty((height, width, 3), np.uint8)
    shading.develop(colours, light, noise, image)
    classes, disparity = np.empty(size, np.uint8), np.empty(size, np.float32)
    shading.measure(depth, part, prims.codes[:, 2], ZONE_LABELS, classes, disparity)
    return Rendered(image, classes, disparity, pose)


def _with_movers(street: Street, frame: int, pose: NDArray[np.float64]) -> Primitives:
    """Parts of the street and of all moving objects near the camera at this frame."""
    placed = [(mover.at(frame, street.ground), mover.seed) for mover in street.moving
              if mover.near(frame, street.ground, pose, MOVERS_REACH)]  # fmt: skip
    if not placed:
        return street.still
    return joined(street.still, pack([o for o, _ in placed], [seed for _, seed in placed]))


def _in_view(prims: Primitives, pose: NDArray[np.float64], reach: float = 190.0) -> Primitives:
    """Parts that may be visible or cast a shadow into view, nearest first."""
    centre = prims.to_world[:, :, 3] - pose[:3, 3]
    radius = np.sqrt((prims.half**2).sum(axis=1))
    ahead = centre @ pose[:3, 2]
    keep = np.flatnonzero((ahead + radius > -12.0) & (ahead - radius < reach))
    order = keep[np.argsort((ahead - radius)[keep], kind="stable")]
    return Primitives._make(values[order] for values in prims)
