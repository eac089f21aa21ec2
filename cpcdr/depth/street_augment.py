"""What real cameras add to a clean rendering: lens, windscreen, weather, exposure, sensor, codec.

Every function is a pure function of its arguments and of the generator. Images are float32
[H, W, 3] in [0, 1] RGB but for `as_camera`, which takes and gives uint8.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.depth.street_shots import Shot

Picture = NDArray[Any]


def as_camera(shot: Shot, rng: np.random.Generator) -> Shot:
    """A shot as a random dash camera would have recorded it; depth follows where pixels move."""
    image, depth = shot.image, shot.depth
    if rng.random() < 0.5:
        image, depth = image[:, ::-1], depth[:, ::-1]
    if rng.random() < 0.4:
        image, depth = distort(image, depth, float(rng.uniform(-0.25, 0.1)))
    picture = image.astype(np.float32) / 255
    picture = fog(picture, depth, rng) if rng.random() < 0.2 else picture
    picture = expose(picture, rng)
    picture = windscreen(picture, rng) if rng.random() < 0.3 else picture
    picture = vignette(picture, float(rng.uniform(0.0, 0.5))) if rng.random() < 0.4 else picture
    picture = hood(picture, rng) if rng.random() < 0.25 else picture
    picture = blur(picture, rng) if rng.random() < 0.5 else picture
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0.0, 0.03))
    recorded = (np.clip(picture + noise, 0, 1) * 255).round().astype(np.uint8)
    if rng.random() < 0.15:
        recorded = np.repeat(cv2.cvtColor(recorded, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    if rng.random() < 0.5:
        recorded = jpeg(recorded, int(rng.integers(25, 90)))
    return Shot(np.ascontiguousarray(recorded), np.ascontiguousarray(depth), shot.focal)


def distort(
    image: NDArray[np.uint8], depth: NDArray[np.float32], k1: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Radial lens distortion r' = r (1 + k1 r²), r relative to half the width."""
    height, width = depth.shape
    x, y = np.meshgrid(
        (np.arange(width, dtype=np.float32) - (width - 1) / 2) / (width / 2),
        (np.arange(height, dtype=np.float32) - (height - 1) / 2) / (width / 2),
    )
    # Scaled so that no pixel comes from outside of the frame.
    most = 1 + height * height / (width * width)
    factor = (1 + k1 * (x * x + y * y)) / max(1.0, 1 + k1, 1 + k1 * most)
    map_x = (x * factor) * (width / 2) + (width - 1) / 2
    map_y = (y * factor) * (width / 2) + (height - 1) / 2
    warped = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved = cv2.remap(depth, map_x, map_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.uint8), np.asarray(moved, np.float32)


def fog(picture: Picture, depth: NDArray[np.float32], rng: np.random.Generator) -> Picture:
    """Haze that hides what lies beyond 50 to 300 m."""
    seen = np.exp(-depth / rng.uniform(50.0, 300.0))[..., None]
    colour = rng.uniform(0.5, 0.95) * (1 + rng.normal(0, 0.04, 3))
    return (picture * seen + (1 - seen) * colour).astype(np.float32)


def expose(picture: Picture, rng: np.random.Generator) -> Picture:
    """Gain, gamma, contrast, saturation and white balance, night included."""
    gain = 2.0 ** rng.uniform(-0.8, 0.6) * (1 + rng.normal(0, 0.08, 3))
    if rng.random() < 0.05:
        gain = gain * rng.uniform(0.1, 0.3)
    picture = np.clip(picture * gain.astype(np.float32), 0, 1) ** np.float32(rng.uniform(0.75, 1.3))
    grey = picture.mean(2, keepdims=True)
    picture = grey + (picture - grey) * np.float32(rng.uniform(0.2, 1.5))
    middle = np.float32(rng.uniform(0.3, 0.6))
    return np.clip(middle + (picture - middle) * np.float32(rng.uniform(0.7, 1.3)), 0, 1)


def windscreen(picture: Picture, rng: np.random.Generator) -> Picture:
    """A smooth veil of reflections."""
    height, width = picture.shape[:2]
    coarse = rng.uniform(0, 1, (3, 4, 3)).astype(np.float32)
    veil = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    strength = np.float32(rng.uniform(0.03, 0.2))
    return np.clip(picture * (1 - strength) + veil * strength, 0, 1)


def vignette(picture: Picture, strength: float) -> Picture:
    """Corners darker by ``strength``."""
    height, width = picture.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    return picture * (1 - np.float32(strength) * (x * x + y * y) / 2)[..., None]


def hood(picture: Picture, rng: np.random.Generator) -> Picture:
    """The camera's own bonnet along the lower border; depth stays that of the road below it."""
    height, width = picture.shape[:2]
    rise = float(rng.uniform(0.03, 0.16)) * height
    x = np.linspace(-1, 1, width, dtype=np.float32)
    edge = height - rise * (1 - rng.uniform(0.0, 0.8) * x * x)
    rows = np.arange(height, dtype=np.float32)[:, None]
    cover = np.clip(rows - edge + 0.5, 0, 1)[..., None]
    shine = 1 + 0.5 * np.clip((rows - edge) / max(rise, 1.0), 0, 1)[..., None]
    colour = np.float32(rng.uniform(0.02, 0.5)) * (1 + rng.normal(0, 0.1, 3)).astype(np.float32)
    return np.clip(picture * (1 - cover) + cover * colour * shine, 0, 1).astype(np.float32)


def blur(picture: Picture, rng: np.random.Generator) -> Picture:
    """Out of focus, or a smear along a short path."""
    if rng.random() < 0.7:
        return cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.5)))
    kernel = np.zeros((5, 5), np.float32)
    row, column = (rng.integers(0, 5, 2)).tolist()
    cv2.line(kernel, (column, row), (4 - column, 4 - row), 1.0)
    return cv2.filter2D(picture, -1, kernel / kernel.sum())


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The blocks and rings of a codec."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
