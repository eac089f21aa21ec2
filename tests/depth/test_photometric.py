"""The batched loss against a per-pixel transcription in NumPy."""

import numpy as np
import pytest
import torch

from cpcdr import geometry
from cpcdr.depth.photometric import (
    Moments,
    _window_mean,
    photometric_loss,
    photometric_loss_of_tensors,
    smoothness,
    ssim_distance,
)


def ssim_numpy(x, y):
    """(1 - SSIM) / 2 of two [H, W] images, one window after the other."""
    px, py = np.pad(x, 1, mode="reflect"), np.pad(y, 1, mode="reflect")
    out = np.empty_like(x)
    for i, j in np.ndindex(x.shape):
        a, b = px[i : i + 3, j : j + 3], py[i : i + 3, j : j + 3]
        covariance = (a * b).mean() - a.mean() * b.mean()
        numerator = (2 * a.mean() * b.mean() + 1e-4) * (2 * covariance + 9e-4)
        denominator = (a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (a.var() + b.var() + 9e-4)
        out[i, j] = np.clip((1 - numerator / denominator) / 2, 0, 1)
    return out


def error_numpy(x, y):
    """0.85 SSIM + 0.15 L1 of [3, H, W] images."""
    ssim = np.mean([ssim_numpy(a, b) for a, b in zip(x, y, strict=True)], axis=0)
    return 0.85 * ssim + 0.15 * np.abs(x - y).mean(axis=0)


def bilinear_numpy(image, u, v):
    height, width = image.shape[1:]
    u, v = np.clip(u, 0, width - 1), np.clip(v, 0, height - 1)
    left, top = min(int(u), width - 2), min(int(v), height - 2)
    a, b = u - left, v - top
    above = image[:, top, left] * (1 - a) + image[:, top, left + 1] * a
    below = image[:, top + 1, left] * (1 - a) + image[:, top + 1, left + 1] * a
    return above * (1 - b) + below * b


def warp_numpy(source, disparity, pose, camera):
    fx, fy, cx, cy = camera
    view, valid = np.empty_like(source), np.empty(disparity.shape, bool)
    for v, u in np.ndindex(disparity.shape):
        z = 1 / disparity[v, u]
        x, y, w = pose[:3, :3] @ [(u - cx) / fx * z, (v - cy) / fy * z, z] + pose[:3, 3]
        p, q = fx * x / w + cx, fy * y / w + cy
        view[:, v, u] = bilinear_numpy(source, p, q)
        height, width = disparity.shape
        valid[v, u] = w > 0 and -0.5 <= p <= width - 0.5 and -0.5 <= q <= height - 0.5
    return view, valid


def problem(seed=0, b=2, s=3, height=6, width=9):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    target, sources = random(b, 3, height, width), random(2, b, 3, height, width)
    disparities = 0.2 + 0.8 * random(b, s, height, width)
    poses = geometry.pose_matrix(0.1 * random(2, b, 3) - 0.05, random(2, b, 3) - 0.5)
    camera = torch.tensor([[8.0, 7.0, 4.0, 2.5]] * b, dtype=torch.float64)
    sources[1, ..., :4] = target[..., :4]  # identity reprojection is best here
    return target, sources, disparities, poses, camera


def test_loss_agrees_with_numpy_pixel_by_pixel():
    tensors = problem()
    result = photometric_loss(*tensors)
    target, sources, disparities, poses, camera = (t.numpy() for t in tensors)
    losses = []
    for item in range(2):
        identity = np.min([error_numpy(sources[f, item], target[item]) for f in (0, 1)], axis=0)
        np.testing.assert_allclose(result.identity[item], identity, atol=1e-12)
        for scale in range(3):
            best = np.full(identity.shape, np.inf)
            for f in (0, 1):
                view, valid = warp_numpy(
                    sources[f, item], disparities[item, scale], poses[f, item], camera[item]
                )
                error = np.where(valid, error_numpy(view, target[item]), np.inf)
                best = np.minimum(best, error)
                if scale == 0 and f == 1:
                    np.testing.assert_allclose(result.synthesised[item], view, atol=1e-9)
            if scale == 0:
                np.testing.assert_array_equal(result.mask[item], best < identity)
                expected = np.where(np.isinf(best), identity, best)
                np.testing.assert_allclose(result.error[item], expected, atol=1e-9)
            losses.append(np.minimum(best, identity).mean())
    assert 0 < result.mask.double().mean() < 1
    np.testing.assert_allclose(float(result.loss), np.mean(losses))


@pytest.mark.slow
def test_gradient_agrees_with_finite_differences():
    target, sources, disparities, poses, camera = problem(b=1, s=2)
    disparities.requires_grad_()
    poses.requires_grad_()

    def loss(d, p):
        return photometric_loss(target, sources, d, p, camera).loss

    assert torch.autograd.gradcheck(loss, (disparities, poses), eps=1e-7, atol=1e-4)


@pytest.mark.parametrize("motion", [0.5, 2.0], ids=["small", "out of the image and behind it"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_fused_loss_agrees_with_tensors(motion, threads):
    target, sources, disparities, poses, camera = problem(b=3, s=4, height=24, width=40)
    poses[..., :3, 3] *= motion
    differentiable = (disparities, poses, camera * 4)

    def run(function, dtype):
        leaves = [tensor.to(dtype).requires_grad_() for tensor in differentiable]
        result = function(target.to(dtype), sources.to(dtype), *leaves)
        (3 * result.loss).backward()
        return result, [leaf.grad.double() for leaf in leaves]

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    fused, gradients = run(photometric_loss, torch.float32)
    torch.set_num_threads(before)
    exact, expected = run(photometric_loss_of_tensors, torch.float64)
    assert 0.05 < exact.mask.double().mean() < 0.95
    torch.testing.assert_close(fused.loss.double(), exact.loss, rtol=1e-5, atol=0)
    assert torch.equal(fused.mask, exact.mask)
    for name in ("error", "identity", "synthesised"):
        actual, true = getattr(fused, name).double(), getattr(exact, name)
        torch.testing.assert_close(actual, true, rtol=0, atol=2e-4, msg=name)
    for actual, true in zip(gradients, expected, strict=True):
        assert (actual - true).norm() < 2e-3 * true.norm()


def test_views_outside_the_image_gain_nothing():
    target, sources, disparities, poses, camera = problem()
    away = poses.clone()
    away[..., 0, 3] = 1e4
    result = photometric_loss(target, sources, disparities, away, camera)
    assert not result.mask.any()
    torch.testing.assert_close(result.loss, result.identity.mean())


def test_static_camera_is_masked_out():
    target, _, disparities, poses, camera = problem()
    result = photometric_loss(target, torch.stack([target] * 2), disparities, poses, camera)
    assert not result.mask.any() and float(result.loss) == 0


def test_ssim_of_equal_images_is_zero_and_bounded():
    x, y = torch.rand(2, 2, 3, 1, 8, 8)
    assert float(ssim_distance(Moments.of(x), Moments.of(x)).max()) < 1e-6
    distance = ssim_distance(Moments.of(x), Moments.of(1 - y))
    assert float(distance.min()) >= 0 and float(distance.max()) <= 1


def test_window_means_are_not_changed_once_made():
    """PyTorch 2.11 compiles such results to ones with a gradient of 0 (pytorch/pytorch#180642)."""
    assert _window_mean(torch.rand(2, 3, 8, 8))._version == 0


def test_smoothness_ignores_scale_and_edges():
    image = torch.zeros(1, 3, 4, 6)
    disparity = torch.full((1, 1, 4, 6), 0.2)
    assert float(smoothness(disparity, image)) == 0
    disparity[..., 3:] = 0.4
    flat = float(smoothness(disparity, image))
    torch.testing.assert_close(flat, (0.2 / 0.3) / 5)  # one step of five columns' differences
    assert abs(float(smoothness(disparity * 2, image)) - flat) < 1e-6
    image[..., 3:] = 1
    torch.testing.assert_close(float(smoothness(disparity, image)), flat * np.exp(-1))
