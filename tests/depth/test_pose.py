"""The pose network: correlation against plain loops, and learning a simple motion."""

import pytest
import torch
from torch.nn import functional

from cpcdr.depth.pose import PoseNet, correlation, displacement


def plain_correlation(first, second, radius):
    b, _, height, width = first.shape
    k = 2 * radius + 1
    result = torch.zeros(b, height, width, k, k)
    for y in range(height):
        for x in range(width):
            for i in range(k):
                for j in range(k):
                    v, u = y + i - radius, x + j - radius
                    if 0 <= v < height and 0 <= u < width:
                        result[:, y, x, i, j] = (first[:, :, y, x] * second[:, :, v, u]).sum(1)
    return result


@pytest.mark.parametrize(("radius", "step"), [(1, 1), (3, 1), (2, 2)])
def test_correlation_and_gradient_agree_with_plain_loops(radius, step):
    torch.manual_seed(0)
    a, b = torch.randn(2, 2, 5, 6, 8)
    a.requires_grad_(), b.requires_grad_()
    result = correlation(a, b, radius, step)
    expected = plain_correlation(a, b, radius)[:, ::step, ::step]
    weight = torch.randn_like(result)
    torch.testing.assert_close(result, expected)
    gradients = torch.autograd.grad((result * weight).sum(), (a, b))
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weight).sum(), (a, b)))


def test_displacement_of_a_shifted_map():
    torch.manual_seed(0)
    features = functional.normalize(torch.randn(1, 16, 12, 14), dim=1)
    shifted = features.roll((2, -3), dims=(2, 3))
    moved = displacement(correlation(features, shifted, 4), 100.0)
    inner = moved[:, 4:-4, 4:-4]
    torch.testing.assert_close(inner, torch.tensor([-3.0, 2.0]).expand_as(inner), atol=1e-2, rtol=0)


def test_starts_with_a_small_forward_motion():
    torch.manual_seed(0)
    with torch.no_grad():
        rotation, translation = PoseNet(16, advance=1.2)(torch.rand(4, 3, 3, 64, 96))
    assert rotation.shape == translation.shape == (4, 2, 3)
    assert float(rotation.abs().max()) < 0.1
    assert (translation[..., 2] < -0.3).all() and float(translation.abs().max()) < 3


def test_learns_yaw_from_shifted_images():
    """Shifts within 12 pixels in 120 steps; the direction is right before any step."""
    torch.manual_seed(0)
    net = PoseNet(8)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)

    def pairs(n):
        wide = functional.interpolate(
            torch.rand(n, 3, 24, 48, generator=generator), size=(64, 128), mode="bilinear"
        )
        shift = torch.randint(-12, 13, (n,), generator=generator)
        first = wide[..., 16:112]
        second = torch.stack(
            [w[..., 16 + s : 112 + s] for w, s in zip(wide, shift.tolist(), strict=True)]
        )
        # The image moves left when the camera rotates right.
        return torch.stack([first, second], dim=1), -0.01 * shift.float()

    frames, angle = pairs(32)
    with torch.no_grad():
        untrained = net(frames)[0][:, 0, 1]
    assert float(torch.corrcoef(torch.stack([untrained, angle]))[0, 1]) > 0.8
    for _ in range(120):
        frames, angle = pairs(8)
        loss = (net(frames)[0][:, 0, 1] - angle).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    frames, angle = pairs(32)
    with torch.no_grad():
        yaw = net.eval()(frames)[0][:, 0, 1]
    assert float((yaw - angle).abs().mean()) < 0.4 * float(angle.abs().mean())
