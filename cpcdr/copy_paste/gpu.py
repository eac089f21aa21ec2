"""The compositor on a GPU: a dozen Triton kernels in place of 800 of PyTorch, with equal results.

Each function is the counterpart of one of the same name in ``zbuffer.py``, ``shading.py`` and
``appearance.py``, whose tensor code stays for devices without Triton. A program covers a tile of a
sprite or a row of pixels, and fetches, filters and colours a pixel without touching memory in
between. Products and sums are not fused: CPU and GPU would disagree about pixels on a boundary.
"""

# The arguments of what stands for an operation on the device ``meta`` are the operation's.
# mypy: disable-error-code="no-untyped-def, no-any-return"

from __future__ import annotations

import itertools

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from cpcdr.copy_paste import kernels
from cpcdr.copy_paste.appearance import BLURS, gaussian
from cpcdr.copy_paste.shading import LEVELS, OWN_WEIGHT, Pyramid, level_sizes
from cpcdr.copy_paste.sprites import bounding_boxes as bounding_boxes
from cpcdr.copy_paste.zbuffer import TILE_HEIGHT, TILE_WIDTH, Sprites, tile_grid
from cpcdr.runtime.device import move_together

_PIXELS = 256
"""Pixels of a program."""


def render(sprites: Sprites, pyramid: Pyramid, disparity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Visibility and colour of every mixed image; returns what `shade` does.

    Args:
        pyramid: texels of the source frames.
        disparity: float32 [BM, H, W], at least 0.
    """
    images, (height, width) = len(sprites.first) - 1, disparity.shape[1:]
    table = (sprites.image, sprites.frame, sprites.region, sprites.box)
    nearest = visible_op(
        *table,
        sprites.to_source,
        sprites.depth_scale,
        sprites.tiles,
        pyramid.ids,
        disparity,
        images,
    )
    table = (sprites.frame, sprites.region, sprites.appearance, sprites.to_source)
    shaded, regions, appearances, visible = shade_op(
        *(nearest, *table, sprites.to_texel, sprites.texture, sprites.colour),
        *(pyramid.texels, pyramid.ids, height, width),
    )
    return soften_op(shaded, visible), regions, appearances


def build_pyramid(images: Tensor, ids: Tensor) -> Pyramid:
    """See `cpcdr.copy_paste.shading.build_pyramid`."""
    return Pyramid(*pyramid_op(images, ids))


def blur_images(images: Tensor, sigma: NDArray[np.float64]) -> None:
    """See `cpcdr.copy_paste.appearance.blur_images`; all images in two kernels."""
    blurred = np.flatnonzero(sigma > BLURS)
    if not len(blurred):
        return
    bells = [gaussian(sigma[n]) for n in blurred]
    radius = max(len(bell) // 2 for bell in bells)
    weights = np.zeros((len(bells), 2 * radius + 1), np.float32)
    for row, bell in zip(weights, bells, strict=True):
        row[radius - len(bell) // 2 : radius + len(bell) // 2 + 1] = bell
    tables = torch.from_numpy(blurred), torch.from_numpy(weights)
    blur_op(images, *move_together(tables, images.device))


@torch.library.custom_op("cpcdr::pyramid", mutates_args=())
def pyramid_op(images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Texels uint8 [P, 3] and region ids int32 [P] of all levels."""
    frames, _, height, width = images.shape
    sizes = level_sizes((height, width))
    starts = list(itertools.accumulate((frames * h * w for h, w in sizes), initial=0))
    texels = images.new_empty(starts[-1], 3)
    labels = ids.new_empty(starts[-1])
    texels[: starts[1]].view(frames, height, width, 3).copy_(images.permute(0, 2, 3, 1))
    labels[: starts[1]] = ids.flatten()
    for level in range(1, LEVELS):
        (fine_height, fine_width), (height, width) = sizes[level - 1], sizes[level]
        count = frames * height * width
        kernels.halve_kernel[(triton.cdiv(count, _PIXELS),)](
            *(texels, labels, starts[level - 1], starts[level], count),
            *(fine_height, fine_width, height, width),
            PIXELS=_PIXELS,
        )
    return texels, labels


@pyramid_op.register_fake
def _(images, ids):
    sizes = level_sizes((images.shape[2], images.shape[3]))
    total = sum(len(images) * h * w for h, w in sizes)
    return images.new_empty(total, 3), ids.new_empty(total)


@torch.library.custom_op("cpcdr::visible", mutates_args=())
def visible_op(
    image: Tensor,
    frame: Tensor,
    region: Tensor,
    box: Tensor,
    to_source: Tensor,
    depth_scale: Tensor,
    tiles: int,
    ids: Tensor,
    disparity: Tensor,
    images: int,
) -> Tensor:
    """The nearest sprite of every pixel, int64 [images, H, W]: disparity's bits over the sprite's
    number from behind, -1 where there is none. ``ids``: those of the frames come first."""
    height, width = disparity.shape[1:]
    nearest = ids.new_full((images, height, width), -1, dtype=torch.int64)
    columns, rows = tile_grid(box)
    ends = (columns * rows).cumsum(0)
    tile = torch.arange(tiles, device=ids.device)
    sprite = torch.searchsorted(ends, tile, right=True, out_int32=True)
    kernels.splat_kernel[(tiles,)](
        *(nearest, sprite, ends, columns, rows, image, frame, region, box),
        *(to_source, depth_scale, ids, disparity, height, width),
        HEIGHT=TILE_HEIGHT,
        WIDTH=TILE_WIDTH,
        enable_fp_fusion=False,
    )
    return nearest


@visible_op.register_fake
def _(image, frame, region, box, to_source, depth_scale, tiles, ids, disparity, images):
    return ids.new_empty(images, *disparity.shape[1:], dtype=torch.int64)


@torch.library.custom_op("cpcdr::shade", mutates_args=())
def shade_op(
    nearest: Tensor,
    frame: Tensor,
    region: Tensor,
    appearance: Tensor,
    to_source: Tensor,
    to_texel: Tensor,
    texture: Tensor,
    colour: Tensor,
    texels: Tensor,
    ids: Tensor,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `cpcdr.copy_paste.shading.shade`, with sharp edges, and the visible sprite, int32."""
    images = torch.empty(
        (len(nearest), 3, height, width), dtype=torch.float32, device=nearest.device
    )
    regions, visible = torch.empty_like(nearest), torch.empty_like(nearest, dtype=torch.int32)
    appearances = torch.empty_like(nearest, dtype=torch.uint8)
    count = nearest.numel()
    kernels.shade_kernel[(triton.cdiv(count, _PIXELS),)](
        *(nearest, frame, region, appearance, to_source, to_texel, texture, colour, texels, ids),
        *(images, regions, appearances, visible, count, height, width),
        OWN=OWN_WEIGHT,
        PIXELS=_PIXELS,
        enable_fp_fusion=False,
    )
    return images, regions, appearances, visible


@shade_op.register_fake
def _(
    nearest,
    frame,
    region,
    appearance,
    to_source,
    to_texel,
    texture,
    colour,
    texels,
    ids,
    height,
    width,
):
    return (
        colour.new_empty(len(nearest), 3, height, width),
        torch.empty_like(nearest),
        torch.empty_like(nearest, dtype=torch.uint8),
        torch.empty_like(nearest, dtype=torch.int32),
    )


@torch.library.custom_op("cpcdr::soften", mutates_args=())
def soften_op(images: Tensor, visible: Tensor) -> Tensor:
    """As `cpcdr.copy_paste.shading.soften`."""
    softened, (height, width) = torch.empty_like(images), visible.shape[1:]
    count = visible.numel()
    kernels.soften_kernel[(triton.cdiv(count, _PIXELS),)](
        images, visible, softened, count, height, width, PIXELS=_PIXELS
    )
    return softened


@soften_op.register_fake
def _(images, visible):
    return torch.empty_like(images)


@torch.library.custom_op("cpcdr::blur", mutates_args={"images"})
def blur_op(images: Tensor, which: Tensor, weights: Tensor) -> None:
    """Images ``which`` [B] convolved along both axes with their rows of weights [B, taps]."""
    _, channels, height, width = images.shape
    half = images.new_empty(len(which), channels, height, width)
    grid = (triton.cdiv(height * width, _PIXELS), channels, len(which))
    sizes = (weights.shape[1], height, width)
    kernels.convolve_kernel[grid](
        images, half, which, weights, *sizes, VERTICAL=True, PIXELS=_PIXELS
    )
    kernels.convolve_kernel[grid](
        half, images, which, weights, *sizes, VERTICAL=False, PIXELS=_PIXELS
    )


@blur_op.register_fake
def _(images, which, weights):
    return None
