"""A prior for self-supervised depth: where motion says nothing, stay near a network that knows.

Photometric error determines depth where grey values change along a pixel's epipolar line. On bare
asphalt, sky and bonnets they do not: any depth explains them, and training drifts to whatever
lowers the rest, in the end to two values. There the prior holds depth to what the network of
``--depth street`` sees (distillation), up to one factor a frame.
"""

import torch
from torch import Tensor
from torch.nn import functional

from cpcdr.depth.alignment import depth_slopes

_NOISE = 0.02
"""Standard deviation of grey values in [0, 1] between views of the same point."""
_ERROR = 0.3
"""Standard deviation of the prior's log depth."""
_WINDOW = 7
"""Pixels over which views are compared: SSIM's window and its neighbours."""


@torch.no_grad()
def ambiguity(target: Tensor, disparity: Tensor, poses: Tensor, camera: Tensor) -> Tensor:
    """How little the views say about each pixel's depth: [B, H, W], from 0 (all) to 1 (nothing).

    The posterior variance of log depth relative to the prior's, from grey values with noise.

    Args:
        target: [B, 3, H, W] in [0, 1].
        disparity: [B, H, W].
        poses: [F, B, 4, 4], target to source coordinates.
        camera: intrinsics [B, 4].
    """
    slopes = depth_slopes(target, disparity, poses, camera).square().amax(dim=0)
    around = functional.avg_pool2d(slopes[:, None], _WINDOW, 1, _WINDOW // 2)[:, 0]
    return _NOISE**2 / (_NOISE**2 + _ERROR**2 * around)


def prior_loss(disparity: Tensor, known: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean distance of log disparity from a known one, free of a factor per frame.

    Args:
        disparity: [B, H, W], positive.
        known: [B, H, W], positive, constant.
        weight: [B, H, W] in [0, 1].

    Returns:
        the distance, and the squared mean log factor of the batch: one scale for all its frames.
    """
    error = (disparity / known).log()
    factor = (error * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1.0)
    distance = ((error - factor[:, None, None]).abs() * weight).mean()
    return distance, factor.mean().square()
