"""Which regions are pasted, how often, where, at which scale and in which colours.

All random draws happen here, on the CPU, into small tables: they depend on the item's key alone,
not on batch or device.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpcdr.copy_paste.appearance import COLOUR_DRAWS, Colours, colours
from cpcdr.copy_paste.config import CopyPasteConfig

REFERENCE_HEIGHT = 384
"""Frame height in pixels at which the configured pixel counts hold; others scale with it."""


@dataclass(frozen=True)
class Pastes:
    """Every paste of one item, in the order of pasting.

    Attributes:
        region: int64 [S] index into the item's regions.
        image: int64 [S] mixed image of the item, 0..N-1.
        appearance: int64 [S].
        scale: float64 [S] size relative to the source frame.
        affine: float64 [S, 2, 2]; axis x then y; ``canvas = affine[s, axis, 0] * source +
            affine[s, axis, 1]``, in pixels with pixel centres at integers.
        colours: matrices [S, 3, 4]; blur [S] in canvas pixels.
    """

    region: NDArray[np.int64]
    image: NDArray[np.int64]
    appearance: NDArray[np.int64]
    scale: NDArray[np.float64]
    affine: NDArray[np.float64]
    colours: Colours


def bounding_boxes(ids: Tensor, count: int) -> Tensor:
    """Bounding boxes of all regions in one pass of scatter-min.

    Args:
        ids: int32 [F, H, W] region ids, unique over the frames, in 0..count-1.
        count: number of region ids.

    Returns:
        int32 [count, 4] = left, top, right, bottom, all inclusive; an id without pixels has
        right < left.
    """
    height, width = ids.shape[1:]
    x = torch.arange(width, dtype=torch.int32, device=ids.device).expand(ids.shape)
    y = torch.arange(height, dtype=torch.int32, device=ids.device)[:, None].expand(ids.shape)
    boxes = torch.full((4, count), max(height, width), dtype=torch.int32, device=ids.device)
    index = ids.reshape(-1).long()
    for row, coordinate in zip(boxes, (x, y, -x, -y), strict=True):
        row.scatter_reduce_(0, index, coordinate.reshape(-1), "amin")
    boxes[2:] *= -1
    return boxes.T.contiguous()


def eligible(
    boxes: NDArray[np.int32], size: tuple[int, int], config: CopyPasteConfig
) -> NDArray[np.bool_]:
    """Regions to paste, neither too small nor the whole frame: boxes [R, 4] -> bool [R]."""
    unit = size[0] / REFERENCE_HEIGHT
    w = boxes[:, 2] - boxes[:, 0] + 1
    h = boxes[:, 3] - boxes[:, 1] + 1
    dust = (h < config.min_height * unit) | (w < config.min_width * unit)
    dust |= (h < config.min_side * unit) & (w < config.min_side * unit)
    margin = config.frame_margin * unit
    return ~dust & ~((h > size[0] - margin) & (w > size[1] - margin)) & (w > 0)


def draw_pastes(
    random: np.random.Generator,
    boxes: NDArray[np.int32],
    grey: NDArray[np.float64],
    frames: int,
    size: tuple[int, int],
    config: CopyPasteConfig,
) -> Pastes:
    """Draw every paste of one item.

    Each round repeats the eligible regions, shuffles the list and deals it out to its images.

    Args:
        boxes: int32 [R, 4] of the item's regions, inclusive.
        grey: [R] mean luminance of each region's frame, in [0, 1].
        frames: M, the images of a round.
    """
    candidates = np.flatnonzero(eligible(boxes, size, config))
    region, image, appearance = [], [], []
    first = len(config.pastes)
    for round_, count in enumerate(config.pastes):
        order = random.permutation(len(candidates) * count)
        region.append(candidates[order % max(len(candidates), 1)])
        appearance.append(first + order // max(len(candidates), 1))
        image.append(round_ * frames + np.arange(len(order)) % frames)
        first += count
    regions = np.concatenate(region)
    uniform = random.random((len(regions), 4 + COLOUR_DRAWS))
    unit = size[0] / REFERENCE_HEIGHT
    scale, affine = place(uniform[:, :4], boxes[regions], size, config)
    return Pastes(
        regions,
        np.concatenate(image),
        np.concatenate(appearance),
        scale,
        affine,
        colours(uniform[:, 4:], grey[regions], config.colour, unit),
    )


def place(
    uniform: NDArray[np.float64],
    boxes: NDArray[np.int32],
    size: tuple[int, int],
    config: CopyPasteConfig,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and place pastes with plausible perspective: larger ones lie lower below the horizon.

    Args:
        uniform: [S, 4] in [0, 1) for scale, column, row and mirroring.
        boxes: int32 [S, 4] source boxes, inclusive.
        size: H, W; the horizon is assumed at H / 2.

    Returns:
        scale [S] and the affine maps [S, 2, 2] of `Pastes`.
    """
    height, width = size
    unit = height / REFERENCE_HEIGHT
    left, top = boxes[:, 0].astype(float), boxes[:, 1].astype(float)  # edges: pixel x spans x..x+1
    w, h = boxes[:, 2] + 1.0 - left, boxes[:, 3] + 1.0 - top
    low = np.maximum(config.scale[0], config.min_pasted * unit / np.minimum(w, h))
    high = np.minimum(config.scale[1], config.max_pasted * np.minimum(height / h, width / w))
    low = np.minimum(low, high)
    scale = 1.0 / (1.0 / high + (1.0 / low - 1.0 / high) * uniform[:, 0])
    # At least one pixel column stays inside the frame.
    new_left = 1.0 - w * scale + (width - 2.0 + w * scale) * uniform[:, 1]
    jitter = config.vertical_jitter * unit * (2.0 * uniform[:, 2] - 1.0)
    new_top = (top - height / 2) * scale + height / 2 + jitter
    mirrored = uniform[:, 3] < config.flip
    affine = np.empty((len(boxes), 2, 2))
    affine[:, 0, 0] = np.where(mirrored, -scale, scale)
    affine[:, 1, 0] = scale
    start = np.where(mirrored, left + w, left)  # the source edge that lands on new_left
    affine[:, 0, 1] = new_left + affine[:, 0, 0] * (0.5 - start) - 0.5
    affine[:, 1, 1] = new_top + scale * (0.5 - top) - 0.5
    return scale, affine
