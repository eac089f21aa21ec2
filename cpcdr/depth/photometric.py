"""The self-supervised depth loss of Monodepth2 (Godard et al. 2019, arXiv 1806.01260).

All scales and both source frames go through one view synthesis and one SSIM: the loss is bound by
memory and kernel launches, not by arithmetic. Shape letters besides the usual ones: F source
frames (previous, next), S scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cpcdr.geometry import reproject, sample_pixels
from cpcdr.runtime.device import compiled

SSIM_WEIGHT = 0.85
_C1, _C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class Moments:
    """An image's 3×3 window statistics, computed once for many comparisons.

    Attributes:
        padded: [..., H + 2, W + 2], the image with reflected borders.
        mean, variance: [..., H, W].
    """

    padded: Tensor
    mean: Tensor
    variance: Tensor

    @staticmethod
    def of(images: Tensor) -> Moments:
        """Moments of images [..., H, W]."""
        flat = images.reshape(1, -1, *images.shape[-2:])
        padded = functional.pad(flat, (1, 1, 1, 1), mode="reflect")
        padded = padded.reshape(*images.shape[:-2], *padded.shape[-2:])
        mean = _window_mean(padded)
        return Moments(padded, mean, _window_mean(padded.square()) - mean.square())


class _WindowMean(torch.autograd.Function):
    """3×3 means, [..., H + 2, W + 2] -> [..., H, W]; the box is its own adjoint."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor) -> Tensor:
        return _box(padded)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _box(functional.pad(gradient, (2, 2, 2, 2)))


def _window_mean(padded: Tensor) -> Tensor:
    return _WindowMean.apply(padded)


def _box(x: Tensor) -> Tensor:
    if x.is_cuda:
        pooled = functional.avg_pool2d(x.reshape(1, -1, *x.shape[-2:]), 3, stride=1)
        return pooled.reshape(*x.shape[:-2], *pooled.shape[-2:])
    # avg_pool2d is not vectorised on CPUs; these sums take a tenth of its time.
    rows = x[..., :-2] + x[..., 1:-1]
    rows += x[..., 2:]
    total = rows[..., :-2, :] + rows[..., 1:-1, :]
    total += rows[..., 2:, :]
    # Not in place: PyTorch 2.11 compiles a result that was changed to one with a gradient of 0.
    return total * (1 / 9)


def ssim_distance(x: Moments, y: Moments) -> Tensor:
    """(1 - SSIM) / 2 clipped to [0, 1] over 3×3 windows (Wang et al. 2004); shapes broadcast."""
    covariance = _window_mean(x.padded * y.padded) - x.mean * y.mean
    numerator = (2 * x.mean * y.mean + _C1) * (2 * covariance + _C2)
    denominator = (x.mean.square() + y.mean.square() + _C1) * (x.variance + y.variance + _C2)
    return ((1 - numerator / denominator) / 2).clamp(0, 1)


def photometric_error(images: Tensor, target: Tensor, target_moments: Moments) -> Tensor:
    """0.85 · SSIM distance + 0.15 · L1, averaged over the channels.

    Args:
        images: [..., C, n, H, W] in [0, 1], n views of each target.
        target: [..., C, 1, H, W]; leading dimensions broadcast.
        target_moments: ``Moments.of(target)``.

    Returns:
        [..., n, H, W] in [0, 1].
    """
    ssim = ssim_distance(Moments.of(images), target_moments)
    l1 = (images - target).abs()
    return (SSIM_WEIGHT * ssim + (1 - SSIM_WEIGHT) * l1).mean(dim=-4)


def smoothness(disparity: Tensor, image: Tensor) -> Tensor:
    """Edge-aware first-order smoothness of mean-normalised disparity: a scalar, 0 where flat.

    Args:
        disparity: [B, 1, H, W], positive.
        image: [B, C, H, W] in [0, 1].
    """
    d = disparity / disparity.mean(dim=(2, 3), keepdim=True)
    dx = (d[..., :, 1:] - d[..., :, :-1]).abs()
    dy = (d[..., 1:, :] - d[..., :-1, :]).abs()
    edge_x = (image[..., :, 1:] - image[..., :, :-1]).abs().mean(1, keepdim=True)
    edge_y = (image[..., 1:, :] - image[..., :-1, :]).abs().mean(1, keepdim=True)
    return (dx * (-edge_x).exp()).mean() + (dy * (-edge_y).exp()).mean()


@dataclass(frozen=True)
class Photometric:
    """The photometric loss and its per-pixel terms for figures and metrics.

    Attributes:
        loss: scalar with gradient: mean over pixels and scales of min(reprojection, identity).
        error: [B, H, W] reprojection error of the finest scale, minimum over the sources; the
            identity error for pixels outside all sources.
        identity: [B, H, W], error of identity reprojection, minimum over the sources.
        mask: [B, H, W] bool, finest scale: motion explains the pixel better than identity.
        synthesised: [B, 3, H, W], the next frame warped to the target at the finest scale.
    """

    loss: Tensor
    error: Tensor
    identity: Tensor
    mask: Tensor
    synthesised: Tensor


def photometric_loss(
    target: Tensor,
    sources: Tensor,
    disparities: Tensor,
    poses: Tensor,
    intrinsics: Tensor,
    compiles: bool = False,
) -> Photometric:
    """Per-pixel minimum reprojection with static-pixel auto-mask.

    A source does not count where a pixel falls outside its image. A pixel that no source explains
    better than identity reprojection costs its identity error, a constant: pushing pixels out of
    the image gains nothing, and objects that move with the camera do not become infinitely far.

    Args:
        target: [B, 3, H, W] in [0, 1].
        sources: [F, B, 3, H, W] in [0, 1].
        disparities: [B, S, H, W], full resolution, finest scale first.
        poses: [F, B, 4, 4], target to source coordinates.
        intrinsics: [B, 4].
        compiles: use ``torch.compile`` where no custom kernel exists.
    """
    if target.device.type == "cpu" and target.dtype == torch.float32:
        from cpcdr.depth import photometric_cpu

        fused = photometric_cpu.photometric_loss(target, sources, disparities, poses, intrinsics)
        return Photometric(*fused)
    loss = compiled(photometric_loss_of_tensors, compiles)
    return loss(target, sources, disparities, poses, intrinsics)


def photometric_loss_of_tensors(
    target: Tensor, sources: Tensor, disparities: Tensor, poses: Tensor, intrinsics: Tensor
) -> Photometric:
    """`photometric_loss` in tensor operations, for any device and precision."""
    y = target[:, :, None]
    with torch.no_grad():
        moments = Moments.of(y)
        identity = photometric_error(sources[:, :, :, None], y, moments).amin(dim=0)
    pixels, valid = reproject(disparities, poses[:, :, None], intrinsics[:, None])
    views = _sample_scales(sources, pixels)
    errors = photometric_error(views, y, moments)  # [F, B, S, H, W]
    reprojection = errors.masked_fill(~valid, torch.inf).amin(dim=0)
    moved = reprojection < identity
    seen = torch.where(valid.any(dim=0), reprojection, identity)[:, 0]
    return Photometric(
        loss=torch.where(moved, reprojection, identity).mean(),
        error=seen.detach(),
        identity=identity[:, 0],
        mask=moved[:, 0],
        synthesised=views[-1, :, :, 0].detach(),
    )


def _sample_scales(sources: Tensor, pixels: Tensor) -> Tensor:
    """Sources [F, B, C, H, W] at pixels [F, B, S, H, W, 2] -> [F, B, C, S, H, W].

    Scales are stacked along the rows of one sampling grid: no source is copied.
    """
    f, b, c, height, width = sources.shape
    grid = pixels.reshape(f * b, -1, width, 2)
    views = sample_pixels(sources.reshape(f * b, c, height, width), grid)
    return views.reshape(f, b, c, -1, height, width)
