"""Trajectories from motions between frames, and their error against true poses."""

import numpy as np
from numpy.typing import NDArray

SNIPPET = 5
"""Frames over which the error is measured (Zhou et al., CVPR 2017)."""

MONODEPTH2 = SNIPPET**-0.5
"""Factor from our snippet error to published ones: Monodepth2's evaluation (Godard et al.,
ICCV 2019) divides the root of the summed squares by the number of frames: 1/sqrt(5) of the RMS."""


def positions(motions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Camera positions in the first camera's coordinates.

    Args:
        motions: [N - 1, 4, 4], each maps points from a camera's coordinates to the next one's.

    Returns:
        [N, 3], starting at the origin.
    """
    pose, centres = np.eye(4), [np.zeros(3)]
    for motion in motions:
        pose = pose @ np.linalg.inv(motion)
        centres.append(pose[:3, 3])
    return np.stack(centres)


def true_positions(poses: NDArray[np.floating]) -> NDArray[np.float64]:
    """Camera positions [N, 3] from camera-to-world poses [N, 4, 4], as `positions` returns."""
    return (np.linalg.inv(poses[0]) @ poses)[:, :3, 3]


def trajectory_error(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """RMS distance in metres of positions [N, 3] from the origin on, after fitting the scale."""
    scale = float((predicted * truth).sum() / max(float((predicted**2).sum()), 1e-12))
    return float(np.sqrt(((scale * predicted - truth) ** 2).sum(axis=1).mean()))


def snippet_errors(
    motions: NDArray[np.floating], poses: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors over every snippet of five frames, of the prediction and of driving straight ahead.

    The baseline moves forward at constant speed, with its scale fitted like the prediction's.

    Args:
        motions: predicted [N - 1, 4, 4].
        poses: true camera-to-world [N, 4, 4].

    Returns:
        two arrays [N - 4], empty for fewer than five frames.
    """
    straight = np.zeros((SNIPPET, 3))
    straight[:, 2] = np.arange(SNIPPET)
    errors, baseline_errors = [], []
    for start in range(len(poses) - SNIPPET + 1):
        truth = true_positions(poses[start : start + SNIPPET])
        path = positions(motions[start : start + SNIPPET - 1])
        errors.append(trajectory_error(path, truth))
        baseline_errors.append(trajectory_error(straight, truth))
    return np.array(errors), np.array(baseline_errors)
