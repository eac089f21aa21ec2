"""Frames of any sizes through a network in batches: one batch for each size that it gets."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from cpcdr.depth.source import Disparity
from cpcdr.frames.frame import Frame
from cpcdr.runtime.device import to_unit_float

Size = tuple[int, int]


def infer_by_size(
    frames: Sequence[Frame],
    size_of: Callable[[Frame], Size],
    infer: Callable[[list[Frame], Size], list[Disparity]],
) -> list[Disparity]:
    """The maps of frames, in their order, by one call of ``infer`` for each (H, W)."""
    sizes = [size_of(frame) for frame in frames]
    maps: dict[int, Disparity] = {}
    for size in set(sizes):
        same = [i for i, s in enumerate(sizes) if s == size]
        maps |= zip(same, infer([frames[i] for i in same], size), strict=True)
    return [maps[i] for i in range(len(frames))]


def image_batch(frames: Sequence[Frame], size: Size, device: torch.device) -> Tensor:
    """Their images scaled to (H, W): float32 [B, 3, H, W] in 0..1 on the device."""
    images = np.stack(
        [cv2.resize(f.image, size[::-1], interpolation=cv2.INTER_AREA) for f in frames]
    )
    return to_unit_float(torch.from_numpy(images).to(device))


def focal_lengths(frames: Sequence[Frame], size: Size, device: torch.device) -> Tensor:
    """Their focal lengths in pixels of images scaled to (H, W): float32 [B] on the device."""
    focal = [float(f.intrinsics[0]) * size[1] / f.image.shape[1] for f in frames]
    return torch.tensor(focal, device=device)
