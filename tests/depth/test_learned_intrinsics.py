"""Gradients of the focal length: their value, and which motions pass them."""

import math

import pytest
import torch

from cpcdr.depth.learned_intrinsics import ASSUMED, LearnedIntrinsics
from cpcdr.geometry import pose_matrix, reproject

SIZE = (64, 128)


def motion(yaw):
    """One triplet's [2, 1, 4, 4]: pitch and yaw, and a translation along all axes."""
    rotation, translation = torch.tensor([0.01, yaw, 0.0]), torch.tensor([0.2, 0.1, -0.5])
    pose = pose_matrix(rotation, translation)
    return torch.stack([pose.inverse(), pose])[:, None]


def change(learned, poses, camera):
    """Derivative of the position of a central pixel, of disparity 0.1, by log f."""
    pixels, _ = reproject(torch.full((1, *SIZE), 0.1), poses, camera)
    centre = pixels[1, 0, SIZE[0] // 2, SIZE[1] // 2].sum()
    return float(torch.autograd.grad(centre, learned.log_focal, retain_graph=True)[0])


def cameras(learned, count=1):
    return learned(torch.rand(count, 3, *SIZE), torch.zeros(count, dtype=torch.bool))


def test_gating_keeps_values_and_compensates_the_focal_length_at_the_centre():
    learned, poses = LearnedIntrinsics(), motion(0.05)
    camera = cameras(learned)
    gated = learned.gate_gradients(poses, camera)
    torch.testing.assert_close(gated[0], poses)
    torch.testing.assert_close(gated[1], camera)
    # With constant motions, small rotation errors pull the focal length.
    assert abs(change(learned, poses, camera)) > 3
    assert abs(change(learned, *gated)) < 0.1


def test_the_focal_length_follows_from_rotational_flow_at_the_border():
    learned, focal, angle, x = LearnedIntrinsics(), ASSUMED * SIZE[1], 0.05, (SIZE[1] - 1) / 2
    poses = pose_matrix(torch.tensor([[[0.0, angle, 0.0]]]), torch.zeros(1, 1, 3))
    gated = learned.gate_gradients(poses, cameras(learned))
    pixels, _ = reproject(torch.full((1, *SIZE), 0.1), *gated)
    # The mean of two rows has the principal point's height.
    border = pixels[0, 0, SIZE[0] // 2 - 1 : SIZE[0] // 2 + 1, -1, 0].mean()
    gradient = float(torch.autograd.grad(border, learned.log_focal)[0])

    def position(f):
        """Of a pixel at x after a rotation that displaces the centre equally for every f."""
        return f * math.tan(math.atan(x / f) + angle * focal / f)

    expected = (position(1.001 * focal) - position(0.999 * focal)) / 0.002
    assert expected < -3 and gradient == pytest.approx(expected, rel=0.02)


def test_frames_without_rotation_pass_no_gradient():
    learned = LearnedIntrinsics()
    poses = torch.cat([motion(0.002), motion(0.05)], dim=1)
    gated = learned.gate_gradients(poses, cameras(learned, 2))
    assert learned.rotating(poses).tolist() == [False, True]
    pixels, _ = reproject(torch.full((2, *SIZE), 0.1), *gated)
    for item, passes in ((0, False), (1, True)):
        grads = torch.autograd.grad(
            pixels[:, item].square().mean(),
            [learned.log_focal, learned.principal_point],
            retain_graph=True,
        )
        assert (float(grads[0]) != 0) == passes
        assert float(grads[1].abs().min()) > 0


def test_a_flipped_image_mirrors_its_principal_point():
    learned = LearnedIntrinsics()
    with torch.no_grad():
        learned.principal_point.copy_(torch.tensor([0.1, 0.2]))
    camera = learned(torch.rand(2, 3, *SIZE), torch.tensor([False, True]))
    torch.testing.assert_close(camera[:, 2], torch.tensor([63.5 + 12.8, 63.5 - 12.8]))
    torch.testing.assert_close(camera[:, 3], torch.tensor([31.5 + 12.8] * 2))
    assert learned.off_centre().item() == pytest.approx(0.05)
