"""Direct alignment against exact motions, and on images without structure."""

import numpy as np
import pytest
import torch
from plane_world import PlaneWorld
from reference_geometry import transform

from cpcdr.depth import alignment_cpu
from cpcdr.depth.alignment import (
    VARIANCES,
    _grey,
    _jacobian,
    align,
    motion_gap,
    normal_equations,
    pyramid_factors,
)
from cpcdr.geometry import pixel_rays, pose_matrix, project, sample_pixels

WORLD = PlaneWorld(length=6, height=96, width=192)


def street(numbers=(1, 2, 3)):
    """Targets, sources (previous, next), disparities, exact poses and intrinsics."""
    frames = [WORLD.read(ref) for ref in WORLD.refs()]
    images = [torch.from_numpy(f.image).permute(2, 0, 1).float() / 255 for f in frames]
    poses = [f.pose for f in frames]
    motions = [
        [torch.from_numpy(np.linalg.inv(poses[i + step]) @ poses[i]).float() for i in numbers]
        for step in (-1, 1)
    ]
    return {
        "target": torch.stack([images[i] for i in numbers]),
        "sources": torch.stack([torch.stack([images[i + s] for i in numbers]) for s in (-1, 1)]),
        "disparity": torch.stack([torch.from_numpy(frames[i].disparity) for i in numbers]).float(),
        "poses": torch.stack([torch.stack(row) for row in motions]),
        "intrinsics": torch.from_numpy(np.stack([frames[i].intrinsics for i in numbers])),
    }


def perturbed(poses, seed, angle=0.008, length=0.08):
    generator = torch.Generator().manual_seed(seed)
    rotations = angle * torch.randn(*poses.shape[:2], 3, generator=generator)
    translations = length * torch.randn(*poses.shape[:2], 3, generator=generator)
    return pose_matrix(rotations, translations) @ poses


@pytest.mark.parametrize("seed", range(3))
def test_recovers_the_true_motion_given_true_depth(seed):
    scene = street()
    truth = scene.pop("poses")
    aligned = align(**scene, poses=perturbed(truth, seed))
    # A milliradian is a seventh of a pixel here.
    assert float((aligned - truth)[..., :3, :3].abs().max()) < 1e-3
    assert float((aligned - truth)[..., :3, 3].abs().max()) < 0.02
    assert motion_gap(aligned, truth) < 0.1 * motion_gap(perturbed(truth, seed), truth)


def test_motion_has_the_scale_of_depth():
    scene = street()
    scene["disparity"] /= 2.5
    start = scene["poses"].clone()
    start[..., :3, 3] *= 2
    aligned = align(**{**scene, "poses": start})
    expected = 2.5 * scene["poses"][..., :3, 3]
    assert float((aligned[..., :3, 3] - expected).abs().max()) < 0.05


def test_a_brightness_change_does_not_move_the_camera():
    scene = street()
    truth = scene.pop("poses")
    scene["sources"] = scene["sources"] * 0.95 + 0.05
    aligned = align(**scene, poses=perturbed(truth, 0))
    assert float((aligned - truth).abs().max()) < 0.03


def test_what_stands_still_in_the_picture_does_not_hold_the_camera():
    scene = street()
    truth = scene.pop("poses")
    start = perturbed(truth, 0)
    # The lower half is the camera's own bonnet, with strong reflections of the world.
    bonnet = scene["target"][:, :, 48:].clone()
    scene["sources"][:, :, :, 48:] = bonnet
    still = torch.zeros(3, 96, 192, dtype=torch.bool)
    still[:, 48:] = True
    told = motion_gap(align(**scene, poses=start, still=still), truth)
    assert told < 0.5 * motion_gap(align(**scene, poses=start), truth)
    assert told < 0.3 * motion_gap(start, truth)


def test_poses_stay_without_structure_or_overlap():
    scene = street()
    grey = {**scene, "target": torch.full_like(scene["target"], 0.5)}
    grey["sources"] = torch.full_like(scene["sources"], 0.5)
    assert torch.equal(align(**grey), scene["poses"])
    away = scene["poses"].clone()
    away[..., :3, 3] = torch.tensor([500.0, 0.0, 0.0])
    assert torch.equal(align(**{**scene, "poses": away}), away)
    assert torch.equal(align(**scene, steps=0), scene["poses"])


def test_jacobian_is_that_of_the_warped_image():
    scene = street((2,))
    smooth = torch.nn.functional.avg_pool2d(scene["target"].mean(1, keepdim=True), 9, 1, 4).double()
    disparity, camera = scene["disparity"].double(), scene["intrinsics"].double()
    jacobian = _jacobian(smooth, disparity, camera)
    rays = pixel_rays(camera, *disparity.shape[1:]) / disparity[:, None]
    for number in range(6):
        motion = torch.zeros(6, dtype=torch.float64)
        motion[number] = 2e-3
        views = []
        for sign in (-1, 1):
            pose = pose_matrix(sign * motion[:3], sign * motion[3:])[None]
            pixels, _ = project(transform(pose, rays), camera)
            views.append(sample_pixels(smooth, pixels)[:, 0])
        slope = ((views[1] - views[0]) / 4e-3)[0, 8:-8, 8:-8]
        derivative = jacobian[0, number, 8:-8, 8:-8]
        correlation = torch.corrcoef(torch.stack([slope.flatten(), derivative.flatten()]))[0, 1]
        assert correlation > 0.95, number
        assert float(derivative.norm() / slope.norm()) == pytest.approx(1, abs=0.1), number


@pytest.mark.parametrize("seed", range(4))
def test_fused_equations_are_those_of_tensors(seed):
    scene = street()
    target, sources = _grey(scene["target"]), _grey(scene["sources"])[:, :, 0]
    # From a good start to one with almost no overlap.
    poses = perturbed(scene["poses"], seed, angle=0.008 * 4**seed, length=0.08 * 4**seed)
    disparity, camera = scene["disparity"], scene["intrinsics"]
    jacobian = _jacobian(target, disparity, camera)
    shifts = scene["poses"][..., :3, 3].contiguous()
    arguments = (target[:, 0], sources, disparity, jacobian, shifts, poses, camera)
    plain = normal_equations(*arguments)
    fused = alignment_cpu.normal_equations(*arguments, VARIANCES)
    for expected, actual in zip(plain, fused, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4 * float(plain[0].max()))
    assert torch.equal(fused[2].isinf(), plain.cost.isinf())
    torch.testing.assert_close(fused[2], plain.cost, rtol=1e-4, atol=1e-6)


def test_double_precision_uses_tensors_and_agrees():
    scene = street()
    start = perturbed(scene.pop("poses"), 1)
    double = {name: value.double() for name, value in scene.items()}
    single = align(**scene, poses=start)
    torch.testing.assert_close(
        single, align(**double, poses=start.double()).float(), rtol=0, atol=2e-3
    )


def test_pyramid_factors():
    assert pyramid_factors(96) == [4, 2, 1] and pyramid_factors(192) == [8, 4, 2, 1]
    assert (
        pyramid_factors(32) == [1] and pyramid_factors(47) == [1] and pyramid_factors(48) == [2, 1]
    )


def test_motion_gap():
    pose = pose_matrix(torch.zeros(4, 3), torch.tensor([[0.0, 0, 2]]).expand(4, 3))
    rotated = pose_matrix(torch.tensor([[0.0, 0.05, 0]]).expand(4, 3), pose[:, :3, 3])
    longer = pose_matrix(torch.zeros(4, 3), 1.25 * pose[:, :3, 3])
    assert motion_gap(pose, pose) < 2e-3
    assert float(motion_gap(rotated, pose)) == pytest.approx(0.05 * 2**0.5 * 10, rel=0.01)
    assert float(motion_gap(longer, pose)) == pytest.approx(0.25, rel=0.01)
    same = pose.clone().requires_grad_()
    motion_gap(same, pose).backward()
    assert same.grad.isfinite().all()
