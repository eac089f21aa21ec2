"""Geometry against closed forms: identity, a translated plane, exact poses, algebra."""

import math

import pytest
import torch
from reference_geometry import back_project, depth_from_disparity, synthesize_view, transform

from cpcdr import geometry

INTRINSICS = torch.tensor([[90.0, 80.0, 30.0, 17.0]], dtype=torch.float64)


def random_poses(count, seed=0, angle=0.3):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return geometry.pose_matrix(angle * vectors[:, :3], vectors[:, 3:])


def test_pose_matrix_is_a_rotation_and_rodrigues():
    poses = random_poses(20, angle=2.0)
    rotation = poses[:, :3, :3]
    eye = torch.eye(3, dtype=torch.float64).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, eye)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(20, dtype=torch.float64))
    quarter = geometry.pose_matrix(torch.tensor([0.0, 0.0, math.pi / 2]), torch.zeros(3))
    expected = torch.tensor([0.0, 1.0, 0.0])
    torch.testing.assert_close(quarter[:3, :3] @ torch.tensor([1.0, 0.0, 0.0]), expected)


def test_pose_matrix_has_a_gradient_at_the_identity():
    vector = torch.zeros(3, requires_grad=True)
    pose = geometry.pose_matrix(vector, torch.zeros(3))
    torch.testing.assert_close(pose.detach(), torch.eye(4))
    pose[2, 1].backward()
    torch.testing.assert_close(vector.grad, torch.tensor([1.0, 0.0, 0.0]))


def test_invert_pose():
    poses = random_poses(5)
    eye = torch.eye(4, dtype=torch.float64).expand(5, 4, 4)
    torch.testing.assert_close(geometry.invert_pose(poses) @ poses, eye)


def test_projection_undoes_back_projection():
    depth = torch.rand(1, 20, 40, dtype=torch.float64) + 1
    pixels, in_front = geometry.project(back_project(depth, INTRINSICS), INTRINSICS)
    v, u = torch.meshgrid(torch.arange(20.0), torch.arange(40.0), indexing="ij")
    torch.testing.assert_close(pixels[0], torch.stack([u, v], -1).double())
    assert in_front.all()


def test_reproject_agrees_with_the_long_way_round():
    disparity = torch.rand(3, 20, 40, dtype=torch.float64) * 0.9 + 0.1
    poses = random_poses(3, angle=0.05)
    intrinsics = INTRINSICS.expand(3, 4)
    points = back_project(depth_from_disparity(disparity), intrinsics)
    expected, in_front = geometry.project(transform(poses, points), intrinsics)
    pixels, valid = geometry.reproject(disparity, poses, intrinsics)
    torch.testing.assert_close(pixels[in_front], expected[in_front])
    inside = (expected >= -0.5).all(-1) & (expected[..., 0] <= 39.5) & (expected[..., 1] <= 19.5)
    assert torch.equal(valid, inside & in_front)


def test_reproject_broadcasts_scales_and_sources():
    disparity = torch.rand(2, 4, 8, 10) * 0.9 + 0.1  # B, S, H, W
    poses = random_poses(6).float().reshape(3, 2, 4, 4)  # F, B
    intrinsics = torch.tensor([[9.0, 8, 5, 4], [7.0, 6, 4, 3]])
    pixels, valid = geometry.reproject(disparity, poses[:, :, None], intrinsics[:, None])
    assert pixels.shape == (3, 2, 4, 8, 10, 2) and valid.shape == (3, 2, 4, 8, 10)
    one, _ = geometry.reproject(disparity[1, 2], poses[2, 1], intrinsics[1])
    torch.testing.assert_close(pixels[2, 1, 2], one)


@pytest.mark.parametrize("size", [(7, 9), (64, 128), (192, 640)])
def test_identity_reproduces_the_image(size):
    image = torch.rand(2, 3, *size)
    disparity = torch.rand(2, *size) * 0.9 + 0.1
    pose = torch.eye(4).expand(2, 4, 4)
    camera = torch.tensor([[size[1] * 0.7, size[1] * 0.7, size[1] / 2, size[0] / 3]] * 2)
    view, valid = synthesize_view(image, disparity, pose, camera)
    torch.testing.assert_close(view, image, atol=5e-4, rtol=0)
    assert valid.all()


def test_translated_plane_shifts_by_the_analytic_amount():
    # A camera that moves right by 0.5 sees a plane at depth 10 shifted left by f · 0.5 / 10 = 4.
    image = torch.rand(1, 1, 16, 32, dtype=torch.float64)
    camera = torch.tensor([[80.0, 80.0, 15.5, 7.5]], dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64)[None].clone()
    pose[0, 0, 3] = -0.5
    disparity = torch.full((1, 16, 32), 0.1, dtype=torch.float64)
    view, valid = synthesize_view(image, disparity, pose, camera)
    torch.testing.assert_close(view[..., 4:], image[..., :-4])
    assert valid[..., 4:].all() and not valid[..., :4].any()
    torch.testing.assert_close(view[..., :4], image[..., :1].expand(1, 1, 16, 4))  # border


def test_points_behind_the_camera_are_invalid_and_finite():
    pose = torch.eye(4)[None].clone()
    pose[0, 2, 3] = -100
    pixels, valid = geometry.reproject(torch.ones(1, 4, 4), pose, torch.tensor([[4.0, 4, 2, 2]]))
    assert not valid.any() and pixels.isfinite().all()


def test_depth_from_disparity():
    depth = depth_from_disparity(torch.tensor([0.0, 0.001, 0.005, 0.5, 1.0]))
    torch.testing.assert_close(depth, torch.tensor([200.0, 200.0, 200.0, 2.0, 1.0]))
