"""The loss against a direct float64 transcription, its gradient, and its health metrics."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cpcdr.copy_paste.config import CopyPasteConfig
from cpcdr.copy_paste.mosaic import Frames, compose
from cpcdr.loss.config import LossConfig
from cpcdr.loss.sinkhorn import sinkhorn, sinkhorn_scales
from cpcdr.loss.swapped_prediction import (
    _CrossEntropy,
    copy_paste_loss,
    group_means,
    swapped_prediction,
)

CONFIG = LossConfig(pixel_points=60, region_points=90)


def drawn(samples: int, prototypes: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features [S, 8], prototypes [K, 8], both normalised, and groups with gaps."""
    generator = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(samples, 8, generator=generator), dim=1)
    directions = F.normalize(torch.randn(prototypes, 8, generator=generator), dim=1)
    return features, directions, 3 * torch.randint(0, 5, (samples,), generator=generator)


def codes_of(similarity: NDArray[np.float64], config: LossConfig) -> NDArray[np.float64]:
    q = np.exp(similarity / config.epsilon)
    for _ in range(config.sinkhorn_iterations):
        q = q / q.sum(axis=0, keepdims=True) / q.shape[1]
        q = q / q.sum(axis=1, keepdims=True) / q.shape[0]
    return q / q.sum(axis=1, keepdims=True)


def loss_of(
    features: NDArray[np.float64],
    codes: NDArray[np.float64],
    prototypes: NDArray[np.float64],
    group: NDArray[np.int64],
    temperature: float,
) -> float:
    """Sample by sample: -sum_k mean(q over the positives)_k log softmax(similarity / t)_k."""
    total = 0.0
    for feature, mine in zip(features, group, strict=True):
        target = codes[group == mine].mean(axis=0)
        logits = prototypes @ feature / temperature
        total -= float(target @ (logits - np.log(np.exp(logits).sum())))
    return total / len(features)


@pytest.mark.parametrize("config", [CONFIG, LossConfig(temperature=0.5, epsilon=0.2)])
def test_loss_and_gradient_equal_the_transcription(config: LossConfig) -> None:
    features, prototypes, group = drawn(40, 12)
    f, p, g = features.double().numpy(), prototypes.double().numpy(), group.numpy()
    features.requires_grad_()
    prototypes.requires_grad_()
    loss, preferred = swapped_prediction(features, prototypes, group, 15, config)
    expected = codes_of(f @ p.T, config)
    codes = sinkhorn(features @ prototypes.t(), config.epsilon, config.sinkhorn_iterations)
    np.testing.assert_allclose(codes.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert preferred.tolist() == expected.argmax(axis=1).tolist()
    assert loss.item() == pytest.approx(loss_of(f, expected, p, g, config.temperature), rel=1e-5)
    loss.backward()
    # Central differences of the transcription with the codes held fixed: they are targets.
    for array, gradient in ((f, features.grad), (p, prototypes.grad)):
        assert gradient is not None
        for index in [(0, 0), (3, 5), (11, 7)]:
            values = []
            for step in (1e-5, -1e-5):
                array[index] += step
                values.append(loss_of(f, expected, p, g, config.temperature))
                array[index] -= step
            slope = (values[0] - values[1]) / 2e-5
            assert gradient[index].item() == pytest.approx(slope, rel=2e-3, abs=1e-5)


def test_gradients_are_exact() -> None:
    features, prototypes, group = (t.double() for t in drawn(12, 6))
    group = group.long()
    with torch.no_grad():
        scales, codes, _ = sinkhorn_scales(features @ prototypes.t(), 0.05, 3)
    target = group_means(codes, group, 15)

    def fixed_codes(f: Tensor, p: Tensor) -> Tensor:
        similarity = (f @ p.t()).detach()
        return _CrossEntropy.apply(f, p, similarity, group, target, scales, (0.1, 0.05), 12)

    inputs = (features.requires_grad_(), prototypes.requires_grad_())
    assert torch.autograd.gradcheck(fixed_codes, inputs)


def test_no_matrix_of_samples_by_prototypes_is_kept() -> None:
    features, prototypes, group = drawn(400, 50)
    features.requires_grad_()
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        swapped_prediction(features, prototypes, group, 15, CONFIG)[0].backward()
    assert sizes
    assert max(sizes) <= features.numel() < 400 * 50


def test_group_means_with_gaps_between_the_groups() -> None:
    values, _, group = drawn(30, 4)
    means = group_means(values, group, 20)
    for row, g in zip(means[group], group, strict=True):
        torch.testing.assert_close(row, values[group == g].mean(dim=0))
    assert means[1].eq(0).all(), "an empty group"


def test_no_samples_give_a_loss_of_zero_that_has_a_gradient() -> None:
    features, prototypes, group = drawn(0, 4)
    prototypes.requires_grad_()
    loss, preferred = swapped_prediction(features, prototypes, group, 0, CONFIG)
    loss.backward()
    assert loss.item() == 0
    assert preferred.shape == (0,)
    assert prototypes.grad is not None  # DDP waits for every parameter's gradient


def small_mosaic() -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (2, 3, 48, 64), dtype=torch.uint8, generator=generator)
    regions = (torch.arange(64) // 16).expand(2, 48, 64).int().contiguous()
    disparity = torch.rand(2, 48, 64, generator=generator)
    frames = Frames(images[None], disparity[None], regions[None])
    mosaic = compose(frames, CopyPasteConfig(), [(0, 0, 0)])
    names = ("regions", "transforms", "image_of")
    maps = {name: getattr(mosaic, name) for name in names}
    maps["appearances"] = mosaic.appearances.long()
    n = len(mosaic.images)
    image = torch.cat(
        [torch.arange(n).repeat_interleave(k) for k in (CONFIG.pixel_points, CONFIG.region_points)]
    )
    x = torch.randint(0, 64, image.shape, generator=generator)
    y = torch.randint(0, 48, image.shape, generator=generator)
    return maps, (image, torch.stack([x, y], dim=1))


def whole_loss(features: Tensor, prototypes: Tensor, config: LossConfig) -> dict[str, Tensor]:
    maps, points = small_mosaic()
    return copy_paste_loss(features, prototypes, maps, points, config)


def test_the_whole_loss_is_the_weighted_sum_of_both_parts() -> None:
    _, prototypes, _ = drawn(1, 10)
    features = torch.randn(4, 8, 12, 16, requires_grad=True)
    both = whole_loss(features, prototypes, CONFIG)
    assert both["loss"].item() == pytest.approx(
        0.5 * both["pixel_loss"].item() + 0.5 * both["region_loss"].item(), rel=1e-5
    )
    only_pixels = replace(CONFIG, pixel_weight=2.0, region_weight=0.0)
    pixel = whole_loss(features, prototypes, only_pixels)
    assert pixel["loss"].item() == pytest.approx(2 * both["pixel_loss"].item(), rel=1e-5)
    assert pixel["loss_over_lnK"].item() == pytest.approx(
        both["pixel_loss"].item() / math.log(10), rel=1e-5
    )
    both["loss"].backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    for name in ("prototypes_used", "prototype_entropy", "points_with_positive"):
        assert 0 < both[name].item() <= 1 + 1e-6
    assert [name for name, value in both.items() if value.requires_grad] == ["loss"]


def test_a_network_that_says_nothing_has_a_loss_of_ln_k() -> None:
    prototypes = F.normalize(torch.ones(10, 8), dim=1)
    metrics = whole_loss(torch.randn(4, 8, 12, 16), prototypes, CONFIG)
    assert metrics["loss_over_lnK"].item() == pytest.approx(1.0, abs=1e-4)


def test_without_any_positive_the_metrics_stay_finite() -> None:
    maps, points = small_mosaic()
    maps["regions"] = torch.arange(maps["regions"].numel()).reshape(maps["regions"].shape)
    count = maps["regions"].numel()
    maps["image_of"] = torch.full((count, 8), -1)
    maps["transforms"] = torch.zeros(count, 8, 2, 3)
    image, xy = points
    once = torch.unique(torch.cat([image[:, None], xy], dim=1), dim=0)
    config = LossConfig(pixel_points=5, region_points=len(once) // 4 - 5)
    picked = torch.cat([once[:20], once[20:]])
    metrics = copy_paste_loss(
        torch.randn(4, 8, 12, 16), drawn(1, 10)[1], maps, (picked[:, 0], picked[:, 1:]), config
    )
    assert all(value.isfinite() for value in metrics.values())
    assert metrics["loss"].item() == 0
    assert metrics["points_with_positive"].item() == 0
