"""Dense SwAV: predict the mean code of all places that show the same point or region."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cpcdr.loss.assignment import assign, fused_kernels
from cpcdr.loss.config import LossConfig
from cpcdr.loss.correspondences import (
    features_at,
    group_sizes,
    pixel_correspondences,
    region_correspondences,
)
from cpcdr.loss.scatter import scaled_difference, scatter_rows
from cpcdr.loss.sinkhorn import TINY
from cpcdr.runtime.ranks import world_size


@dataclass(frozen=True)
class Groups:
    """Which samples are each other's positives, in parts with a loss each.

    Attributes:
        of: int64 [S] group of each sample, 0..count-1; some may be empty.
        weight: float32 [S], 0 where a sample does not count.
        count: number of groups G.
        parts: sizes of the parts, S in sum; a group lies in one part.
        shares: weight of each part's loss in the sum of losses.
    """

    of: Tensor
    weight: Tensor
    count: int
    parts: Sequence[int]
    shares: Sequence[float]

    def sums(self, values: Tensor, weight: Tensor) -> Tensor:
        """Sums of the samples' values [S, C], weighted by [S], by group: [G, C]."""
        return scatter_rows(values, self.of[:, None], weight[:, None], self.count)

    def by_part(self, values: Tensor) -> Tensor:
        """Sums of the samples' values [S] by part: [parts]."""
        return torch.stack([part.sum() for part in values.split(self.parts)])

    def spread(self, values: Tensor) -> Tensor:
        """A value of each part, given to each of its samples: [parts] -> [S]."""
        pairs = zip(values, self.parts, strict=True)
        return torch.cat([value.expand(size) for value, size in pairs])


def swapped_prediction(
    features: Tensor, prototypes: Tensor, groups: Groups, config: LossConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of each sample's prediction against the mean code of its group.

    ``-sum_s sum_k target[group[s], k] log softmax(features[s] @ prototypes / temperature)_k`` in
    each part, over the mean weight of a rank's samples, so that the mean over ranks, which DDP
    takes of gradients, weighs every sample alike. Targets are constants: no gradient flows through
    the codes.

    Args:
        features: [S, C] L2-normalised; S may be 0, but every rank must call.
        prototypes: [K, C] L2-normalised.

    Returns:
        the weighted sum of the parts' losses; without a gradient each part's, [parts]; and the
        prototype that the code of each sample of the last part prefers, int64 (of weight 0: any).
    """
    trained = torch.is_grad_enabled()  # inside it never is
    return _SwappedPrediction.apply(features, prototypes, groups, config, trained)


class _SwappedPrediction(torch.autograd.Function):
    """The gradient in closed form, from products made on the way forward, where codes are at hand.

    No matrix of samples by prototypes is kept for the way back, and none is summed by group: a
    product with the groups' mean codes is the mean of products with codes, [S, C] not [G, K].
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        prototypes: Tensor,
        groups: Groups,
        config: LossConfig,
        trained: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        weight = groups.weight.to(features.dtype)
        parts = groups.parts
        kernels = fused_kernels(features, prototypes, config)
        make = kernels.assign if kernels else assign
        soft = make(features, prototypes, weight, parts, config)
        size = group_sizes(groups.of, weight, groups.count)
        least = size.clamp_min(1)[:, None]
        target = groups.sums(soft.code_sums, weight * soft.sample) / least  # [G, C]
        sums = groups.sums(features, weight)  # [G, C]
        # Of a group's samples on average: only the sum over samples counts.
        agreement = (sums * target).sum(dim=1) / (size.clamp_min(TINY) * config.temperature)
        count = soft.total.clamp_min(1) / world_size()
        shares = torch.stack([count.new_full((), share) for share in groups.shares])
        losses = groups.by_part(weight * (soft.log_norm - agreement[groups.of])) / count
        ctx.mark_non_differentiable(losses, soft.preferred)
        if not trained:
            return (losses * shares).sum(), losses, soft.preferred

        scale = weight * groups.spread(shares / count) / config.temperature
        of_prototypes = soft.of_prototypes(features, sums / least, groups.of, scale)
        ctx.save_for_backward(soft.expected(), target, groups.of, scale, of_prototypes)
        return (losses * shares).sum(), losses, soft.preferred

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        expected, target, of, scale, of_prototypes = ctx.saved_tensors
        of_features = scaled_difference(expected, target, of, scale * gradients[0])
        return of_features, of_prototypes * gradients[0], None, None, None


def copy_paste_loss(
    features: Tensor,
    prototypes: Tensor,
    mosaic: dict[str, Tensor],
    points: tuple[Tensor, Tensor],
    config: LossConfig,
) -> dict[str, Tensor]:
    """The whole loss of a batch, with health metrics that need no labels.

    Args:
        features: [N, C, h, w] of the mixed images, of any float type.
        prototypes: [K, C] L2-normalised.
        mosaic: ``regions`` and ``appearances`` int64 [N, H, W], ``transforms`` [R, A, 2, 3],
            ``image_of`` int64 [R, A].
        points: ``(image, xy)`` int64 [P], [P, 2]: the first N * pixel_points are for the pixel
            loss, the rest for the region loss.

    Returns:
        ``loss`` and detached scalars.
    """
    regions, image_of = mosaic["regions"], mosaic["image_of"]
    height, width = regions.shape[-2:]
    (image, xy), split = points, regions.shape[0] * config.pixel_points
    maps = (regions, mosaic["appearances"], mosaic["transforms"], image_of)
    pixel, positive = pixel_correspondences(image[:split], xy[:split], *maps)
    region = region_correspondences(image[split:], xy[split:], regions, len(image_of))
    both = pixel.joined(region, split)
    loss, (pixel_loss, region_loss), preferred = swapped_prediction(
        features_at(features, both, height, width),
        prototypes,
        Groups(
            both.group,
            both.weight,
            split + len(image_of),
            (len(pixel.group), len(region.group)),
            (config.pixel_weight, config.region_weight),
        ),
        config,
    )
    weight = config.pixel_weight + config.region_weight
    with torch.no_grad():
        usage = region.weight.new_zeros(len(prototypes)).index_add_(0, preferred, region.weight)
        share = usage / usage.sum().clamp_min(1)
        entropy = torch.special.entr(share).sum() / math.log(len(prototypes))
    return {
        "loss": loss,
        "pixel_loss": pixel_loss,
        "region_loss": region_loss,
        "loss_over_lnK": loss.detach() / (weight * math.log(len(prototypes))),
        "prototypes_used": usage.count_nonzero() / len(prototypes),
        "prototype_entropy": entropy,
        "points_with_positive": positive.sum() / max(1, split),
    }
