"""Visibility: one scatter-max finds the visible sprite at every pixel of every mixed image.

Pasting regions one after another wherever they are nearer (DepthMix) gives the same image as a
z-buffer over all of them. A sprite is a source frame under an affine map, masked
by one region; the base of an image is the sprite of the whole frame. ``cpu.py`` and ``gpu.py`` have
the counterparts that `render` runs on a CPU and on a GPU with Triton.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TILE_HEIGHT, TILE_WIDTH = 8, 16
TILES_AT_ONCE = 1 << 15
"""4 M sprite pixels: bounds the memory for any number of sprites."""

_LOW_BITS = (1 << 32) - 1
_FIRST = (1 << 31) - 1


@dataclass(frozen=True)
class Sprites:
    """The sprite table, sorted by image; an image's base comes first, then its pastes in order.

    Attributes:
        first: int64 [BN + 1] each image's sprites are ``first[n]:first[n + 1]``.
        image: int32 [S] mixed image, 0..BN-1.
        frame: int32 [S] source frame, 0..BM-1.
        region: int32 [S] region id, unique over the batch; -1: every region (a base).
        appearance: uint8 [S].
        box: int32 [S, 4] pixels of the mixed image that the sprite may cover: left, top, right,
            bottom, the last two exclusive; never empty.
        to_source: float32 [S, 4] = a, b, c, d: mixed pixel (x, y) shows source pixel
            floor(a·x + b), floor(c·y + d).
        depth_scale: float32 [S] factor on the source's disparity.
        to_texel: float32 [S, 4] like ``to_source``, to texel coordinates of the sprite's mip level,
            with texel centres at integers.
        texture: int32 [S, 3] first texel of the frame's mip level, its width and its height.
        colour: float32 [S, 3, 4] from texel values 0..255 to colours in [0, 1].
        tiles: number of tiles that cover all boxes; kept on the host, which launches the kernels.
    """

    first: Tensor
    image: Tensor
    frame: Tensor
    region: Tensor
    appearance: Tensor
    box: Tensor
    to_source: Tensor
    depth_scale: Tensor
    to_texel: Tensor
    texture: Tensor
    colour: Tensor
    tiles: int


def tile_grid(box: Tensor) -> tuple[Tensor, Tensor]:
    """Columns and rows of tiles that cover boxes [S, 4]: int [S] each."""
    columns = (box[:, 2] - box[:, 0] + TILE_WIDTH - 1) // TILE_WIDTH
    return columns, (box[:, 3] - box[:, 1] + TILE_HEIGHT - 1) // TILE_HEIGHT


def source_index(
    to_source: Tensor, frame: Tensor, x: Tensor, y: Tensor, size: tuple[int, int]
) -> Tensor:
    """Flat index of the source pixel of mixed pixels; arguments broadcast.

    Product and sum stay separate: a fused multiply-add rounds differently, and CPU and GPU would
    disagree about pixels on a boundary. The clamp only keeps such pixels inside the frame.
    """
    height, width = size
    u = (to_source[..., 0] * x + to_source[..., 1]).floor().int().clamp(0, width - 1)
    v = (to_source[..., 2] * y + to_source[..., 3]).floor().int().clamp(0, height - 1)
    return (frame * height + v) * width + u


def visible_sprites(sprites: Sprites, ids: Tensor, disparity: Tensor, images: int) -> Tensor:
    """The visible sprite at every pixel: largest disparity, on a tie the earlier sprite.

    Args:
        ids: int32 [BM, H, W] region ids of the source frames.
        disparity: float32 [BM, H, W], at least 0.

    Returns:
        int64 [images, H, W] indices of sprites.
    """
    height, width = ids.shape[1:]
    # Non-negative floats sort like their bits, so one integer holds (disparity, sprite).
    nearest = torch.full((images * height * width,), -1, dtype=torch.int64, device=ids.device)
    box = sprites.box
    columns, rows = tile_grid(box)
    ends = (columns * rows).cumsum(0)
    for start in range(0, sprites.tiles, TILES_AT_ONCE):
        tile = torch.arange(start, min(start + TILES_AT_ONCE, sprites.tiles), device=ids.device)
        sprite = torch.searchsorted(ends, tile, right=True)
        tile = tile - (ends - columns * rows)[sprite]
        x0 = box[sprite, 0] + tile % columns[sprite] * TILE_WIDTH
        y0 = box[sprite, 1] + tile // columns[sprite] * TILE_HEIGHT
        _splat(nearest, sprites, sprite, x0, y0, ids, disparity)
    return (_FIRST - (nearest & _LOW_BITS)).view(images, height, width)


def _splat(
    nearest: Tensor,
    sprites: Sprites,
    sprite: Tensor,
    x0: Tensor,
    y0: Tensor,
    ids: Tensor,
    disparity: Tensor,
) -> None:
    """Scatter-max of T tiles: tile t of ``sprite[t]`` has its first pixel at x0[t], y0[t]."""
    size = (ids.shape[1], ids.shape[2])
    x = (x0[:, None] + torch.arange(TILE_WIDTH, device=ids.device))[:, None, :]  # [T, 1, 16]
    y = (y0[:, None] + torch.arange(TILE_HEIGHT, device=ids.device))[:, :, None]  # [T, 8, 1]

    def of(values: Tensor) -> Tensor:
        return values[sprite][:, None, None]

    source = source_index(of(sprites.to_source), of(sprites.frame), x, y, size)
    region = of(sprites.region)
    box = of(sprites.box)
    shown = (ids.view(-1)[source] == region) | (region < 0)
    shown &= (x < box[..., 2]) & (y < box[..., 3])
    depth = disparity.view(-1)[source] * of(sprites.depth_scale)
    key = (depth.view(torch.int32).long() << 32) | of(
        _FIRST - torch.arange(len(sprites.image), device=ids.device)
    )
    key = torch.where(shown, key, -1)
    x, y = x.clamp(max=size[1] - 1), y.clamp(max=size[0] - 1)
    target = (of(sprites.image).long() * size[0] + y) * size[1] + x
    nearest.scatter_reduce_(0, target.view(-1), key.view(-1), "amax")
