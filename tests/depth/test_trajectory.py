"""Ways of a camera: exact motions give no error, scale does not matter, curves beat straight."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cpcdr.depth.trajectory import (
    MONODEPTH2,
    positions,
    snippet_errors,
    trajectory_error,
    true_positions,
)


def curve(frames: int = 12) -> np.ndarray:
    """Camera-to-world poses of a drive through a bend."""
    poses = [np.eye(4)]
    for i in range(frames - 1):
        step = np.eye(4)
        step[:3, :3] = cv2.Rodrigues(np.array([0.0, 0.05 * i, 0.0]))[0]
        step[:3, 3] = (0.1, 0.0, 1.0 + 0.1 * i)
        poses.append(poses[-1] @ step)
    return np.stack(poses)


def motions_of(poses: np.ndarray, scale: float = 1.0) -> np.ndarray:
    motions = np.linalg.inv(poses[1:]) @ poses[:-1]
    motions[:, :3, 3] *= scale
    return motions


def test_exact_motions_give_the_way() -> None:
    poses = curve()
    np.testing.assert_allclose(positions(motions_of(poses)), true_positions(poses), atol=1e-9)
    shifted = np.linalg.inv(poses[3]) @ poses
    np.testing.assert_allclose(true_positions(shifted), true_positions(poses), atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 0.03])
def test_snippets_of_the_truth_have_no_error_and_straight_has(scale: float) -> None:
    poses = curve()
    errors, straight = snippet_errors(motions_of(poses, scale), poses)
    assert errors.shape == straight.shape == (8,)
    assert errors.max() < 1e-6
    assert straight[-1] > straight[0] > 0.01
    assert len(snippet_errors(motions_of(poses[:4]), poses[:4])[0]) == 0


def test_error_is_a_distance_in_metres() -> None:
    truth = np.array([[0.0, 0, 0], [0, 0, 1], [0, 0, 2]])
    wrong = np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 0]])
    assert trajectory_error(wrong, truth) == pytest.approx(np.sqrt(5 / 3))


def test_monodepth2s_convention_divides_the_norm_by_the_number_of_frames() -> None:
    poses, rng = curve(), np.random.default_rng(0)
    noisy = motions_of(poses)
    noisy[:, :3, 3] += 0.1 * rng.standard_normal((len(noisy), 3))
    errors, _ = snippet_errors(noisy, poses)
    for start, error in enumerate(errors):
        truth = true_positions(poses[start : start + 5])
        way = positions(noisy[start : start + 4])
        scale = np.sum(truth * way) / np.sum(way**2)
        published = np.sqrt(np.sum((way * scale - truth) ** 2)) / truth.shape[0]
        assert error * MONODEPTH2 == pytest.approx(published)
