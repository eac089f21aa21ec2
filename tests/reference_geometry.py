"""Geometry the long way round, to compare `cpcdr.geometry` with."""

from __future__ import annotations

import torch
from torch import Tensor

from cpcdr.geometry import MIN_DISPARITY, pixel_rays, reproject, sample_pixels


def depth_from_disparity(disparity: Tensor) -> Tensor:
    """z = 1 / max(disparity, 0.005), in [1, 200] for disparities in [0, 1]; any shape."""
    return disparity.clamp(min=MIN_DISPARITY).reciprocal()


def back_project(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Points seen by the pixels of a depth map.

    Args:
        depth: [..., H, W], distance along the optical axis.
        intrinsics: [..., 4].

    Returns:
        [..., 3, H, W] in camera coordinates, in the unit of ``depth``.
    """
    height, width = depth.shape[-2:]
    return pixel_rays(intrinsics, height, width) * depth.unsqueeze(-3)


def transform(pose: Tensor, points: Tensor) -> Tensor:
    """Points [..., 3, H, W] in the coordinates that ``pose`` [..., 4, 4] leads to."""
    return (
        torch.einsum("...ij,...jhw->...ihw", pose[..., :3, :3], points)
        + pose[..., :3, 3, None, None]
    )


def synthesize_view(
    source: Tensor, disparity: Tensor, pose: Tensor, intrinsics: Tensor
) -> tuple[Tensor, Tensor]:
    """The target view, made of a source image's pixels.

    Args:
        source: [B, C, H, W].
        disparity: [B, H, W] of the target.
        pose: [B, 4, 4], target to source coordinates.
        intrinsics: [B, 4] of both cameras.

    Returns:
        [B, C, H, W] and [B, H, W] bool: the source sees the pixel's place.
    """
    pixels, valid = reproject(disparity, pose, intrinsics)
    return sample_pixels(source, pixels), valid
