"""The slow way: paste one region after another, each where it is nearer than what is there.

Shares only the draws with the package. Colours are means of many bilinear samples under a pixel,
so they are exact where colours vary slowly.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from cpcdr.copy_paste.config import CopyPasteConfig
from cpcdr.copy_paste.layout import Layout, draw_layout
from cpcdr.copy_paste.mosaic import Frames
from cpcdr.copy_paste.sprites import bounding_boxes

LUMA = np.array([0.299, 0.587, 0.114])


def paste_one_by_one(
    frames: Frames, config: CopyPasteConfig, key: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One item's images [N, H, W, 3] in 0..1, regions [N, H, W], appearances [N, H, W]."""
    images = frames.images[0].permute(0, 2, 3, 1).numpy()
    disparity, local = frames.disparity[0].numpy(), frames.regions[0].numpy()
    starts = np.cumsum([0] + [ids.max() + 1 for ids in local])
    ids = local + starts[:-1, None, None]
    layout = _layout(images, ids, starts, config, key)
    rendered = []
    for n, view in enumerate(layout.views.affine):
        m = n % len(images)
        y, x = _back(view, ids.shape[1:])
        row, column = np.rint(y).astype(int), np.rint(x).astype(int)
        depth, region = disparity[m][row, column].copy(), ids[m][row, column].copy()
        appearance = np.full(region.shape, n // len(images))
        colour = _recolour(_sample(images[m], y, x, 1.0), layout.views.colours.matrix[n])
        for s in np.flatnonzero(layout.pastes.image == n):
            _paste(s, layout, images, disparity, ids, depth, region, appearance, colour)
        rendered.append((np.clip(colour, 0, 1), region, appearance))
    return tuple(np.stack(part) for part in zip(*rendered, strict=True))  # type: ignore[return-value]


def _paste(s, layout, images, disparity, ids, depth, region, appearance, colour) -> None:
    pastes, wanted = layout.pastes, layout.pastes.region[s]
    m, n = layout.frame_of[wanted], pastes.image[s]
    y, x = _back(layout.paste_affine[s], region.shape)
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    inside = (row >= 0) & (column >= 0) & (row < region.shape[0]) & (column < region.shape[1])
    row, column = np.where(inside, row, 0), np.where(inside, column, 0)
    near = disparity[m][row, column] * np.float32(pastes.scale[s])
    shown = inside & (ids[m][row, column] == wanted) & (near > depth)
    depth[shown] = near[shown]
    region[shown] = wanted
    appearance[shown] = pastes.appearance[s]
    step = 1 / abs(layout.paste_affine[s, 0, 0])
    own = _recolour(_sample(images[m], y[shown], x[shown], step), pastes.colours.matrix[s])
    colour[shown] = _recolour(own, layout.views.colours.matrix[n])


def _layout(images, ids, starts, config, key) -> Layout:
    import torch

    boxes = bounding_boxes(torch.from_numpy(ids).int(), int(starts[-1])).numpy()
    grey = images[:, ::8, ::8].mean((1, 2)) / 255 @ LUMA
    counts = np.array([b - a for a, b in pairwise(starts)])
    return draw_layout(key, boxes, counts, grey, ids.shape[1:], config)


def _back(affine, size) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    return (y - affine[1, 1]) / affine[1, 0], (x - affine[0, 1]) / affine[0, 0]


def _sample(image, y, x, step) -> np.ndarray:
    count = max(1, int(np.ceil(2 * step)))
    offsets = ((np.arange(count) + 0.5) / count - 0.5) * step
    return np.mean([_bilinear(image, y + dy, x + dx) for dy in offsets for dx in offsets], axis=0)


def _bilinear(image, y, x) -> np.ndarray:
    y, x = np.clip(y, 0, image.shape[0] - 1), np.clip(x, 0, image.shape[1] - 1)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    low, right = np.minimum(top + 1, image.shape[0] - 1), np.minimum(left + 1, image.shape[1] - 1)
    fy, fx = (y - top)[..., None], (x - left)[..., None]
    upper = image[top, left] * (1 - fx) + image[top, right] * fx
    return (upper * (1 - fy) + (image[low, left] * (1 - fx) + image[low, right] * fx) * fy) / 255


def _recolour(colour, matrix) -> np.ndarray:
    return colour @ matrix[:, :3].T + matrix[:, 3]
