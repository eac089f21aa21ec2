"""Small scenes for the compositor's tests."""

from __future__ import annotations

import numpy as np
import torch

from cpcdr.copy_paste.config import ColourConfig, CopyPasteConfig, ViewConfig
from cpcdr.copy_paste.mosaic import Frames

PLAIN = ColourConfig(jitter_probability=0.0, blur_probability=0.0, grey_probability=0.0)
UNCHANGED = ViewConfig(zoom=(1.0, 1.0), flip=0.0, colour=PLAIN)
SHARP = ColourConfig(blur_probability=0.0)


def scene(
    items: int = 1, frames: int = 2, size: tuple[int, int] = (96, 160), seed: int = 0
) -> Frames:
    """Smooth random colours, wavy patchwork of regions, each region at its own disparity."""
    random = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width].astype(float)
    images, disparity, regions = [], [], []
    for _ in range(items * frames):
        phase = random.random((3, 3, 1, 1)) * 6.0
        wave = np.sin(x * 5.0 / width + phase[0]) + np.cos(y * 4.0 / height + phase[1])
        images.append(np.clip(127 + 55 * wave, 0, 255).astype(np.uint8))
        column = (x + 5 * np.sin(y / 9 + phase[2, 0])) // random.integers(20, 35)
        row = (y + 4 * np.sin(x / 11 + phase[2, 1])) // random.integers(18, 30)
        ids = np.unique(column * 100 + row, return_inverse=True)[1].reshape(size)
        regions.append(ids)
        disparity.append((random.random(ids.max() + 1) * 0.4 + 0.05)[ids] + 0.1 * y / height)
    lead = (items, frames)
    return Frames(
        torch.from_numpy(np.stack(images)).view(*lead, 3, height, width),
        torch.from_numpy(np.stack(disparity)).float().view(*lead, height, width),
        torch.from_numpy(np.stack(regions)).view(*lead, height, width),
    )


def coordinates(frames: Frames) -> Frames:
    """The same frames with every pixel's column and row as red and green."""
    height, width = frames.regions.shape[2:]
    images = torch.zeros_like(frames.images)
    images[:, :, 0] = torch.arange(width)
    images[:, :, 1] = torch.arange(height)[:, None]
    return Frames(images, frames.disparity, frames.regions)


def plain(**changes: object) -> CopyPasteConfig:
    """Geometry as usual, colours untouched."""
    settings: dict = {"colour": PLAIN, "view": ViewConfig(colour=PLAIN), **changes}
    return CopyPasteConfig(**settings)
