"""Dense SwAV: predict the mean code of all places that show the same point or region."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cpcdr.loss.correspondences import (
    Points,
    features_at,
    pixel_correspondences,
    region_correspondences,
)
from cpcdr.loss.sinkhorn import sinkhorn


@dataclass(frozen=True)
class LossConfig:
    """The swapped-prediction loss (DESIGN: released code's constants).

    Attributes:
        pixel_points: random points an image whose appearances are pixel positives.
        region_points: random points an image that are positives within their region.
        pixel_weight: weight of the pixel loss.
        region_weight: weight of the region loss.
        temperature: of the prediction's softmax.
        epsilon: of Sinkhorn.
        sinkhorn_iterations: rounds of Sinkhorn.
    """

    pixel_points: int = 4000
    region_points: int = 7200
    pixel_weight: float = 0.5
    region_weight: float = 0.5
    temperature: float = 0.1
    epsilon: float = 0.05
    sinkhorn_iterations: int = 3


def group_mean(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Mean over the rows of each group, given back to every row: [S, K] -> [S, K]."""
    total = values.new_zeros(groups, values.shape[1]).index_add_(0, group, values)
    count = torch.bincount(group, minlength=groups).clamp_min(1)
    return (total / count[:, None])[group]


def swapped_prediction(
    features: Tensor, prototypes: Tensor, group: Tensor, config: LossConfig
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each sample's prediction against the mean code of its group.

    Args:
        features: [S, C] L2-normalised; S may be 0, but every rank must call.
        prototypes: [K, C] L2-normalised.
        group: int64 [S].

    Returns:
        the scalar loss, and the codes [S, K] (no gradient).
    """
    similarity = features @ prototypes.t()
    codes = sinkhorn(similarity.detach(), config.epsilon, config.sinkhorn_iterations)
    if not len(features):
        return similarity.sum(), codes
    target = group_mean(codes, group, int(group.max()) + 1)
    prediction = torch.log_softmax(similarity.float() / config.temperature, dim=1)
    return -(target * prediction).sum(dim=1).mean(), codes


def copy_paste_loss(
    features: Tensor,
    prototypes: Tensor,
    mosaic: dict[str, Tensor],
    points: tuple[Tensor, Tensor],
    config: LossConfig,
) -> dict[str, Tensor]:
    """The whole loss of a batch, with health metrics that need no labels.

    Args:
        features: [N, C, h, w] of the mixed images.
        prototypes: [K, C] L2-normalised.
        mosaic: ``regions`` and ``appearances`` int64 [N, H, W], ``transforms`` [R, A, 2, 3],
            ``image_of`` int64 [R, A].
        points: ``(image, xy)`` int64 [P], [P, 2]: the first N * pixel_points are for the pixel
            loss, the rest for the region loss.

    Returns:
        ``loss`` and detached scalars.
    """
    regions = mosaic["regions"]
    height, width = regions.shape[-2:]
    (image, xy), split = points, regions.shape[0] * config.pixel_points
    pixel = pixel_correspondences(
        image[:split],
        xy[:split],
        regions,
        mosaic["appearances"],
        mosaic["transforms"],
        mosaic["image_of"],
    )
    region = region_correspondences(image[split:], xy[split:], regions)

    def part(points: Points) -> tuple[Tensor, Tensor]:
        sampled = features_at(features, points, height, width)
        return swapped_prediction(sampled, prototypes, points.group, config)

    # Both parts are always computed: ranks must agree on their all-reduces.
    pixel_loss, _ = part(pixel)
    region_loss, codes = part(region)
    loss = config.pixel_weight * pixel_loss + config.region_weight * region_loss
    weight = config.pixel_weight + config.region_weight
    with torch.no_grad():
        usage = torch.bincount(codes.argmax(dim=1), minlength=len(prototypes)).float()
        share = usage / usage.sum().clamp_min(1)
        entropy = -(share * share.clamp_min(1e-12).log()).sum() / math.log(len(prototypes))
        visible = torch.unique(pixel.group).numel() / max(1, split)
    return {
        "loss": loss,
        "pixel_loss": pixel_loss.detach(),
        "region_loss": region_loss.detach(),
        "loss_over_lnK": loss.detach() / (weight * math.log(len(prototypes))),
        "prototypes_used": (usage > 0).float().mean(),
        "prototype_entropy": entropy,
        "points_with_positive": loss.new_tensor(visible),
    }
