"""Dense SwAV: predict the mean code of all places that show the same point or region."""

import math
from typing import Any

import torch
from torch import Tensor

from cpcdr.loss.config import LossConfig
from cpcdr.loss.correspondences import (
    Points,
    features_at,
    pixel_correspondences,
    region_correspondences,
)
from cpcdr.loss.sinkhorn import Scales, exponentials, sinkhorn_scales
from cpcdr.runtime.ranks import world_size


def swapped_prediction(
    features: Tensor, prototypes: Tensor, group: Tensor, groups: int, config: LossConfig
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each sample's prediction against the mean code of its group.

    Args:
        features: [S, C] L2-normalised; S may be 0, but every rank must call.
        prototypes: [K, C] L2-normalised.
        group: int64 [S] in 0..groups-1; some may be empty.

    Returns:
        the scalar loss, divided by the mean number of samples of a rank, so that the mean over
        ranks, which DDP takes of gradients, weighs every sample alike; and the prototype each
        sample's code prefers, int64 [S].
    """
    with torch.no_grad():
        similarity = features @ prototypes.t()
        scales, codes, total = sinkhorn_scales(
            similarity, config.epsilon, config.sinkhorn_iterations
        )
    if not len(features):
        return (features @ prototypes.t()).sum(), codes.new_zeros(0, dtype=torch.long)
    preferred = codes.argmax(dim=1)
    target = group_means(codes, group, groups)
    del codes
    precision = (config.temperature, config.epsilon)
    ranks = world_size()
    count = len(features) if ranks == 1 else total / ranks
    loss = _CrossEntropy.apply(
        features, prototypes, similarity, group, target, scales, precision, count
    )
    return loss, preferred


def group_means(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Mean over the rows of each group: [S, K] -> [groups, K], zeros for an empty one."""
    total = values.new_zeros(groups, values.shape[1]).index_add_(0, group, values)
    return total.div_(torch.bincount(group, minlength=groups).clamp_min(1)[:, None])


class _CrossEntropy(torch.autograd.Function):
    """-sum_s sum_k target[group[s], k] log softmax(features[s] @ prototypes / temperature)_k, over
    ``count``.

    The matrices of samples by prototypes are the largest of a training, so none is kept for the
    way back: similarities, codes and softmax are made again from what is S x C, S or K in size.
    Products with the targets are taken group by group, on sums of the samples' features. Targets
    are constants: no gradient flows through the codes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        prototypes: Tensor,
        similarity: Tensor,
        group: Tensor,
        target: Tensor,
        scales: Scales,
        precision: tuple[float, float],
        count: int | Tensor,
    ) -> Tensor:
        """``similarity`` is used up: it must not be read afterwards."""
        temperature, _ = precision
        together = _group_sums(features, group, len(target)) @ prototypes.t()
        logits = similarity.div_(temperature)
        normaliser = torch.logsumexp(logits, dim=1)
        ctx.save_for_backward(features, prototypes, group, normaliser, *scales)
        ctx.groups, ctx.precision, ctx.count = len(target), precision, count
        total = normaliser.sum() - (target * together).sum() / temperature
        return (total / count).reshape(())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, prototypes, group, normaliser, *scales = ctx.saved_tensors
        of_sample, of_prototype, sample, weight = scales
        temperature, epsilon = ctx.precision
        similarity = features @ prototypes.t()
        codes = exponentials(similarity, of_sample, of_prototype, epsilon)
        codes.mul_(weight).mul_(sample[:, None])
        target = group_means(codes, group, ctx.groups).to(features.dtype)
        del codes
        softmax = similarity.div_(temperature).sub_(normaliser[:, None]).exp_()
        scale = gradient / (temperature * ctx.count)
        towards = (target @ prototypes)[group]
        of_features = (softmax @ prototypes - towards) * scale
        sums = _group_sums(features, group, ctx.groups)
        of_prototypes = (softmax.t() @ features - target.t() @ sums) * scale
        return of_features, of_prototypes, None, None, None, None, None, None


def _group_sums(features: Tensor, group: Tensor, groups: int) -> Tensor:
    return features.new_zeros(groups, features.shape[1]).index_add_(0, group, features)


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

    def part(points: Points, groups: int) -> tuple[Tensor, Tensor]:
        sampled = features_at(features, points, height, width)
        return swapped_prediction(sampled, prototypes, points.group, groups, config)

    # Both parts are always computed: ranks must agree on their all-reduces.
    pixel_loss, _ = part(pixel, split)
    region_loss, preferred = part(region, len(mosaic["image_of"]))
    loss = config.pixel_weight * pixel_loss + config.region_weight * region_loss
    weight = config.pixel_weight + config.region_weight
    with torch.no_grad():
        usage = torch.bincount(preferred, minlength=len(prototypes)).float()
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
