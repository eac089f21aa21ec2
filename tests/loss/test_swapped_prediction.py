"""The loss against a direct float64 transcription, its gradient, and its health metrics."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reference_loss
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cpcdr.copy_paste.config import CopyPasteConfig
from cpcdr.copy_paste.mosaic import Frames, compose
from cpcdr.loss.config import LossConfig
from cpcdr.loss.sinkhorn import sinkhorn
from cpcdr.loss.swapped_prediction import Groups, copy_paste_loss, swapped_prediction

CONFIG = LossConfig(pixel_points=60, region_points=90)


def drawn(samples: int, prototypes: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features [S, 8], prototypes [K, 8], both normalised, and groups with gaps."""
    generator = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(samples, 8, generator=generator), dim=1)
    directions = F.normalize(torch.randn(prototypes, 8, generator=generator), dim=1)
    return features, directions, 3 * torch.randint(0, 5, (samples,), generator=generator)


def one_part(group: Tensor, count: int, weight: Tensor | None = None) -> Groups:
    weight = torch.ones(len(group)) if weight is None else weight
    return Groups(group, weight, count, (len(group),), (1.0,))


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
    loss, _, preferred = swapped_prediction(features, prototypes, one_part(group, 15), config)
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


def test_parts_weights_and_gradients_equal_autograd() -> None:
    features, prototypes, group = (t.double() for t in drawn(50, 9))
    group, parts, shares = group.long(), (20, 30), (0.3, 0.9)
    weight = (torch.arange(50) % 4 > 0).float()
    group[20:] += 15
    groups = Groups(group, weight, 30, parts, shares)

    def gradients(function: Any) -> tuple[Tensor, ...]:
        inputs = (features.clone().requires_grad_(), prototypes.clone().requires_grad_())
        loss = function(*inputs)
        return (loss.detach(), *torch.autograd.grad(3 * loss, inputs))

    def plainly(f: Tensor, p: Tensor) -> Tensor:
        loss = f.new_zeros(())
        for part, share in zip((slice(0, 20), slice(20, 50)), shares, strict=True):
            kept = weight[part] > 0
            own = reference_loss.part_loss(f[part][kept], p, group[part][kept], CONFIG)
            loss = loss + share * own[0]
        return loss

    ours = gradients(lambda f, p: swapped_prediction(f, p, groups, CONFIG)[0])
    for one, other in zip(ours, gradients(plainly), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_no_matrix_of_samples_by_prototypes_is_kept() -> None:
    features, prototypes, group = drawn(400, 50)
    features.requires_grad_()
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        swapped_prediction(features, prototypes, one_part(group, 15), CONFIG)[0].backward()
    assert sizes
    assert max(sizes) <= features.numel() < 400 * 50


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, epsilon=0.005)])
def test_samples_of_weight_zero_change_nothing(config: LossConfig) -> None:
    features, prototypes, group = drawn(40, 12)
    more, _, _ = drawn(65, 12, seed=1)
    more[40:] = prototypes[3]  # the best samples of a prototype, if they counted
    padded = torch.cat([features, more[40:]])
    weight = torch.cat([torch.ones(40), torch.zeros(25)])
    groups = one_part(torch.cat([group, group[:25]]), 15, weight)
    loss, _, preferred = swapped_prediction(padded, prototypes, groups, config)
    alone, _, mine = swapped_prediction(features, prototypes, one_part(group, 15), config)
    torch.testing.assert_close(loss, alone)
    assert torch.equal(preferred[:40], mine)


@pytest.mark.parametrize("samples", [0, 3])
def test_nothing_that_counts_gives_a_loss_of_zero_that_has_a_gradient(samples: int) -> None:
    features, prototypes, group = drawn(samples, 4)
    prototypes.requires_grad_()
    groups = one_part(group, 15, torch.zeros(samples))
    loss, _, preferred = swapped_prediction(features, prototypes, groups, CONFIG)
    loss.backward()
    assert loss.item() == 0
    assert preferred.shape == (samples,)
    assert prototypes.grad is not None  # DDP waits for every parameter's gradient
    assert prototypes.grad.eq(0).all()


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


@pytest.mark.parametrize("epsilon", [0.05, 0.015])
def test_the_whole_loss_and_its_gradient_equal_the_reference(epsilon: float) -> None:
    _, prototypes, _ = drawn(1, 10)
    features = torch.randn(4, 8, 12, 16, generator=torch.Generator().manual_seed(2))
    maps, points = small_mosaic()
    config = replace(CONFIG, epsilon=epsilon)
    results = []
    for dtype in (torch.float32, torch.float64):
        inputs = tuple(x.detach().to(dtype).requires_grad_() for x in (features, prototypes))
        if dtype == torch.float32:
            loss = copy_paste_loss(*inputs, maps, points, config)["loss"]
        else:
            loss = reference_loss.whole_loss(*inputs, maps, points, config)
        results.append((loss.detach(), *torch.autograd.grad(loss, inputs)))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), reference, rtol=1e-3, atol=1e-6)


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
