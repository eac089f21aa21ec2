"""What motions say of a focal length, and which of them are asked."""

import math

import pytest
import torch

from cpcdr.depth.learned_intrinsics import ASSUMED, LearnedIntrinsics
from cpcdr.geometry import pose_matrix, reproject

SIZE = (64, 128)


def motion(yaw):
    """One triplet's [2, 1, 4, 4]: pitched and turned, a step up, across and ahead."""
    turn, step = torch.tensor([0.01, yaw, 0.0]), torch.tensor([0.2, 0.1, -0.5])
    pose = pose_matrix(turn, step)
    return torch.stack([pose.inverse(), pose])[:, None]


def change(learned, poses, camera):
    """How a pixel at the centre, of disparity 0.1, moves with the logarithm of f."""
    pixels, _ = reproject(torch.full((1, *SIZE), 0.1), poses, camera)
    centre = pixels[1, 0, SIZE[0] // 2, SIZE[1] // 2].sum()
    return float(torch.autograd.grad(centre, learned.log_focal, retain_graph=True)[0])


def cameras(learned, count=1):
    return learned(torch.rand(count, 3, *SIZE), torch.zeros(count, dtype=torch.bool))


def test_motions_stay_as_they_are_and_follow_the_focal_length_at_the_centre():
    learned, poses = LearnedIntrinsics(), motion(0.05)
    camera = cameras(learned)
    heard = learned.hear(poses, camera)
    torch.testing.assert_close(heard[0], poses)
    torch.testing.assert_close(heard[1], camera)
    # Taken as constants, motions pull the focal length wherever a turn is a little wrong.
    assert abs(change(learned, poses, camera)) > 3
    assert abs(change(learned, *heard)) < 0.1


def test_the_border_tells_of_the_focal_length_by_how_much_more_it_turns():
    learned, focal, angle, x = LearnedIntrinsics(), ASSUMED * SIZE[1], 0.05, (SIZE[1] - 1) / 2
    poses = pose_matrix(torch.tensor([[[0.0, angle, 0.0]]]), torch.zeros(1, 1, 3))
    heard = learned.hear(poses, cameras(learned))
    pixels, _ = reproject(torch.full((1, *SIZE), 0.1), *heard)
    # The mean of two rows has the principal point's height.
    border = pixels[0, 0, SIZE[0] // 2 - 1 : SIZE[0] // 2 + 1, -1, 0].mean()
    found = float(torch.autograd.grad(border, learned.log_focal)[0])

    def place(f):
        """Of a pixel at x after a turn that moves the centre by as much whatever f is."""
        return f * math.tan(math.atan(x / f) + angle * focal / f)

    expected = (place(1.001 * focal) - place(0.999 * focal)) / 0.002
    assert expected < -3 and found == pytest.approx(expected, rel=0.02)


def test_frames_that_do_not_turn_are_not_asked():
    learned = LearnedIntrinsics()
    poses = torch.cat([motion(0.002), motion(0.05)], dim=1)
    heard = learned.hear(poses, cameras(learned, 2))
    assert learned.turns(poses).tolist() == [False, True]
    pixels, _ = reproject(torch.full((2, *SIZE), 0.1), *heard)
    for item, asked in ((0, False), (1, True)):
        grads = torch.autograd.grad(
            pixels[:, item].square().mean(),
            [learned.log_focal, learned.principal_point],
            retain_graph=True,
        )
        assert (float(grads[0]) != 0) == asked
        assert float(grads[1].abs().min()) > 0


def test_a_flipped_image_has_its_principal_point_on_the_other_side():
    learned = LearnedIntrinsics()
    with torch.no_grad():
        learned.principal_point.copy_(torch.tensor([0.1, 0.2]))
    camera = learned(torch.rand(2, 3, *SIZE), torch.tensor([False, True]))
    torch.testing.assert_close(camera[:, 2], torch.tensor([63.5 + 12.8, 63.5 - 12.8]))
    torch.testing.assert_close(camera[:, 3], torch.tensor([31.5 + 12.8] * 2))
    assert learned.off_centre().item() == pytest.approx(0.05)
