"""Moving objects of a street: pedestrians, cyclists and cars as functions of the frame index."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.synthetic import figures
from cpcdr.frames.synthetic.ground import Ground, road_distance
from cpcdr.frames.synthetic.labels import CAR, PERSON, RIDER
from cpcdr.frames.synthetic.primitives import Parts, Placed
from cpcdr.frames.synthetic.scenery import PARKING_WIDTH, Axis, scattered

GAIT = 8
"""Poses of a stride."""


@dataclass(frozen=True)
class Mover:
    """A moving object: ``along`` metres at frame 0, ``across`` the road, ``speed`` in metres per
    frame along the road, ``drift`` across it (crossing pedestrians)."""

    kind: str
    seed: int
    along: float
    across: float
    speed: float
    drift: float = 0.0

    def where(self, frame: int, ground: Ground) -> tuple[float, float, float]:
        """x, z and the road's heading at a frame."""
        axis = Axis(ground, None, 1, ground.half_width, (0.0, 0.0))
        return axis.place(self.along + self.speed * frame, self.across + self.drift * frame)

    def near(self, frame: int, ground: Ground, pose: NDArray[np.float64], reach: float) -> bool:
        """Whether it is less than ``reach`` metres ahead of a camera, or just behind it."""
        x, z, _ = self.where(frame, ground)
        ahead = pose[0, 2] * (x - pose[0, 3]) + pose[2, 2] * (z - pose[2, 3])
        beside = pose[0, 0] * (x - pose[0, 3]) + pose[2, 0] * (z - pose[2, 3])
        return -4.0 < ahead < reach and abs(beside) < 1.2 * max(ahead, 0.0) + 8.0

    def at(self, frame: int, ground: Ground) -> Placed:
        """The object at its place at a frame."""
        x, z, heading = self.where(frame, ground)
        heading += math.atan2(self.drift, self.speed) if self.drift or self.speed else 0.0
        height = ground.kerb if road_distance(ground, x, z) >= 0.0 else 0.0
        travelled = math.hypot(self.speed, self.drift) * frame
        if self.kind in ("car", "lorry"):
            return Placed(_figure(self.kind, self.seed, 0), CAR, x, z, heading, height)
        rider = self.kind == "cyclist"
        cycles = (2.2 if rider else 4.0) * travelled / (2.0 * math.pi)
        pose = int(GAIT * (self.seed % 7 / 7 + cycles)) % GAIT
        label = RIDER if rider else PERSON
        return Placed(_figure(self.kind, self.seed, pose), label, x, z, heading, height)


@lru_cache(maxsize=4096)
def _figure(kind: str, seed: int, pose: int) -> Parts:
    """A mover's parts in one of the ``GAIT`` poses of a stride or pedal cycle."""
    rng = np.random.Generator(np.random.Philox(seed))
    phase = 2.0 * math.pi * pose / GAIT
    if kind in ("car", "lorry"):
        return figures.car(rng) if kind == "car" else figures.lorry(rng)
    return figures.cyclist(rng, phase) if kind == "cyclist" else figures.person(rng, phase)


def movers(
    rng: np.random.Generator, ground: Ground, start: float, length: float, step: float, lane: float
) -> list[Mover]:
    """Pedestrians, cyclists and moving cars of a street in a town."""
    result: list[Mover] = []
    begin, end = start + 4.0, start + length + 90.0
    busy = float(rng.uniform(0.5, 1.6))

    def add(kind: str, along: float, across: float, speed: float, drift: float = 0.0) -> None:
        result.append(Mover(kind, int(rng.integers(0, 1 << 20)), along, across, speed, drift))

    parking = ground.half_width >= PARKING_WIDTH
    for along in scattered(rng, begin, end, 0.13 * busy):
        side = float(rng.choice([-1.0, 1.0]))
        pavement = ground.right_pavement if side > 0 else ground.left_pavement
        across = side * (ground.half_width + float(rng.uniform(0.6, max(1.2, pavement))))
        walking = float(rng.choice([0.0, 0.09, 0.12, -0.09, -0.12]))
        for _ in range(rng.integers(1, 3)):
            near = rng.normal(0.0, 0.6, 2)
            add("person", along + float(near[0]), across + 0.5 * float(near[1]), walking)
    for along in scattered(rng, begin + 6.0, end, 0.03 * busy):
        drift = float(rng.choice([-0.12, 0.12]))
        add("person", along, float(rng.uniform(-0.8, 0.8)) * ground.half_width, 0.0, drift)
    for along in scattered(rng, begin, end, 0.075):
        side = float(rng.choice([-1.0, 1.0]))
        speed = float(rng.uniform(0.25, 0.55)) * (1.0 if side == math.copysign(1.0, lane) else -1.0)
        across = side * (ground.half_width - (2.7 if parking else 0.8))
        add("cyclist", along, across + float(rng.normal(0.0, 0.15)), speed)
    opposite = -math.copysign(max(1.5, abs(lane)), lane)
    for along in scattered(rng, begin + 10.0, end + length, 0.022 * busy):
        add("car", along, opposite, -step * float(rng.uniform(0.7, 1.3)))
    if rng.random() < 0.45:
        add("car", start + float(rng.uniform(9.0, 22.0)), lane, step)
    return result


def open_road_traffic(
    rng: np.random.Generator, ground: Ground, start: float, length: float, step: float
) -> list[Mover]:
    """Cars and lorries in every lane of an open road; the left half drives towards the camera."""
    result = []
    busy, lorries = float(rng.uniform(0.005, 0.06)), float(rng.uniform(0.0, 0.3))
    lanes = np.arange(1.8, ground.half_width - 0.9, 3.6)
    for across in (*lanes, *-lanes):
        for along in scattered(rng, start + 6.0, start + length + 90.0, busy):
            speed = step * float(rng.uniform(0.8, 1.2)) * (1.0 if across > 0 else -1.0)
            seed = int(rng.integers(0, 1 << 20))
            kind = "lorry" if rng.random() < lorries else "car"
            result.append(Mover(kind, seed, along, float(across), speed))
    return result
