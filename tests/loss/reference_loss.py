"""The loss as it is written down: what has no positive is left out, autograd makes the gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cpcdr.loss.config import LossConfig


def sinkhorn(similarity: Tensor, epsilon: float, iterations: int) -> Tensor:
    """SwAV's listing 1 word for word: similarity [S, K] -> codes [S, K]."""
    q = (similarity.t() / epsilon).exp()
    q = q / q.sum()
    prototypes, samples = q.shape
    for _ in range(iterations):
        q = q / q.sum(dim=1, keepdim=True) / prototypes
        q = q / q.sum(dim=0, keepdim=True) / samples
    return (q * samples).t()


def part_loss(
    features: Tensor, prototypes: Tensor, group: Tensor, config: LossConfig
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy against the groups' mean codes, and the codes' largest entries."""
    similarity = features @ prototypes.t()
    codes = sinkhorn(similarity.detach(), config.epsilon, config.sinkhorn_iterations)
    own = (group[:, None] == group).to(codes.dtype)
    target = own @ codes / own.sum(dim=1, keepdim=True)
    log_softmax = F.log_softmax(similarity / config.temperature, dim=1)
    return -(target * log_softmax).sum(dim=1).mean(), codes.argmax(dim=1)


def whole_loss(
    features: Tensor,
    prototypes: Tensor,
    mosaic: dict[str, Tensor],
    points: tuple[Tensor, Tensor],
    config: LossConfig,
) -> Tensor:
    """`cpcdr.loss.swapped_prediction.copy_paste_loss`, point by point."""
    (image, xy), split = points, len(features) * config.pixel_points
    places = []
    for p in range(split):
        found = _appearances(mosaic, int(image[p]), xy[p])
        places += [(p, *place) for place in found] if len(found) > 1 else []
    region = mosaic["regions"][image[split:], xy[split:, 1], xy[split:, 0]]
    several = (region[:, None] == region).sum(dim=1) > 1
    pixel = torch.tensor(places, dtype=torch.float64)
    size = mosaic["regions"].shape[-2:]
    of_pixels = _features_at(features, pixel[:, 1].long(), pixel[:, 2:], size)
    of_regions = _features_at(features, image[split:][several], xy[split:][several].double(), size)
    pixel_loss, _ = part_loss(of_pixels, prototypes, pixel[:, 0].long(), config)
    region_loss, _ = part_loss(of_regions, prototypes, region[several], config)
    return config.pixel_weight * pixel_loss + config.region_weight * region_loss


def _appearances(
    mosaic: dict[str, Tensor], image: int, xy: Tensor
) -> list[tuple[int, float, float]]:
    """Mixed image, x and y of every visible appearance of the point under a pixel."""
    x, y = xy.tolist()
    region, own = (int(mosaic[name][image, y, x]) for name in ("regions", "appearances"))
    matrices = mosaic["transforms"][region].double()
    source = torch.linalg.solve(matrices[own, :, :2], xy.double() - matrices[own, :, 2])
    found = []
    for appearance, n in enumerate(mosaic["image_of"][region].tolist()):
        if n < 0:
            continue
        there = matrices[appearance, :, :2] @ source + matrices[appearance, :, 2]
        place = (x, y) if appearance == own else (there[0].item(), there[1].item())
        u, v = round(place[0]), round(place[1])
        height, width = mosaic["regions"].shape[-2:]
        if 0 <= u < width and 0 <= v < height:
            shown = (int(mosaic[name][n, v, u]) for name in ("regions", "appearances"))
            if tuple(shown) == (region, appearance):
                found.append((n, *place))
    return found


def _features_at(features: Tensor, image: Tensor, xy: Tensor, size: torch.Size) -> Tensor:
    """Bilinear by `grid_sample`, normalised: [S, C]."""
    grid = ((xy + 0.5) / torch.tensor([size[1], size[0]]) * 2 - 1).to(features.dtype)
    everywhere = F.grid_sample(
        features,
        grid.expand(len(features), 1, -1, -1),
        padding_mode="border",
        align_corners=False,
    )
    return F.normalize(everywhere[image, :, 0, torch.arange(len(image))], dim=1)
