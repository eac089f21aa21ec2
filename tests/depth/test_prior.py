"""The prior holds depth where the views say nothing, and up to a factor a frame."""

from __future__ import annotations

import math

import pytest
import torch

from cpcdr.depth.prior import ambiguity, prior_loss
from cpcdr.geometry import pose_matrix

H, W = 48, 64
CAMERA = torch.tensor([[50.0, 50.0, 31.5, 23.5]])
DISPARITY = torch.full((1, H, W), 0.2)


def sideways(metres: float) -> torch.Tensor:
    """Motions [2, 1, 4, 4] to the previous and to the next frame."""
    step = torch.tensor([[[metres, 0.0, 0.0]], [[-metres, 0.0, 0.0]]])
    return pose_matrix(torch.zeros(2, 1, 3), step)


def half_textured() -> torch.Tensor:
    """[1, 3, H, W]: noise on the left, grey on the right."""
    image = torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(0))
    image[..., W // 2 :] = 0.5
    return image


def test_texture_that_moves_tells_depth_and_a_plain_surface_does_not() -> None:
    weight = ambiguity(half_textured(), DISPARITY, sideways(1.0), CAMERA)
    assert weight.shape == (1, H, W) and float(weight.min()) >= 0 and float(weight.max()) <= 1
    assert float(weight[..., 4 : W // 2 - 4].mean()) < 0.05
    assert float(weight[..., W // 2 + 4 :].min()) > 0.999


def test_nothing_is_told_without_motion_or_from_afar() -> None:
    image = half_textured()
    assert float(ambiguity(image, DISPARITY, sideways(0.0), CAMERA).min()) > 0.999
    near, far = (
        ambiguity(image, torch.full((1, H, W), d), sideways(1.0), CAMERA) for d in (0.2, 0.002)
    )
    assert float(far.mean()) > float(near.mean()) + 0.3


def test_a_factor_on_a_frame_costs_nothing_but_the_batch_keeps_its_scale() -> None:
    known = torch.rand(2, H, W, generator=torch.Generator().manual_seed(1)) + 0.1
    weight = torch.rand(2, H, W, generator=torch.Generator().manual_seed(2))
    distance, drift = prior_loss(known * torch.tensor([3.0, 1 / 3])[:, None, None], known, weight)
    assert float(distance) == pytest.approx(0, abs=1e-6)
    assert float(drift) == pytest.approx(0, abs=1e-9)
    distance, drift = prior_loss(2 * known, known, weight)
    assert float(distance) == pytest.approx(0, abs=1e-6)
    assert float(drift) == pytest.approx(math.log(2) ** 2, rel=1e-4)


def test_only_weighted_pixels_are_held() -> None:
    known = torch.full((1, H, W), 0.1)
    changed = known.clone()
    changed[..., : W // 2] *= 4
    free = torch.ones(1, H, W)
    free[..., : W // 2] = 0
    assert float(prior_loss(changed, known, free)[0]) == pytest.approx(0, abs=1e-6)
    assert float(prior_loss(changed, known, torch.ones(1, H, W))[0]) > 0.5
    # The gradient leads back to the known shape.
    moving = changed.clone().requires_grad_()
    prior_loss(moving, known, torch.ones(1, H, W))[0].backward()
    assert moving.grad is not None
    assert float(moving.grad[..., : W // 2].min()) > 0 > float(moving.grad[..., W // 2 :].max())
