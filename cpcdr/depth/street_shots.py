"""Rendered driving scenes with exact depth, to supervise a depth network on any camera.

A shot is a function of (seed, number): a street of a town or an open road, seen by a camera of
random field of view, height, pitch and place in the drive.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.synthetic.street import build_open_road, build_street, render

SHOTS_PER_STREET = 2
"""Building a street costs half as much as rendering it."""
SHAPES = ((160, 384), (192, 320))
"""(H, W) of shots with even and with odd numbers: wide frames and 16:9 ones, of equal area."""
FARTHEST_M = 200.0
"""Depth of the sky."""
_FRAMES = 12
_OPEN_FRACTION = 0.4
_FOV = (40.0, 110.0)
_HEIGHT = (0.9, 2.6)


class Shot(NamedTuple):
    """A frame: image uint8 [H, W, 3] RGB, depth float32 [H, W] in metres up to 200, and the focal
    length in pixels of this image."""

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    focal: float


def render_shot(seed: int, number: int, size: tuple[int, int] | None = None) -> Shot:
    """Render shot ``number`` of a seed.

    Args:
        seed: of streets and cameras.
        number: consecutive numbers share a street.
        size: (H, W) in pixels, other than that of `SHAPES`.
    """
    height, width = size = size or SHAPES[number % len(SHAPES)]
    street_number = number // SHOTS_PER_STREET
    rng = np.random.default_rng([seed, number, 7])
    is_open = np.random.default_rng([seed, street_number, 8]).random() < _OPEN_FRACTION
    build = build_open_road if is_open else build_street
    street = build(seed, street_number, _FRAMES)
    drive = replace(
        street.drive,
        height=float(rng.uniform(*_HEIGHT)),
        pitch=float(rng.normal(0.0, 0.05)),
        yaw=street.drive.yaw + float(rng.normal(0.0, 0.06)),
    )
    fov = math.radians(float(rng.uniform(*_FOV)))
    focal = 0.5 * width / math.tan(0.5 * fov)
    centre = rng.normal(0.0, (0.02 * width, 0.06 * height))
    intrinsics = np.array(
        [focal, focal, (width - 1) / 2 + centre[0], (height - 1) / 2 + centre[1]], np.float32
    )
    rendered = render(
        replace(street, drive=drive), int(rng.integers(_FRAMES)), intrinsics, size, seed + number
    )
    depth = (1 / np.maximum(rendered.disparity, 1 / FARTHEST_M)).astype(np.float32)
    return Shot(rendered.image, depth, focal)
