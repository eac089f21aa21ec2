"""Deferred shading: colour is fetched once per visible pixel, from a region-aware mip pyramid.

A mip texel averages only those of its four children that belong to its majority region, and a
sprite blends only texels of its own region: minified sprites neither alias nor carry a halo of
their source background. Blur is a coarser mip level. `render` runs these functions on a GPU; on a
CPU it runs their counterparts in ``cpu.py``.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cpcdr.copy_paste.appearance import blur_images as blur_images
from cpcdr.copy_paste.appearance import smooth
from cpcdr.copy_paste.sprites import bounding_boxes as bounding_boxes
from cpcdr.copy_paste.zbuffer import Sprites, source_index, visible_sprites

LEVELS = 5
PIXELS_AT_ONCE = 1 << 22
OWN_WEIGHT = 1e-3
"""Weight of the source pixel itself: the fallback where no coarse texel belongs to the region."""


@dataclass(frozen=True)
class Pyramid:
    """Mip levels of F frames, finest first, each level [F, H_l, W_l] flattened.

    Attributes:
        texels: uint8 [P, 3] RGB.
        ids: int32 [P] region of each texel.
    """

    texels: Tensor
    ids: Tensor


def level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width of every mip level; halves are rounded up."""
    return [(-(-size[0] >> level), -(-size[1] >> level)) for level in range(LEVELS)]


def build_pyramid(images: Tensor, ids: Tensor) -> Pyramid:
    """Region-aware box pyramid of uint8 [F, 3, H, W] images with int32 [F, H, W] region ids."""
    colour = images.permute(0, 2, 3, 1)
    texels, labels = [colour.reshape(-1, 3)], [ids.reshape(-1)]
    for _ in range(LEVELS - 1):
        children = torch.stack(_quarters(ids))
        votes = (children[:, None] == children[None]).sum(1)
        ids = children.gather(0, votes.max(0, keepdim=True).indices)[0]
        own = (children == ids).int()
        count = own.sum(0)[..., None]
        total = (torch.stack(_quarters(colour)).int() * own[..., None]).sum(0)
        colour = ((total + count // 2) // count).to(torch.uint8)
        texels.append(colour.reshape(-1, 3))
        labels.append(ids.reshape(-1))
    return Pyramid(torch.cat(texels), torch.cat(labels))


def _quarters(values: Tensor) -> list[Tensor]:
    """The four children of every texel of the next level; the last row and column are repeated."""
    height, width = values.shape[1:3]
    y = torch.arange(0, height, 2, device=values.device)
    x = torch.arange(0, width, 2, device=values.device)
    rows = (values[:, y], values[:, (y + 1).clamp(max=height - 1)])
    return [row[:, :, column] for row in rows for column in (x, (x + 1).clamp(max=width - 1))]


def render(sprites: Sprites, pyramid: Pyramid, disparity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Visibility and colour of every mixed image; returns what `shade` does.

    Args:
        pyramid: texels of the source frames.
        disparity: float32 [BM, H, W], at least 0.
    """
    ids = pyramid.ids[: disparity.numel()].view(disparity.shape)
    visible = visible_sprites(sprites, ids, disparity, len(sprites.first) - 1)
    return shade(sprites, visible, pyramid, (disparity.shape[1], disparity.shape[2]))


def shade(
    sprites: Sprites, visible: Tensor, pyramid: Pyramid, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Colours and labels of the mixed images.

    Args:
        visible: int64 [N, H, W] the visible sprite.
        pyramid: texels of the source frames.

    Returns:
        images float32 [N, 3, H, W] in [0, 1], regions int64 [N, H, W], appearances uint8 [N, H, W].
    """
    step = max(1, PIXELS_AT_ONCE // (size[0] * size[1]))
    parts = [_shade(sprites, part, pyramid, size) for part in visible.split(step)]
    images, regions, appearances = zip(*parts, strict=True)
    return torch.cat(images), torch.cat(regions), torch.cat(appearances)


def _shade(
    sprites: Sprites, visible: Tensor, pyramid: Pyramid, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.arange(size[1], device=visible.device)
    y = torch.arange(size[0], device=visible.device)[:, None]
    source = source_index(sprites.to_source[visible], sprites.frame[visible], x, y, size)
    rgb = _filtered(sprites, visible, pyramid, x, y, source)
    colour = sprites.colour[visible]
    rgb = (colour[..., :3] * rgb[..., None, :]).sum(-1) + colour[..., 3]
    images = soften(rgb.clamp_(0.0, 1.0).permute(0, 3, 1, 2), visible)
    return images, pyramid.ids[source].long(), sprites.appearance[visible]


def _filtered(
    sprites: Sprites, visible: Tensor, pyramid: Pyramid, x: Tensor, y: Tensor, source: Tensor
) -> Tensor:
    """Bilinear interpolation over texels of the sprite's own region: [N, H, W, 3] in 0..255."""
    to_texel = sprites.to_texel[visible]
    u = to_texel[..., 0] * x + to_texel[..., 1]
    v = to_texel[..., 2] * y + to_texel[..., 3]
    first, width, height = sprites.texture[visible].unbind(-1)
    region = sprites.region[visible]
    total = torch.full_like(u, OWN_WEIGHT)
    rgb = pyramid.texels[source] * OWN_WEIGHT
    left, top = u.floor(), v.floor()
    for dy in (0, 1):
        row = first + (top.int() + dy).clamp_(min=0).minimum(height - 1) * width
        for dx in (0, 1):
            index = row + (left.int() + dx).clamp_(min=0).minimum(width - 1)
            weight = (1 - (u - left - dx).abs()) * (1 - (v - top - dy).abs())
            weight = weight * ((pyramid.ids[index] == region) | (region < 0))
            total += weight
            rgb += weight[..., None] * pyramid.texels[index]
    return rgb / total[..., None]


def soften(images: Tensor, visible: Tensor) -> Tensor:
    """Smooth sprite edges with a 3×3 binomial filter; labels stay sharp.

    Args:
        images: float32 [N, 3, H, W].
        visible: int64 [N, H, W]; a pixel is at an edge if one of its eight neighbours differs.
    """
    sprite = visible.float()  # exact below 16 M sprites, and pooling wants floats
    low, high = -F.max_pool2d(-sprite, 3, 1, 1), F.max_pool2d(sprite, 3, 1, 1)
    return torch.where((low != high)[:, None], smooth(images, (0.25, 0.5, 0.25)), images)
