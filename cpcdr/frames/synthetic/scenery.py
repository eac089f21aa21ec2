"""Furnishing a street with static objects along both sides, block by block."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from cpcdr.frames.synthetic import figures, objects
from cpcdr.frames.synthetic.ground import Ground, centre_line, road_distance
from cpcdr.frames.synthetic.labels import (
    BUILDING,
    CAR,
    FENCE,
    POLE,
    TERRAIN,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    VEGETATION,
    WALL,
)
from cpcdr.frames.synthetic.primitives import Parts, Placed

AHEAD = 130.0
"""Metres of street beyond the end of the drive."""


class Axis(NamedTuple):
    """A road to furnish: the main road, or one arm of a crossing road from its junction on.

    ``crossing`` is z of the crossing road's centre line, None for the main road; ``direction`` is
    +1 for the arm to the right and -1 for the arm to the left.
    """

    ground: Ground
    crossing: float | None
    direction: int
    half_width: float
    pavements: tuple[float, float]

    def place(self, along: float, across: float) -> tuple[float, float, float]:
        """x, z and heading of a point: metres along the axis and to the right of it."""
        if self.crossing is None:
            x, slope = centre_line(self.ground, along)
            heading = math.atan(slope)
            return x + across * math.cos(heading), along - across * math.sin(heading), heading
        x, _ = centre_line(self.ground, self.crossing)
        z = self.crossing - self.direction * across
        return x + self.direction * along, z, self.direction * math.pi / 2


class Block(NamedTuple):
    """Character of a stretch of one side of a street; lengths in metres, rates in 1/m."""

    buildings: float
    setback: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    boundary: float
    trees: float
    gardens: float


BLOCKS = {
    "city": Block(0.95, (0.0, 0.8), (7.0, 17.0), (8.0, 21.0), 0.0, 0.04, 0.0),
    "suburb": Block(0.85, (3.0, 8.0), (7.0, 13.0), (3.5, 8.0), 0.85, 0.03, 0.1),
    "park": Block(0.0, (9.0, 20.0), (8.0, 14.0), (4.0, 9.0), 0.7, 0.07, 0.12),
    "yards": Block(0.5, (6.0, 16.0), (12.0, 26.0), (4.0, 10.0), 0.95, 0.01, 0.02),
    "field": Block(0.08, (14.0, 30.0), (8.0, 14.0), (4.0, 7.0), 0.45, 0.02, 0.03),
    "verge": Block(0.02, (20.0, 40.0), (8.0, 14.0), (4.0, 8.0), 0.0, 0.03, 0.07),
}
TOWN = {"city": 0.26, "suburb": 0.24, "park": 0.18, "yards": 0.17, "field": 0.15}
OPEN = {"verge": 0.6, "field": 0.2, "park": 0.15, "yards": 0.05}
"""How often a stretch of each kind is drawn, in towns and on open roads."""
PARKING_WIDTH = 4.6
"""Cars park along roads of more than this half width in metres."""


class Furnisher:
    """Collects the standing objects of a street."""

    def __init__(
        self, rng: np.random.Generator, ground: Ground, blocks: Mapping[str, float]
    ) -> None:
        self.rng = rng
        self.ground = ground
        self.blocks = blocks
        self.objects: list[Placed] = []
        self.seeds: list[int] = []

    def put(self, parts: Parts, label: int, x: float, z: float, heading: float) -> None:
        """Place an object at kerb level, or at road level on the road."""
        height = self.ground.kerb if road_distance(self.ground, x, z) >= 0.0 else 0.0
        self.objects.append(Placed(parts, label, x, z, heading, height))
        self.seeds.append(int(self.rng.integers(0, 1 << 20)))

    def fits(self, x: float, z: float, heading: float, width: float, depth: float) -> bool:
        """Whether a footprint (metres along the heading's right and forward) is clear of roads."""
        c, s = math.cos(heading), math.sin(heading)
        margin = 0.25
        for a in np.linspace(-0.5, 0.5, 5) * width:
            for b in (-0.5 * depth, 0.5 * depth):
                if road_distance(self.ground, x + c * a + s * b, z - s * a + c * b) < margin:
                    return False
        return True

    def side(self, axis: Axis, side: int, begin: float, end: float) -> None:
        """Furnish one side (+1 right, -1 left) of an axis between two places along it."""
        along = begin
        while along < end:
            length = float(self.rng.uniform(22.0, 50.0))
            name = self.rng.choice(list(self.blocks), p=list(self.blocks.values()))
            stop = min(end, along + length)
            self.buildings(axis, side, along, stop, BLOCKS[name])
            self.boundary(axis, side, along, stop, BLOCKS[name])
            self.furniture(axis, side, along, stop, BLOCKS[name])
            along = stop

    def buildings(self, axis: Axis, side: int, begin: float, end: float, block: Block) -> None:
        """A row of house fronts with gaps."""
        rng, along = self.rng, begin
        edge = axis.half_width + axis.pavements[side > 0]
        setback = float(rng.uniform(*block.setback))
        while along < end:
            width = float(rng.uniform(*block.width))
            if rng.random() < block.buildings:
                depth = float(rng.uniform(7.0, 12.0))
                across = side * (edge + setback + depth / 2)
                x, z, heading = axis.place(along + width / 2, across)
                heading += side * math.pi / 2
                if self.fits(x, z, heading, width, depth + 2.0):
                    height = float(rng.uniform(*block.height))
                    self.put(objects.building(rng, width, depth, height), BUILDING, x, z, heading)
            along += width + float(rng.choice([0.0, 0.0, rng.uniform(1.0, 7.0)]))

    def boundary(self, axis: Axis, side: int, begin: float, end: float, block: Block) -> None:
        """A wall, fence or hedge along the pavement's far edge."""
        rng, along = self.rng, begin
        edge = axis.half_width + axis.pavements[side > 0] + 0.25
        kinds: list[tuple[Callable[[np.random.Generator, float], Parts], int]] = [
            (objects.fence, FENCE), (objects.wall, WALL), (objects.hedge, VEGETATION),
        ]  # fmt: skip
        while along < end:
            length = float(rng.uniform(5.0, 11.0))
            if rng.random() < block.boundary:
                draw, label = kinds[rng.choice(3, p=[0.42, 0.4, 0.18])]
                x, z, heading = axis.place(along + length / 2, side * edge)
                heading += side * math.pi / 2
                if self.fits(x, z, heading, length, 0.6):
                    self.put(draw(rng, length), label, x, z, heading)
            along += length

    def furniture(self, axis: Axis, side: int, begin: float, end: float, block: Block) -> None:
        """Poles, signs, trees and bollards at the kerb; trees and bushes behind."""
        rng = self.rng
        pavement = axis.pavements[side > 0]
        kerb = axis.half_width + (0.45 if pavement > 0.0 else 1.0)
        for along in scattered(rng, begin, end, 0.05):
            self.upright(axis, side, along, kerb, objects.pole(rng), POLE)
        for along in scattered(rng, begin, end, 0.05):
            self.sign(axis, side, along, kerb + float(rng.uniform(0.0, 0.4)))
        for along in scattered(rng, begin, end, 0.03):
            self.traffic_light(axis, side, along, kerb)
        for along in scattered(rng, begin, end, block.trees):
            deep = kerb + 0.3 if pavement > 2.0 else kerb + pavement + float(rng.uniform(1.0, 3.0))
            self.upright(axis, side, along, deep, objects.tree(rng), VEGETATION)
        for along in scattered(rng, begin, end, 1.2 * block.gardens):
            deep = axis.half_width + pavement + float(rng.uniform(1.5, 14.0))
            parts = objects.tree(rng) if rng.random() < 0.5 else objects.bush(rng)
            self.upright(axis, side, along, deep, parts, VEGETATION)
        if rng.random() < 0.2:
            for along in np.arange(begin, end, float(rng.uniform(1.6, 3.0))):
                self.upright(axis, side, float(along), kerb - 0.1, objects.bollard(rng), POLE)

    def upright(
        self, axis: Axis, side: int, along: float, across: float, parts: Parts, label: int
    ) -> None:
        """Place an object with -x towards the road."""
        x, z, heading = axis.place(along, side * across)
        if road_distance(self.ground, x, z) > 0.2:
            self.put(parts, label, x, z, heading + (0.0 if side > 0 else math.pi))

    def sign(self, axis: Axis, side: int, along: float, across: float) -> None:
        """A sign on its post, mostly facing the traffic that comes along the axis."""
        rng = self.rng
        x, z, heading = axis.place(along, side * across)
        if road_distance(self.ground, x, z) < 0.2:
            return
        heading += float(rng.normal(0.0, 0.2)) + (math.pi if rng.random() < 0.2 else 0.0)
        plates, height = objects.sign(rng)
        self.put(objects.post(rng, height), POLE, x, z, heading)
        self.put(plates, TRAFFIC_SIGN, x, z, heading)

    def traffic_light(self, axis: Axis, side: int, along: float, across: float) -> None:
        """A traffic light at the kerb, some with an arm over the road."""
        rng = self.rng
        x, z, heading = axis.place(along, side * across)
        if road_distance(self.ground, x, z) < 0.2:
            return
        reach = float(rng.uniform(1.5, 3.5)) if rng.random() < 0.5 else 0.0
        heads, carrier = objects.traffic_light(rng, side * reach)
        self.put(carrier, POLE, x, z, heading)
        self.put(heads, TRAFFIC_LIGHT, x, z, heading)

    def guard_rails(self, axis: Axis, begin: float, end: float) -> None:
        """Rails or low concrete walls along some stretches of the edges."""
        rng = self.rng
        for side in (-1, 1):
            across = side * (axis.half_width + float(rng.uniform(0.4, 2.0)))
            along = begin
            while along < end:
                stretch = along + float(rng.uniform(20.0, 80.0))
                if rng.random() < 0.5:
                    for middle in np.arange(along + 2.0, min(stretch, end), 4.0):
                        x, z, heading = axis.place(float(middle), across)
                        parts = objects.guard_rail(rng, 4.0)
                        self.put(parts, WALL, x, z, heading + side * math.pi / 2)
                along = stretch

    def overpasses(self, axis: Axis, begin: float, end: float) -> None:
        """Bridges across the road, on some roads."""
        if self.rng.random() < 0.6:
            return
        span = 2.0 * axis.half_width + float(self.rng.uniform(3.0, 14.0))
        for along in scattered(self.rng, begin + 25.0, end, 0.012):
            x, z, heading = axis.place(along, 0.0)
            heading += float(self.rng.normal(0.0, 0.1))
            self.put(objects.overpass(self.rng, span), WALL, x, z, heading)

    def parked_cars(self, axis: Axis, begin: float, end: float) -> None:
        """Cars at the kerbs of roads that are wide enough, in rows with gaps."""
        rng = self.rng
        if axis.half_width < PARKING_WIDTH:
            return
        for side in (-1, 1):
            filled = float(rng.uniform(0.1, 0.85))
            for along in np.arange(begin, end, float(rng.uniform(5.6, 6.8))):
                x, z, heading = axis.place(float(along), side * (axis.half_width - 1.1))
                inside = road_distance(self.ground, x, z)
                if rng.random() < filled and -1.4 < inside < -0.8:
                    heading += float(rng.normal(0.0, 0.03)) + (0.0 if side > 0 else math.pi)
                    self.put(figures.car(rng), CAR, x, z, heading)


def scattered(rng: np.random.Generator, begin: float, end: float, rate: float) -> Iterator[float]:
    """Random places between two, ``rate`` a metre on average."""
    yield from (float(v) for v in rng.uniform(begin, end, rng.poisson(rate * (end - begin))))


def crossings(ground: Ground, begin: float, end: float) -> list[float]:
    """z of the crossing roads between two z."""
    period = ground.crossing_period
    if period <= 0.0:
        return []
    first = math.ceil((begin - ground.crossing_offset) / period)
    last = math.floor((end - ground.crossing_offset) / period)
    return [ground.crossing_offset + n * period for n in range(first, last + 1)]


def scenery(
    rng: np.random.Generator,
    ground: Ground,
    start: float,
    length: float,
    turning: bool,
    blocks: Mapping[str, float] = TOWN,
) -> tuple[list[Placed], list[int]]:
    """All static objects of a street, and the seed of each object's textures.

    Args:
        start, length: z of the drive's first frame and metres driven.
        turning: the drive turns into the first crossing road, which is then furnished further.
        blocks: `TOWN` or `OPEN`; open roads have guard rails and bridges.
    """
    site = Furnisher(rng, ground, blocks)
    begin, end = start - 12.0, start + length + AHEAD
    main = Axis(ground, None, 1, ground.half_width, (ground.left_pavement, ground.right_pavement))
    for side in (-1, 1):
        site.side(main, side, begin, end)
    if blocks is OPEN:
        site.guard_rails(main, begin, end)
        site.overpasses(main, begin, end)
    else:
        site.parked_cars(main, begin, end)
    for z in crossings(ground, begin, end):
        for direction in (-1, 1):
            width = ground.right_pavement if direction > 0 else ground.left_pavement
            arm = Axis(ground, z, direction, ground.crossing_half, (width, width))
            from_, to = ground.half_width + 3.0, (length + AHEAD if turning else 60.0)
            for side in (-1, 1):
                site.side(arm, side, from_, to)
            site.parked_cars(arm, from_ + 6.0, to)
            for corner in (-1, 1):
                if rng.random() < 0.6:
                    across = ground.half_width + 0.5
                    along = z - direction * corner * (ground.crossing_half + 1.2)
                    site.traffic_light(main, direction, along, across)
    for _ in range(rng.integers(0, 4)):
        far = float(rng.uniform(-150.0, 150.0))
        x, z, _ = main.place(end + float(rng.uniform(40.0, 70.0)), far)
        site.put(objects.hill(rng), TERRAIN, x, z, 0.0)
    return site.objects, site.seeds
