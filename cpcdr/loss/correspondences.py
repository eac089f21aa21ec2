"""Where the same point, and the same region, appears again in the mixed images of an item."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Points:
    """Sample points in mixed images, and which of them belong together.

    Attributes:
        image: int64 [S] index of the mixed image.
        xy: float32 [S, 2] pixel coordinates (x, y), pixel centres at integers.
        group: int64 [S]; points of one group are each other's positives. Not contiguous.
    """

    image: Tensor
    xy: Tensor
    group: Tensor


def pixel_correspondences(
    image: Tensor,
    xy: Tensor,
    regions: Tensor,
    appearances: Tensor,
    transforms: Tensor,
    image_of: Tensor,
) -> Points:
    """Every visible appearance of the surface points under the given pixels.

    A pixel belongs to a region and one of its appearances. Its region coordinates are the inverse
    transform of the pixel, and every other appearance's transform gives its place there.
    It is visible there if it is inside the image and the maps under it hold that very region and
    appearance, so nothing nearer was pasted over it. Points visible in one place only are dropped.

    Args:
        image: int64 [P] mixed image of each point.
        xy: int64 [P, 2] pixel of each point.
        regions: int64 [N, H, W] region ids, unique over the batch.
        appearances: int64 [N, H, W].
        transforms: float32 [R, A, 2, 3], region coordinates to mixed-image pixels.
        image_of: int64 [R, A], -1 where the appearance does not exist.

    Returns:
        the visible places; ``group`` is the index of the point in 0..P-1.
    """
    height, width = regions.shape[-2:]
    x, y = xy.unbind(dim=1)
    region, appearance = regions[image, y, x], appearances[image, y, x].long()
    source = invert_affine_points(transforms[region, appearance], xy.float())  # [P, 2]
    maps, images = transforms[region], image_of[region]  # [P, A, 2, 3], [P, A]
    there = torch.einsum("paij,pj->pai", maps[..., :2], source) + maps[..., 2]  # [P, A, 2]
    own = torch.arange(maps.shape[1], device=xy.device) == appearance[:, None]
    there = torch.where(own[..., None], xy.float()[:, None], there)
    at = torch.nan_to_num(there, nan=-9.0).round().long()
    ax, ay = at.unbind(dim=-1)
    inside = (images >= 0) & (ax >= 0) & (ax < width) & (ay >= 0) & (ay < height)
    n, ay, ax = images.clamp_min(0), ay.clamp(0, height - 1), ax.clamp(0, width - 1)
    index = torch.arange(maps.shape[1], device=xy.device)
    visible = inside & (regions[n, ay, ax] == region[:, None]) & (appearances[n, ay, ax] == index)
    visible &= visible.sum(dim=1, keepdim=True) >= 2
    point, which = visible.nonzero(as_tuple=True)
    return Points(images[point, which], there[point, which], point)


def region_correspondences(image: Tensor, xy: Tensor, regions: Tensor) -> Points:
    """Points whose region holds at least one other of the given points, anywhere in the item.

    Args:
        image: int64 [P]; xy: int64 [P, 2]; regions: int64 [N, H, W] ids, unique over the batch.
    """
    region = regions[image, xy[:, 1], xy[:, 0]]
    keep = torch.bincount(region)[region] >= 2
    return Points(image[keep], xy[keep].float(), region[keep])


def invert_affine_points(transforms: Tensor, xy: Tensor) -> Tensor:
    """Solve ``A q + t = p`` for q: transforms [P, 2, 3], xy = p [P, 2] -> q [P, 2]."""
    a, b, c, d = transforms[:, 0, 0], transforms[:, 0, 1], transforms[:, 1, 0], transforms[:, 1, 1]
    px, py = (xy - transforms[:, :, 2]).unbind(dim=1)
    determinant = a * d - b * c
    return torch.stack([(d * px - b * py) / determinant, (a * py - c * px) / determinant], dim=1)


def features_at(features: Tensor, points: Points, height: int, width: int) -> Tensor:
    """L2-normalised features [N, C, h, w], of any stride, under the points, bilinear.

    Returns:
        [S, C].
    """
    n, c, h, w = features.shape
    # Pixel centres at integers: the image spans [-0.5, size-0.5], and so does the feature map.
    x = ((points.xy[:, 0] + 0.5) * (w / width) - 0.5).clamp(0, w - 1)
    y = ((points.xy[:, 1] + 0.5) * (h / height) - 0.5).clamp(0, h - 1)
    x0, y0 = x.floor().long().clamp(max=max(w - 2, 0)), y.floor().long().clamp(max=max(h - 2, 0))
    x1, y1 = (x0 + 1).clamp(max=w - 1), (y0 + 1).clamp(max=h - 1)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    # Rows of a channels-last table: one gather of C numbers a corner. The gradient of table[rows]
    # would add up in any order where there are several threads, that of index_select does not.
    table = features.permute(0, 2, 3, 1).reshape(n * h * w, c).float()
    row = points.image * (h * w)

    def at(y: Tensor, x: Tensor) -> Tensor:
        return table.index_select(0, row + y * w + x)

    top = at(y0, x0) * (1 - fx) + at(y0, x1) * fx
    bottom = at(y1, x0) * (1 - fx) + at(y1, x1) * fx
    return F.normalize(top * (1 - fy) + bottom * fy, dim=1)
