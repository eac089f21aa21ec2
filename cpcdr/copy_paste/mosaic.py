"""Copy-paste: from frames to mixed images with region, appearance and transform of every pixel.

Per batch, `draw` makes a plan on the host, where frames are loaded, and `render` executes it on any
device. Rendering never reads back from the device, so it runs asynchronously on a GPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpcdr.copy_paste import shading
from cpcdr.copy_paste.appearance import LUMA
from cpcdr.copy_paste.config import CopyPasteConfig
from cpcdr.copy_paste.layout import build_sprites, draw_layout, transforms
from cpcdr.copy_paste.zbuffer import Sprites
from cpcdr.runtime.device import move, move_together, runs_triton
from cpcdr.runtime.errors import InputError

Key = tuple[int, int, int]
"""(seed, epoch, item), each at least 0: determines every random draw of an item."""


@dataclass(frozen=True, eq=False)
class Frames:
    """B items of M source frames, on one device.

    Attributes:
        images: uint8 [B, M, 3, H, W] RGB.
        disparity: [B, M, H, W], larger is nearer: float32, where 0, negative or not finite is
            farthest; or uint16, as a dataset holds it, which is half as much to send to a GPU.
        regions: uint16, int32 or int64 [B, M, H, W] region ids, 0..R_m-1 in each frame.
    """

    images: Tensor
    disparity: Tensor
    regions: Tensor

    def __post_init__(self) -> None:
        b, m, c, h, w = self.images.shape if self.images.ndim == 5 else (0, 0, 0, 0, 0)
        if self.images.dtype != torch.uint8 or c != 3 or 0 in (b, m, h, w):
            raise InputError(
                f"Copy-paste takes uint8 images [B, M, 3, H, W], not {self.images.dtype} "
                f"{list(self.images.shape)}."
            )
        for name, value in (("disparity", self.disparity), ("regions", self.regions)):
            if value.shape != (b, m, h, w):
                raise InputError(f"{name} has shape {list(value.shape)}, not {[b, m, h, w]}.")
        if self.disparity.dtype not in (torch.float32, torch.uint16):
            raise InputError(f"disparity must be float32 or uint16, not {self.disparity.dtype}.")
        if self.regions.dtype not in (torch.uint16, torch.int32, torch.int64):
            raise InputError(f"regions must be uint16, int32 or int64, not {self.regions.dtype}.")

    def to(self, device: torch.device | str) -> Frames:
        """The same frames on another device."""
        return Frames(*(move(x, device) for x in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything drawn for a batch of frames.

    Attributes:
        first_region: int32 [BM] first batch-wide region id of each frame.
        blur: float64 [BN] sigma of each mixed image in pixels; stays on the host.
        transforms, image_of, frame_of, rounds: those of the `Mosaic`.
    """

    sprites: Sprites
    first_region: Tensor
    blur: NDArray[np.float64]
    transforms: Tensor
    image_of: Tensor
    frame_of: Tensor
    rounds: int

    def to(self, device: torch.device | str) -> Plan:
        """The same plan on another device."""
        plain = [name for name, value in vars(self).items() if isinstance(value, Tensor)]
        table = [name for name, value in vars(self.sprites).items() if isinstance(value, Tensor)]
        values = [getattr(self, name) for name in plain]
        values += [getattr(self.sprites, name) for name in table]
        moved = move_together(values, device)
        own: dict[str, Any] = dict(zip(plain, moved, strict=False))
        of_sprites: dict[str, Any] = dict(zip(table, moved[len(plain) :], strict=True))
        return replace(self, sprites=replace(self.sprites, **of_sprites), **own)

    def padded(self, multiple: int) -> Plan:
        """With regions that appear nowhere behind the others, so that few numbers R occur."""
        missing = -len(self.image_of) % multiple

        def longer(table: Tensor, value: int) -> Tensor:
            return torch.cat([table, table.new_full((missing, *table.shape[1:]), value)])

        return replace(
            self,
            transforms=longer(self.transforms, 0),
            image_of=longer(self.image_of, -1),
            frame_of=longer(self.frame_of, -1),
        )


@dataclass(frozen=True, eq=False)
class Mosaic:
    """B·N mixed images, N = rounds · M; image b·N + k·M + m has frame m of item b as its base.

    Attributes:
        images: float32 [BN, 3, H, W] in [0, 1].
        regions: int64 [BN, H, W] ids 0..R-1, unique over the whole batch.
        appearances: uint8 [BN, H, W] in 0..A-1: round k's original is k, pastes follow in the order
            of the rounds. (Convert before indexing: torch treats uint8 indices as a mask.)
        transforms: float32 [R, A, 2, 3] from a pixel (x, y) of the region's source frame to its
            place in the mixed image, pixel centres at integers; 0 if absent.
        image_of: int64 [R, A] the mixed image of each appearance, -1 if absent.
        frame_of: int64 [R] source frame b·M + m of each region.
        rounds: number of original appearances.
    """

    images: Tensor
    regions: Tensor
    appearances: Tensor
    transforms: Tensor
    image_of: Tensor
    frame_of: Tensor
    rounds: int

    @property
    def pasted_fraction(self) -> float:
        """Fraction of pixels that show a paste. Synchronises with a GPU."""
        return (self.appearances >= self.rounds).float().mean().item()


def compose(frames: Frames, config: CopyPasteConfig, keys: Sequence[Key]) -> Mosaic:
    """Copy-paste regions between the frames of each item: `draw`, then `render`.

    Args and errors are those of `draw`.
    """
    return render(frames, draw(frames, config, keys))


def draw(frames: Frames, config: CopyPasteConfig, keys: Sequence[Key]) -> Plan:
    """Decide what is pasted where: a plan, on the host.

    Args:
        frames: source frames; fastest if they are on the host.
        keys: (seed, epoch, item) of each item; equal keys and frames give equal mixed images in
            any batch (region ids continue from item to item).

    Raises:
        InputError: a number of keys other than B, or negative region ids.
    """
    items, per_item, _, height, width = frames.images.shape
    if len(keys) != items:
        raise InputError(f"{items} items of frames need {items} keys, not {len(keys)}.")
    regions = frames.regions.flatten(0, 1).int()
    lowest, highest = torch.stack([regions.amin((1, 2)), regions.amax((1, 2))]).tolist()
    if min(lowest) < 0:
        raise InputError("regions holds negative ids: every pixel needs a region, 0..R-1.")
    offsets = [0, *itertools.accumulate(last + 1 for last in highest)]
    first_region = torch.tensor(offsets[:-1], dtype=torch.int32)
    ids = _unique_ids(frames, first_region.to(regions.device))
    boxes = _kernels(regions.device).bounding_boxes(ids, offsets[-1]).cpu().numpy()
    grey = _mean_luminance(frames.images.flatten(0, 1)).cpu().numpy()
    layouts = []
    for key, at in zip(keys, range(0, items * per_item, per_item), strict=True):
        limits = offsets[at : at + per_item + 1]
        own, luminance = boxes[limits[0] : limits[-1]], grey[at : at + per_item]
        layouts.append(draw_layout(key, own, np.diff(limits), luminance, (height, width), config))
    matrices, image_of, frame_of = transforms(layouts, config.appearances)
    return Plan(
        build_sprites(layouts, offsets, (height, width)),
        first_region,
        np.concatenate([layout.views.colours.sigma for layout in layouts]),
        torch.from_numpy(matrices),
        torch.from_numpy(image_of),
        torch.from_numpy(frame_of),
        len(config.pastes),
    )


def render(frames: Frames, plan: Plan) -> Mosaic:
    """Execute a plan drawn for these frames, or for the same frames on another device."""
    plan = plan.to(frames.images.device)
    images, ids = frames.images.flatten(0, 1), _unique_ids(frames, plan.first_region)
    depth = _disparity(frames).flatten(0, 1).contiguous()
    kernels = _kernels(images.device)
    pyramid = kernels.build_pyramid(images, ids)
    mixed, labels, appearances = kernels.render(plan.sprites, pyramid, depth)
    kernels.blur_images(mixed, plan.blur)
    return Mosaic(
        mixed, labels, appearances, plan.transforms, plan.image_of, plan.frame_of, plan.rounds
    )


def _disparity(frames: Frames) -> Tensor:
    """float32 [B, M, H, W], at least 0."""
    disparity = frames.disparity.float()
    if frames.disparity.dtype == torch.uint16:
        # Not by a number: GPUs would multiply with its reciprocal, and their last bits differ.
        return disparity / disparity.new_full((1,), 65535.0)
    # abs: the z-buffer compares bits, which misorders -0.0.
    return disparity.nan_to_num(0.0, 0.0, 0.0).clamp_(min=0.0).abs_()


def _unique_ids(frames: Frames, first_region: Tensor) -> Tensor:
    """Region ids unique over the batch: int32 [BM, H, W]."""
    return (frames.regions.flatten(0, 1).int() + first_region[:, None, None]).contiguous()


def _mean_luminance(images: Tensor) -> Tensor:
    """Mean luminance of uint8 [F, 3, H, W] images in [0, 1], from every eighth row and column."""
    mean = images[:, :, ::8, ::8].double().mean((2, 3)) / 255.0
    return mean @ torch.from_numpy(LUMA).to(images.device)


def _kernels(device: torch.device) -> ModuleType:
    """The module for a device, imported on demand: numba and Triton take a second."""
    if device.type == "cpu":
        from cpcdr.copy_paste import cpu

        return cpu
    if runs_triton(device):
        from cpcdr.copy_paste import gpu

        return gpu
    return shading
