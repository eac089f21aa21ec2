"""Where the same point, and the same region, appears again in the mixed images of an item.

All shapes follow from those of the arguments, so that a GPU is never waited for: what has no
positive keeps its place with a weight of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cpcdr.loss.scatter import scatter_rows
from cpcdr.runtime.device import runs_triton

PLACES_PER_POINT = 2.5
"""Places that are kept for each pixel point, on average over a batch; 1.5 to 2.5 are found."""


@dataclass(frozen=True)
class Points:
    """Sample points in mixed images, and which of them belong together.

    Attributes:
        image: int64 [S] index of the mixed image.
        xy: float32 [S, 2] pixel coordinates (x, y), pixel centres at integers.
        group: int64 [S]; points of one group are each other's positives. Not contiguous.
        weight: float32 [S]: 1, or 0 for what must not count.
    """

    image: Tensor
    xy: Tensor
    group: Tensor
    weight: Tensor

    def joined(self, other: Points, offset: int) -> Points:
        """These points, then ``other``'s with ``offset`` added to their groups."""
        return Points(
            torch.cat([self.image, other.image]),
            torch.cat([self.xy, other.xy]),
            torch.cat([self.group, other.group + offset]),
            torch.cat([self.weight, other.weight]),
        )


def pixel_correspondences(
    image: Tensor,
    xy: Tensor,
    regions: Tensor,
    appearances: Tensor,
    transforms: Tensor,
    image_of: Tensor,
    places_per_point: float = PLACES_PER_POINT,
) -> tuple[Points, Tensor]:
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
        places_per_point: places that are kept, in P.

    Returns:
        the visible places, in the order of the points; ``group`` is the index of the point in
        0..P-1. Weight 0 fills up where fewer are visible than are kept, and where more are
        the last points lose theirs. And bool [P]: has a positive.
    """
    if not len(image):  # nonzero_static of nothing fails on a GPU before PyTorch 2.10
        return Points(image, xy.float(), image, image.float()), image.bool()
    find = fused_points().candidates_op if runs_triton(xy.device) else candidates
    visible, n, there = find(image, xy, regions, appearances, transforms, image_of)
    places = torch.nonzero_static(visible, size=int(places_per_point * len(image)), fill_value=-1)
    found, which = places[:, 0] >= 0, places[:, 1].clamp_min(0)
    weight = found.float()
    # What fills up goes to one point after the other: all to one, and sums on a GPU would queue.
    spare = torch.arange(len(places), device=xy.device) % len(image)
    point = torch.where(found, places[:, 0], spare)
    # A point of which one place is left at the end has no positive any more.
    weight = weight * (group_sizes(point, weight, len(image))[point] >= 2)
    xy = there[point, which].nan_to_num(0.0)  # filling may point at what does not exist
    return Points(n[point, which], xy, point, weight), visible.any(dim=1)


def candidates(
    image: Tensor,
    xy: Tensor,
    regions: Tensor,
    appearances: Tensor,
    transforms: Tensor,
    image_of: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Where the surface points under the given pixels appear: arguments of `pixel_correspondences`.

    Returns:
        bool [P, A], the point is visible in this and in another appearance; int64 [P, A] the mixed
        image, 0 where there is none; and float32 [P, A, 2] the place in it.
    """
    height, width = regions.shape[-2:]
    x, y = xy.unbind(dim=1)
    region, appearance = regions[image, y, x], appearances[image, y, x].long()
    source = invert_affine_points(transforms[region, appearance], xy.float())  # [P, 2]
    maps, images = transforms[region], image_of[region]  # [P, A, 2, 3], [P, A]
    there = torch.einsum("paij,pj->pai", maps[..., :2], source) + maps[..., 2]  # [P, A, 2]
    index = torch.arange(maps.shape[1], device=xy.device)
    there = torch.where((index == appearance[:, None])[..., None], xy.float()[:, None], there)
    at = torch.nan_to_num(there, nan=-9.0).round().long()
    ax, ay = at.unbind(dim=-1)
    inside = (images >= 0) & (ax >= 0) & (ax < width) & (ay >= 0) & (ay < height)
    n, ay, ax = images.clamp_min(0), ay.clamp(0, height - 1), ax.clamp(0, width - 1)
    visible = inside & (regions[n, ay, ax] == region[:, None]) & (appearances[n, ay, ax] == index)
    return visible & (visible.sum(dim=1, keepdim=True) >= 2), n, there


def region_correspondences(image: Tensor, xy: Tensor, regions: Tensor, count: int) -> Points:
    """The given points with their regions as groups; weight 0 where a region holds one alone.

    Args:
        image: int64 [P]; xy: int64 [P, 2]; regions: int64 [N, H, W] ids, unique over the batch.
        count: number of regions R.
    """
    region = regions[image, xy[:, 1], xy[:, 0]]
    sizes = group_sizes(region, torch.ones_like(region, dtype=torch.float32), count)
    return Points(image, xy.float(), region, (sizes >= 2).float()[region])


def group_sizes(group: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Summed weights of each group: [groups]."""
    return weight.new_zeros(groups).index_add_(0, group, weight)


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
    find = fused_points().taps_op if runs_triton(features.device) else taps
    rows, weight = find(points.image, points.xy, [h, w], [height, width])
    table = features.permute(0, 2, 3, 1).reshape(n * h * w, c)  # a pixel is a row of C
    unit: Tensor = _UnitRows.apply(table, rows, weight)
    return unit


def taps(
    image: Tensor, xy: Tensor, cells: Sequence[int], size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The four cells around each point in feature maps of h x w ``cells``, and their weights.

    Pixel centres at integers: an image of ``size`` H x W spans [-0.5, W - 0.5], and so do its
    cells.

    Args:
        image: int64 [S]; xy: float32 [S, 2].

    Returns:
        int64 [S, 4] indices into all cells of all images, and float32 [S, 4] bilinear weights.
    """
    (h, w), (height, width) = cells, size
    x = ((xy[:, 0] + 0.5) * (w / width) - 0.5).clamp(0, w - 1)
    y = ((xy[:, 1] + 0.5) * (h / height) - 0.5).clamp(0, h - 1)
    x0, y0 = x.floor().long().clamp(max=max(w - 2, 0)), y.floor().long().clamp(max=max(h - 2, 0))
    x1, y1 = (x0 + 1).clamp(max=w - 1), (y0 + 1).clamp(max=h - 1)
    fx, fy = x - x0, y - y0
    top, bottom = image * (h * w) + y0 * w, image * (h * w) + y1 * w
    rows = torch.stack([top + x0, top + x1, bottom + x0, bottom + x1], dim=1)
    weight = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], dim=1)
    return rows, weight


def fused_points() -> ModuleType:
    """The counterparts of functions of this module in Triton, imported on demand."""
    from cpcdr.loss import fused_points

    return fused_points


def unit_rows(table: Tensor, rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of weighted rows of a table, at unit length.

    Args:
        table: [rows, C], of any float type.
        rows: int64 [S, T]; weight: float32 [S, T].

    Returns:
        float32 [S, C], and the length of each sum, [S, 1].
    """
    sums = F.embedding_bag(rows, table.float(), mode="sum", per_sample_weights=weight)
    norm = torch.linalg.vector_norm(sums, dim=1, keepdim=True).clamp_min_(1e-12)
    # Not in place: PyTorch 2.11 compiles a result that was changed to one with a gradient of 0.
    return sums / norm, norm


def unit_rows_gradient(
    gradient: Tensor, unit: Tensor, norm: Tensor, rows: Tensor, weight: Tensor, count: int
) -> Tensor:
    """The gradient of `unit_rows` for a table of ``count`` rows, from that for its unit rows."""
    along = (gradient * unit).sum(dim=1, keepdim=True)
    across = torch.addcmul(gradient, unit, along, value=-1.0)
    return scatter_rows(across, rows, weight / norm, count)


class _UnitRows(torch.autograd.Function):
    """`unit_rows` with its gradient in closed form.

    The gradient of `embedding_bag` itself would add up in any order where there are several
    threads; that of ``index_add_`` does not. And autograd's of the normalisation reads and writes
    half as much again.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
        make = fused_points().unit_rows_op if runs_triton(table.device) else unit_rows
        unit, norm = make(table, rows, weight)
        ctx.save_for_backward(rows, weight, unit, norm)
        ctx.length, ctx.dtype = len(table), table.dtype
        return unit

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, weight, unit, norm = ctx.saved_tensors
        on_gpu = runs_triton(unit.device)
        make = fused_points().unit_rows_gradient_op if on_gpu else unit_rows_gradient
        return make(gradient, unit, norm, rows, weight, ctx.length).to(ctx.dtype), None, None
